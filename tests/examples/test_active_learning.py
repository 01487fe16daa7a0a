"""The flagship: its potential's forces are its energy's slope, and the whole study runs, here in its smallest size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "active_learning"
ase_build = pytest.importorskip("ase.build")
np = pytest.importorskip("numpy")
pytest.importorskip("matplotlib")

TINY = """
import sys
sys.path.insert(0, {example!r})
import main as active_learning

settings = {{
    **active_learning.SETTINGS,
    **dict(members=2, walkers=2, steps=16, tests=1, test_steps=4, labels=1, iterations={iterations}, upper=3.0),
}}
study = active_learning.make_workflow(settings)
if __name__ == "__main__":
    study.submit()
"""


@pytest.fixture
def alloy():
    atoms = ase_build.bulk("Cu", cubic=True, a=3.8) * (2, 2, 1)
    atoms.symbols[::3] = "Au"
    atoms.rattle(0.1, seed=1)
    return atoms


@pytest.fixture
def potential(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    yield __import__("potential")
    sys.modules.pop("potential", None)


def test_forces_are_the_slope_of_the_energy(potential, alloy):
    models = np.random.default_rng(0).normal(scale=0.01, size=(2, potential.N_COEFFICIENTS))
    _, forces = potential.predict(models, alloy)
    for atom, direction in ((0, 0), (3, 1), (7, 2)):
        energies = []
        for shift in (1e-4, -2e-4):
            alloy.positions[atom, direction] += shift
            energies.append(potential.predict(models, alloy)[0])
        alloy.positions[atom, direction] += 1e-4
        assert -(energies[0] - energies[1]) / 2e-4 == pytest.approx(forces[:, atom, direction], abs=1e-5)


def test_what_is_predicted_is_what_is_fitted(potential, alloy):
    model = np.random.default_rng(0).normal(scale=0.01, size=potential.N_COEFFICIENTS)
    [energy], [forces] = potential.predict(model, alloy)
    matrix, right = potential.equations(alloy, energy, forces)
    assert matrix @ model == pytest.approx(right, abs=1e-9)
    assert potential.deviation(np.array([forces, forces])) == 0


@pytest.mark.slow
def test_the_study_runs(tmp_path):
    (tmp_path / "tiny.py").write_text(TINY.format(example=str(EXAMPLE), iterations=2))
    places = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "dflow_hpc.cli.main", "run", "-o", "json", "tiny.py"],
        cwd=tmp_path,
        env={**os.environ, **places, "DFLOW_MACHINES": str(EXAMPLE / "machines.toml")},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    nodes = json.loads(done.stdout)["status"]["nodes"].values()
    [report] = [node for node in nodes if node["displayName"] == "report"]
    [summary] = [json.loads(item["value"]) for item in report["outputs"]["parameters"] if item["name"] == "summary"]
    assert summary["iterations"] == 2
    assert summary["labels"] == 4
    [plot] = list(tmp_path.glob("active-learning-*/report/outputs/artifacts/plot/active_learning.png")) or list(
        tmp_path.glob("active-learning-*/store/**/active_learning.png")
    )
    assert plot.read_bytes().startswith(b"\x89PNG")
