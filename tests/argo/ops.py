"""OPs of the tests on Argo."""

# ruff: noqa: F821  (outputs are named in the annotation)

import os

from dflow_hpc import OP


@OP.function
def length_of_secret() -> {"length": int}:
    return {"length": len(os.environ["WORD"])}
