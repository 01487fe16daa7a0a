"""Crystals, molecular dynamics, and the reference: what a study of an alloy needs besides a potential."""

import numpy as np
import potential
from ase import units
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

LATTICE = {"Cu": 3.61, "Au": 4.08}  # angstrom
COLD, HOT = 300.0, 2000.0  # kelvin
TOO_CLOSE = 1.7  # angstrom: below, a potential has failed, whatever its committee says


def crystal(gold, strain, rattle, rng):
    """Return 32 atoms of a random alloy.

    Args:
        gold: Fraction of gold atoms.
        strain: Of the lattice constant, relative to Vegard's law.
        rattle: Standard deviation of the displacements, in angstrom.
        rng: NumPy's random generator.
    """
    constant = (1 - gold) * LATTICE["Cu"] + gold * LATTICE["Au"]
    atoms = bulk("Cu", cubic=True, a=constant * (1 + strain)) * (2, 2, 2)
    atoms.symbols[rng.permutation(len(atoms))[: round(gold * len(atoms))]] = "Au"
    atoms.positions += rng.normal(scale=rattle, size=(len(atoms), 3))
    return atoms


def random_alloy(rng):
    """Return a crystal of random composition and density: where each trajectory starts."""
    return crystal(gold=rng.uniform(0, 1), strain=rng.uniform(-0.03, 0.03), rattle=0.02, rng=rng)


def label(atoms):
    """Return the structure with its reference energy and forces; here effective-medium theory, elsewhere your DFT."""
    labelled = atoms.copy()
    labelled.calc = EMT()
    energy, forces = labelled.get_potential_energy(), labelled.get_forces()
    labelled.calc = SinglePointCalculator(labelled, energy=energy, forces=forces)
    return labelled


class Committee(Calculator):
    """The mean of several models, for ASE; being linear, it is one model with the mean coefficients."""

    implemented_properties = ("energy", "forces")

    def __init__(self, models):
        super().__init__()
        self.models = models

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        energies, forces = potential.predict(self.models.mean(axis=0), self.atoms)
        self.results = {"energy": energies[0], "forces": forces[0]}


def heat(atoms, calculator, rng, steps, every):
    """Heat a structure from ``COLD`` to ``HOT`` by Langevin dynamics; yield (temperature, structure) now and then.

    Args:
        atoms: The structure; it is moved.
        calculator: Gives the forces.
        rng: NumPy's random generator.
        steps: Number of steps of 3 fs.
        every: How many of them lie between two frames.
    """
    atoms.calc = calculator
    MaxwellBoltzmannDistribution(atoms, temperature_K=COLD, rng=rng)
    dynamics = Langevin(atoms, 3 * units.fs, temperature_K=COLD, friction=0.02 / units.fs, rng=rng, fixcm=False)
    for step in range(every, steps + 1, every):
        temperature = COLD + (HOT - COLD) * step / steps
        dynamics.set_temperature(temperature_K=temperature)
        dynamics.run(every)
        yield temperature, atoms.copy()


def closest(atoms):
    """Return the smallest distance between two atoms, in angstrom."""
    distances = potential.neighbours(atoms.positions, np.array(atoms.cell)).distance
    return float(distances.min()) if len(distances) else potential.CUTOFF
