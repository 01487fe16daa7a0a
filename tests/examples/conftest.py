"""What the flagship's tests on real clusters share."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

_PACKAGES = ("numpy", "numpy.libs", "scipy", "scipy.libs", "ase")


@pytest.fixture(scope="module")
def prepared(slurm_rig):
    """Give the clusters what the steps import there, as a user's own environment would."""
    assert sys.version_info[:2] == (3, 11), "the clusters' python3 is Debian's 3.11, and NumPy is brought from here"
    for cluster in slurm_rig.values():
        for name in _PACKAGES:
            there = cluster.root_here / "python" / name
            if not there.exists():
                found = importlib.util.find_spec("numpy").submodule_search_locations[0]
                shutil.copytree(Path(found).with_name(name), there)
    yield slurm_rig
    for cluster in slurm_rig.values():
        shutil.rmtree(cluster.root_here / "python")
