"""The error tree: every error that the package raises on purpose.

    DflowError
    ├── ModelError          an OP, a step or a workflow is put together wrongly
    │   └── SignError       (also TypeError) a value does not fit a declared sign
    ├── CompileError        a model cannot become a manifest
    │   └── BundleError     the author's code cannot be carried to where it runs
    ├── ManifestError       a manifest is not one that Argo, or this engine, accepts
    ├── ExpressionError     a template tag or an expression cannot be evaluated
    ├── ExecutorError       something that runs a leaf went wrong
    │   ├── SubmitError     it was refused before it ran
    │   ├── JobFailed       it ran and failed
    │   └── HostUnreachable it cannot be asked
    ├── EngineError         a run cannot be started, found or changed
    │   └── WorkflowFailed  a run ended, and not well
    ├── StorageError        an artifact cannot be stored or fetched
    └── ConfigError         a setting or a profile is wrong

A message has three parts: what was asked, what was found, what to do. Foreign errors are chained with ``from``.

This module travels with the author's code: standard library only, valid Python 3.8.
"""


class DflowError(Exception):
    """Base of every error that dflow_hpc raises on purpose."""


class ModelError(DflowError):
    """An OP, a step or a workflow is put together wrongly."""


class SignError(ModelError, TypeError):
    """A value does not fit the sign that an OP declares."""


class CompileError(DflowError):
    """A model cannot become a manifest."""


class BundleError(CompileError):
    """The author's code cannot be carried to where it runs."""


class ManifestError(DflowError):
    """A manifest is not one that Argo, or this engine, accepts."""


class ExpressionError(DflowError):
    """A template tag or an expression cannot be evaluated."""


class ExecutorError(DflowError):
    """Something that runs a leaf went wrong."""


class SubmitError(ExecutorError):
    """A leaf was refused before it ran."""


class JobFailed(ExecutorError):
    """A leaf ran and failed."""


class HostUnreachable(ExecutorError):
    """A machine cannot be asked. This never means that a job on it failed."""


class EngineError(DflowError):
    """A run cannot be started, found or changed."""


class WorkflowFailed(EngineError):
    """A run ended, and not well. Raised by ``Workflow.run()`` only; ``submit()`` never raises it."""


class StorageError(DflowError):
    """An artifact cannot be stored or fetched."""


class ConfigError(DflowError):
    """A setting or a profile is wrong."""


class NotWhileLoading(BaseException):
    """Raised by submitting or uploading while a leaf loads the author's code.

    A ``BaseException``, so that an author's ``except Exception`` around ``submit()`` does not carry on below it:
    the loader (``op/loader.py``) catches it and knows that the definitions above are complete.
    """
