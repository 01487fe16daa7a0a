"""A potential for copper-gold alloys that is linear in its coefficients, with analytic forces. NumPy only.

The energy of an atom is a polynomial of third order in the *densities* around it,

    E_i = sum_{a<=b<=c} w_abc rho_ia rho_ib rho_ic ,      rho_i0 = 1 ,      rho_ia = sum_j phi_k(r_ij) ,

where ``a`` counts radial functions ``k`` and species of the neighbour ``j``; each species of atom ``i`` has its own
coefficients. A fixed short-range repulsion keeps atoms apart where there are no data yet. Fitting energies and forces
is a linear least-squares problem: a model is fitted in a second, and what it does not know shows as the scatter of a
committee.
"""

import itertools
from typing import NamedTuple

import numpy as np

SPECIES = (29, 79)  # Cu, Au
CUTOFF = 5.2  # angstrom
N_RADIAL = 5
N_DENSITIES = 1 + len(SPECIES) * N_RADIAL  # the first is the constant 1
FEATURES = np.array(list(itertools.combinations_with_replacement(range(N_DENSITIES), 3)))
N_COEFFICIENTS = len(SPECIES) * len(FEATURES)

ENERGY_WEIGHT = 10.0  # of one energy per atom, relative to one force component
RIDGE = 1e-10

_FEATURE = np.zeros((N_DENSITIES,) * 3, dtype=int)  # (a, b, c) in any order -> number of the feature
for _number, _densities in enumerate(FEATURES):
    for _a, _b, _c in itertools.permutations(_densities):
        _FEATURE[_a, _b, _c] = _number
_MULTIPLICITY = np.bincount(_FEATURE.ravel())


class Pairs(NamedTuple):
    """The neighbours of every atom: atom ``j`` lies at ``distance`` from atom ``i`` in the direction ``unit``."""

    i: np.ndarray
    j: np.ndarray
    distance: np.ndarray
    unit: np.ndarray


def neighbours(positions, cell):
    """Return all ordered pairs closer than the cutoff, periodic images included."""
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    repeats = [np.arange(-n, n + 1) for n in np.ceil(CUTOFF / heights).astype(int)]
    images = np.stack(np.meshgrid(*repeats, indexing="ij"), axis=-1).reshape(-1, 3) @ cell
    vectors = positions[None, :, None, :] - positions[:, None, None, :] + images
    squares = np.einsum("ijsx,ijsx->ijs", vectors, vectors)
    i, j, image = np.nonzero((squares < CUTOFF**2) & (squares > 1e-10))
    distance = np.sqrt(squares[i, j, image])
    return Pairs(i, j, distance, vectors[i, j, image] / distance[:, None])


def radial_functions(distance):
    """Return the radial functions and their derivatives: Chebyshev polynomials of exp(-r), times a smooth cutoff."""
    near, far, length = 1.8, CUTOFF, 1.75
    scale = 2 / (np.exp(-near / length) - np.exp(-far / length))
    x = 1 - scale * (np.exp(-distance / length) - np.exp(-far / length))
    dx = scale / length * np.exp(-distance / length)
    values, slopes = [np.ones_like(x), x], [np.zeros_like(x), np.ones_like(x)]
    for _ in range(2, N_RADIAL):
        slopes.append(2 * values[-1] + 2 * x * slopes[-1] - slopes[-2])
        values.append(2 * x * values[-1] - values[-2])
    smooth = 0.5 * (1 + np.cos(np.pi * distance / CUTOFF))
    dsmooth = -0.5 * np.pi / CUTOFF * np.sin(np.pi * distance / CUTOFF)
    value, slope = np.stack(values, axis=1), np.stack(slopes, axis=1)
    return value * smooth[:, None], slope * (dx * smooth)[:, None] + value * dsmooth[:, None]


def repulsion(distance):
    """Return energy (eV) and derivative of the fixed repulsion of a pair, which ends at 2.6 angstrom."""
    energy, inside = 2000.0 * np.exp(-3.2 * distance), np.clip(1 - distance / 2.6, 0, None)
    return energy * inside**2, -3.2 * energy * inside**2 - 2 / 2.6 * energy * inside


class Environment:
    """What all models of one structure share: its pairs, radial functions and densities."""

    def __init__(self, atoms):
        self.species = np.searchsorted(SPECIES, atoms.numbers)
        self.pairs = neighbours(atoms.positions, np.array(atoms.cell))
        self.size = len(self.species)
        value, slope = radial_functions(self.pairs.distance)
        columns = 1 + self.species[self.pairs.j][:, None] * N_RADIAL + np.arange(N_RADIAL)
        self.density = np.zeros((self.size, N_DENSITIES))
        self.density[:, 0] = 1
        np.add.at(self.density, (self.pairs.i[:, None], columns), value)
        self.columns, self.slope = columns, slope

    def push(self, force):
        """Return the forces on the atoms when each pair pulls its two atoms together with ``force`` (eV/angstrom)."""
        pull = force[:, None] * self.pairs.unit
        along = [
            np.bincount(self.pairs.i, pull[:, x], self.size) - np.bincount(self.pairs.j, pull[:, x], self.size)
            for x in range(3)
        ]
        return np.stack(along, axis=1)


def predict(models, atoms):
    """Return the energies (eV) and forces (eV/angstrom) that several models give to one structure.

    Args:
        models: Coefficients, one row a model.
        atoms: An ``ase.Atoms``, or whatever has numbers, positions and cell.
    """
    env = Environment(atoms)
    shared_energy, shared_slope = repulsion(env.pairs.distance)
    energies, forces = [], []
    for model in np.atleast_2d(models):
        coefficients = model.reshape(len(SPECIES), -1) / _MULTIPLICITY
        tensor = coefficients[:, _FEATURE][env.species]  # symmetric, one for each atom
        slope = np.einsum("iabc,ib,ic->ia", tensor, env.density, env.density, optimize=True)
        energies.append((slope * env.density).sum() + 0.5 * shared_energy.sum())
        pull = 3 * slope[env.pairs.i[:, None], env.columns] * env.slope  # dE_i / d r_ij, by radial function
        forces.append(env.push(pull.sum(axis=1) + 0.5 * shared_slope))
    return np.array(energies), np.array(forces)


def equations(atoms, energy, forces):
    """Return matrix and right side of the linear equations that one labelled structure adds to a fit."""
    env = Environment(atoms)
    a, b, c = (env.density[:, column] for column in FEATURES.T)
    atom_slope = np.zeros((len(env.slope), N_DENSITIES))
    np.put_along_axis(atom_slope, env.columns, env.slope, axis=1)
    da, db, dc = (atom_slope[:, column] for column in FEATURES.T)
    i, j = env.pairs.i, env.pairs.j
    slope = da * (b * c)[i] + db * (a * c)[i] + dc * (a * b)[i]  # of the features of atom i, as its neighbour j leaves

    ends = np.zeros((env.size, len(i)))
    ends[i, np.arange(len(i))] += 1
    ends[j, np.arange(len(j))] -= 1
    matrix = np.zeros((1 + 3 * env.size, len(SPECIES), len(FEATURES)))
    for s in range(len(SPECIES)):
        matrix[0, s] = (env.species == s) @ (a * b * c) * ENERGY_WEIGHT / env.size
        mine = env.species[i] == s
        for x in range(3):
            matrix[1 + x :: 3, s] = ends[:, mine] @ (slope[mine] * env.pairs.unit[mine, x : x + 1])

    shared_energy, shared_slope = repulsion(env.pairs.distance)
    right = np.append(
        (energy - 0.5 * shared_energy.sum()) * ENERGY_WEIGHT / env.size, forces - env.push(0.5 * shared_slope)
    )
    return matrix.reshape(len(right), N_COEFFICIENTS), right


def fit(structures, weights):
    """Fit one model to labelled structures: ridge regression on energies and forces.

    Args:
        structures: ``ase.Atoms`` whose calculators hold energy and forces.
        weights: How much each of them counts; a committee's members weigh them differently.
    """
    normal, projected = np.zeros((N_COEFFICIENTS, N_COEFFICIENTS)), np.zeros(N_COEFFICIENTS)
    for atoms, weight in zip(structures, weights, strict=True):
        matrix, right = equations(atoms, atoms.get_potential_energy(), atoms.get_forces())
        normal += weight * matrix.T @ matrix
        projected += weight * matrix.T @ right
    scale = np.sqrt(np.diag(normal))
    scale[scale == 0] = 1
    regular = normal / np.outer(scale, scale) + RIDGE * np.eye(N_COEFFICIENTS)
    return np.linalg.solve(regular, projected / scale) / scale


def deviation(forces):
    """Return how much a committee disagrees on a structure: the largest scatter of the force on an atom (eV/angstrom).

    Args:
        forces: Forces of each model, as ``predict`` gives them.
    """
    scatter = ((forces - forces.mean(axis=0)) ** 2).sum(axis=-1).mean(axis=0)
    return float(np.sqrt(scatter.max()))
