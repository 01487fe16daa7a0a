"""Where a lower layer reaches up: a name, and who answers to it.

The model must be able to say "submit me" without importing an engine, and ``OP.__call__`` inside ``with DAG()`` must
make a Task without importing the model. The higher layer's function is registered here under a name, as a callable or
as ``"module:attribute"``, which is imported when first asked for. ``dflow_hpc/__init__.py`` registers the defaults;
it is the only place that knows all layers.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import importlib
import sys
from typing import Any, Callable, Dict, Union

NO_CONTEXT = object()
"""What the hook ``call_op`` returns when no ``with Workflow()/Steps()/DAG()`` is open: the OP runs here and now."""

_registered: Dict[str, Union[str, Callable[..., Any]]] = {}


def register(name: str, target: Union[str, Callable[..., Any]]) -> None:
    """Let ``target`` answer to ``name``.

    Args:
        name: The hook, such as ``"engine"``.
        target: A callable, or ``"package.module:attribute"`` to be imported on first use.
    """
    _registered[name] = target


def speaks_dflow() -> bool:
    """Say whether the program of this process has imported ``dflow``, which is dflow_hpc here (``compat``).

    Lower layers ask where a rule of theirs would refuse what works in dflow.
    """
    spec = getattr(sys.modules.get("dflow"), "__spec__", None)
    return spec is not None and spec.origin == "dflow_hpc.compat"


def resolve(name: str) -> Callable[..., Any]:
    """Return the callable that answers to ``name``.

    Raises:
        LookupError: Nobody registered it.
    """
    target = _registered.get(name)
    if target is None:
        known = ", ".join(sorted(_registered)) or "none"
        raise LookupError(f"hook {name!r} was asked for; registered are: {known}")
    if isinstance(target, str):
        module, _, attribute = target.partition(":")
        target = getattr(importlib.import_module(module), attribute)
        _registered[name] = target
    return target
