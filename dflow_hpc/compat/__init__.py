"""Answers for ``dflow`` and its deep module names, so that scripts written for it run unmodified.

``argo.workflows.client``, which pydflow brings, is answered for too (``kubernetes.py``) unless it is installed.

``install()`` puts a finder on ``sys.meta_path``. The modules that it makes are empty: each name is looked up when it
is asked for, in dflow_hpc's public names and in ``names.py``. A name that has no counterpart can be imported, because
many programs do and then never use it; calling it says what to use instead.

Not here: behaviour. Where dflow and dflow_hpc differ, dflow_hpc's own functions are what scripts get.

The trap: ``dflow.config`` is a module *and* the dict that ``from dflow import config`` gives. The import system binds
the module first, so the dict is put in its place afterwards, once.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import Any, Optional, Sequence

import dflow_hpc
from dflow_hpc.compat.names import ELSEWHERE, INSTEAD, MODULES, WITHOUT
from dflow_hpc.config import config

ORIGIN = "dflow_hpc.compat"


def install(force: bool = False) -> bool:
    """Make ``import dflow`` mean dflow_hpc in this process.

    Args:
        force: Do it although pydflow is installed.

    Returns:
        Whether ``dflow`` means dflow_hpc now; False when pydflow is installed and was left alone.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return True
    found = importlib.util.find_spec("dflow")
    # A plain directory called dflow, without an __init__, is nobody's package: it must not stand in the way.
    if found is not None and found.origin is not None and not force:
        return False
    sys.meta_path.insert(0, _Finder())
    sys.meta_path.append(_ArgoFinder())
    return True


class _Finder(importlib.abc.MetaPathFinder):
    """Finds ``dflow`` and the modules below it, and nothing else."""

    def find_spec(
        self,
        fullname: str,
        path: Optional[Sequence[str]],  # noqa: ARG002  (the import system's signature)
        target: Optional[ModuleType] = None,  # noqa: ARG002
    ) -> Optional[importlib.machinery.ModuleSpec]:
        """Answer the import system."""
        if fullname in MODULES:
            is_package = any(name.startswith(fullname + ".") for name in MODULES)
            return importlib.util.spec_from_loader(fullname, _Loader(), origin=ORIGIN, is_package=is_package)
        for prefix, advice in WITHOUT.items():
            if fullname == prefix or fullname.startswith(prefix + "."):
                raise ModuleNotFoundError(
                    f"{fullname} was imported; dflow_hpc has no counterpart of it. {advice}", name=fullname
                )
        if fullname.startswith("dflow."):  # the path of `dflow` is for programs that read it, not for imports
            raise ModuleNotFoundError(f"No module named {fullname!r}; dflow_hpc knows no such module", name=fullname)
        return None


class _ArgoFinder(importlib.abc.MetaPathFinder):
    """Finds ``argo.workflows.client`` where it is not installed; it is asked last."""

    def find_spec(
        self,
        fullname: str,
        path: Optional[Sequence[str]],  # noqa: ARG002  (the import system's signature)
        target: Optional[ModuleType] = None,  # noqa: ARG002
    ) -> Optional[importlib.machinery.ModuleSpec]:
        """Answer the import system."""
        if fullname not in ("argo", "argo.workflows", "argo.workflows.client"):
            return None
        is_package = fullname != "argo.workflows.client"
        return importlib.util.spec_from_loader(fullname, _ArgoLoader(), origin=ORIGIN, is_package=is_package)


class _ArgoLoader(importlib.abc.Loader):
    """Makes modules of which the last gives the classes of Kubernetes' objects."""

    def exec_module(self, module: ModuleType) -> None:
        """Answer the import system."""
        if module.__name__ == "argo.workflows.client":
            from dflow_hpc.compat.kubernetes import kubernetes_class

            vars(module)["__getattr__"] = kubernetes_class


class _Loader(importlib.abc.Loader):
    """Makes a module that looks its names up when they are asked for."""

    def exec_module(self, module: ModuleType) -> None:
        """Answer the import system."""
        space = vars(module)
        space["__getattr__"] = lambda name: _look_up(module.__name__, name)
        space["__all__"] = MODULES[module.__name__]
        if module.__name__ == "dflow":
            importlib.import_module("dflow.config")
            space["config"] = config
            # Programs take it from here into upload_packages; dflow_hpc travels anyway.
            space["__path__"] = list(dflow_hpc.__path__)


def _look_up(module: str, name: str) -> Any:
    if f"{module}.{name}" in MODULES:
        return importlib.import_module(f"{module}.{name}")
    found = ELSEWHERE.get(f"{module}.{name}", ELSEWHERE.get(name))
    if found is not None:
        place, _, attribute = found.partition(":")
        return getattr(importlib.import_module(place), attribute)
    if name in dflow_hpc.__all__:
        return getattr(dflow_hpc, name)
    if name in INSTEAD:
        return importlib.import_module("dflow_hpc.compat.elsewhere").stand_in(name, INSTEAD[name])
    raise AttributeError(f"module {module!r} has no attribute {name!r}; dflow_hpc knows no such name of dflow's")
