"""dflow_hpc: typed Python workflows that run here, on Kubernetes, and on Slurm and PBS clusters.

Every public name is listed in ``_WHERE`` and imported when it is first used (PEP 562), so that ``import dflow_hpc``
costs next to nothing and loads the standard library only. This module also tells the lower layers who answers to
their hooks: it is the one place that knows all layers.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import importlib
from typing import Any, List

from dflow_hpc import hooks as _hooks

# Eager, unlike all others: loading the submodule `config` binds its name here, and users mean the dict inside it.
from dflow_hpc.config import config, randstr, s3_config, set_config, set_s3_config  # noqa: F401

__version__ = "0.1.0.dev0"

_WHERE = {
    # what an OP author writes
    "OP": "op.op",
    "OPIO": "op.opio",
    "OPIOSign": "op.opio",
    "Artifact": "op.signs",
    "BigParameter": "op.signs",
    "FatalError": "op.op",
    "HDF5Dataset": "op.hdf5",
    "HDF5Datasets": "op.hdf5",
    "NestedDict": "op.signs",
    "Parameter": "op.signs",
    "Slices": "op.slices",
    "TransientError": "op.op",
    "upload_packages": "op.op",
    # what an author composes
    "AutonamedDict": "model.io",
    "ContainerOPTemplate": "model.templates",
    "DAG": "model.dag",
    "Executor": "model.executor",
    "HTTPOPTemplate": "model.templates",
    "HookStep": "model.step",
    "IfExpression": "model.refs",
    "InputArtifact": "model.declared",
    "InputParameter": "model.declared",
    "Inputs": "model.io",
    "MachineExecutor": "model.executor",
    "OPTemplate": "model.templates",
    "OutputArtifact": "model.declared",
    "OutputParameter": "model.declared",
    "Outputs": "model.io",
    "PythonOPTemplate": "model.python_template",
    "PythonScriptOPTemplate": "model.templates",
    "ScriptOPTemplate": "model.templates",
    "Secret": "model.templates",
    "ShellOPTemplate": "model.templates",
    "Step": "model.step",
    "Steps": "model.steps",
    "Task": "model.task",
    "Workflow": "model.workflow",
    "argo_concat": "model.loops",
    "argo_enumerate": "model.loops",
    "argo_len": "model.loops",
    "argo_range": "model.loops",
    "argo_sequence": "model.loops",
    "argo_sum": "model.loops",
    "if_expression": "model.refs",
    # artifacts
    "CustomArtifact": "storage.artifact",
    "HTTPArtifact": "storage.artifact",
    "LocalArtifact": "storage.artifact",
    "S3Artifact": "storage.artifact",
    "copy_artifact": "storage.transfer",
    "copy_s3": "storage.transfer",
    "download_artifact": "storage.transfer",
    "download_s3": "storage.transfer",
    "path_list_of_artifact": "storage.transfer",
    "path_object_of_artifact": "storage.transfer",
    "upload_artifact": "storage.transfer",
    "upload_s3": "storage.transfer",
    # results
    "ArgoStep": "manifest.result",
    "ArgoWorkflow": "manifest.result",
    "query_workflows": "model.workflow",
    # settings and errors
    "DflowError": "errors",
    "config": "config",
    "randstr": "config",
    "s3_config": "config",
    "set_config": "config",
    "set_s3_config": "config",
}

__all__ = sorted(_WHERE)  # noqa: PLE0605  (the table is the list; tests/test_public_names.py compares it with the docs)

_hooks.register("engine", "dflow_hpc.engines:engine_for")
_hooks.register("repository", "dflow_hpc.engines.argo.repository:settings")
_hooks.register("compile", "dflow_hpc.compile.compiler:compile_workflow")
_hooks.register("bundle", "dflow_hpc.compile.bundle:bundle")
_hooks.register("compat", "dflow_hpc.compat:install")
_hooks.register("call_op", "dflow_hpc.model.functional:call_op")
_hooks.register("superfunction", "dflow_hpc.model.functional:superfunction")


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module 'dflow_hpc' has no public name {name!r}; they are: {', '.join(__all__)}")
    value = getattr(importlib.import_module("dflow_hpc." + where), name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted([*globals(), *__all__])
