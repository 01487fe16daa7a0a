"""``dflow_hpc.python``: dflow's second import name, for ``from dflow_hpc.python import OP``.

Every public name of dflow_hpc is found here too. Nothing else is.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

from typing import Any, List

import dflow_hpc


def __getattr__(name: str) -> Any:
    """Return the public name."""
    return getattr(dflow_hpc, name)


def __dir__() -> List[str]:
    return dflow_hpc.__all__
