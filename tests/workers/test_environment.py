"""References in texts are expanded as a kubelet expands them."""

import pytest

from dflow_hpc.engines.local.work.environment import expand


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("$(A)-$(B)", "1-$(B)"),
        ("$$(A) $$ $$$(A)", "$(A) $ $1"),
        ("$A ${A} $", "$A ${A} $"),
        ("$(A", "$(A"),
        ("$(a b)", "2"),
    ],
)
def test_references_are_expanded_and_two_dollars_are_one(text, found):
    assert expand(text, {"A": "1", "a b": "2"}) == found
