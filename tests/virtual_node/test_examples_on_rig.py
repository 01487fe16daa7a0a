"""Twenty of Argo's examples: their trees on a virtual node are those that a real kubelet gives."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import argo_examples


@pytest.mark.rig
def test_twenty_of_argos_examples_give_the_same_trees_on_a_virtual_node(kube_rig, slurm_rig, tmp_path):
    found = argo_examples.run(argo_examples.SOME, kube_rig, slurm_rig["cpu"], tmp_path)
    assert len(found) == 20
    assert {name: lines for name, lines in found.items() if lines} == {}
