"""Forty of Argo's examples on the real Argo and by the local engine; the committed page says what comes of it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import argo
import real
import table
from verdicts import SOME


@pytest.mark.rig
def test_forty_of_argos_examples_come_out_as_the_page_says(tmp_path, kube_rig):
    folder = argo.examples()
    every = argo.manifests(folder)
    verdicts = real.campaign(
        {name: every[name] for name in SOME}, argo.resources(folder), record=tmp_path, kube=kube_rig
    )
    assert set(verdicts) == set(SOME)
    assert table.contradictions(verdicts) == []
