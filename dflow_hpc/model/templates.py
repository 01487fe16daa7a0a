"""Templates that run something: scripts, shell scripts, containers, HTTP requests; and secrets for their environment.

Not here: Python OPs (``python_template.py``), Steps and DAG, and how a template is written in a manifest
(``compile/leaves.py``).

Trap: one template object may serve any number of steps. Nothing about one step is ever written into it.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import copy
from typing import Any, Dict, List, Optional, Sequence, Union

from dflow_hpc.config import randstr
from dflow_hpc.errors import ModelError
from dflow_hpc.model.checks import at, author_frame, check_options, check_step_name
from dflow_hpc.model.io import Inputs, Outputs

RETRY_POLICIES = {
    "retry_on_failure": "OnFailure",
    "retry_on_error": "OnError",
    "retry_on_failure_and_error": "Always",
}


class OPTemplate:
    """Base of everything that a step can run.

    Args:
        name: Its name, lower-cased; without one the compiler makes one from its content.
        inputs: What it takes.
        outputs: What it gives.
        memoize_key: Key under which its outputs are kept and found again (Argo's ``memoize``).
        pvcs: Refused: volumes for passing artifacts.
        annotations: Annotations of its pods.
        labels: Labels of its pods.
    """

    super_op = False
    """Whether it is made of steps."""

    def __init__(
        self,
        name: Optional[str] = None,
        inputs: Optional[Inputs] = None,
        outputs: Optional[Outputs] = None,
        memoize_key: Optional[str] = None,
        pvcs: Any = None,
        annotations: Optional[Dict[str, str]] = None,
        labels: Optional[Dict[str, str]] = None,
    ):
        self.where = author_frame()
        kind = type(self).__name__
        self.name = None if name is None else check_step_name(name, "a " + kind, self.where).lower()
        self.inputs = Inputs() if inputs is None else inputs
        self.outputs = Outputs() if outputs is None else outputs
        self.memoize_key = memoize_key
        self.annotations = dict(annotations or {})
        self.labels = dict(labels or {})
        check_options({"pvcs": pvcs}, {"pvcs": "Pass data by artifacts."}, self.title, self.where)

    @property
    def title(self) -> str:
        """What error texts call it."""
        return "{} {}".format(type(self).__name__, repr(self.name) if self.name else "without a name")

    @property
    def inputs(self) -> Inputs:
        """What it takes."""
        return self._inputs

    @inputs.setter
    def inputs(self, value: Inputs) -> None:
        if not isinstance(value, Inputs):
            raise ModelError(f"{self.title} was given inputs={value!r}; they are `Inputs(parameters=, artifacts=)`.")
        value.bind(template=self)
        self._inputs = value

    @property
    def outputs(self) -> Outputs:
        """What it gives."""
        return self._outputs

    @outputs.setter
    def outputs(self, value: Outputs) -> None:
        if not isinstance(value, Outputs):
            raise ModelError(f"{self.title} was given outputs={value!r}; they are `Outputs(parameters=, artifacts=)`.")
        value.bind(template=self)
        self._outputs = value

    def copy(self) -> "OPTemplate":
        """Return a copy whose fields, inputs and outputs can be changed without changing this one."""
        new = copy.copy(self)
        new.annotations, new.labels = dict(self.annotations), dict(self.labels)
        new.inputs = Inputs(*_copied(self.inputs))
        new.outputs = Outputs(*_copied(self.outputs))
        return new


def _copied(side: Any) -> Sequence[Dict[str, Any]]:
    return [{name: copy.copy(value) for name, value in group.items()} for group in (side.parameters, side.artifacts)]


class ScriptOPTemplate(OPTemplate):
    """A script run by a command in an image.

    Args:
        name: Its name, lower-cased.
        inputs: What it takes; an artifact's ``path`` says where the script finds it.
        outputs: What it gives; ``value_from_path`` and an artifact's ``path`` say where the script leaves it.
        memoize_key: Key under which its outputs are kept and found again.
        pvcs: Refused.
        annotations: Annotations of its pods.
        labels: Labels of its pods.
        node_selector: Labels of the nodes that may run it.
        tolerations: Kubernetes tolerations (dicts, or objects with ``to_dict``).
        affinity: Kubernetes affinity.
        image: Container image; the local engine runs on this machine unless a container runtime is set.
        command: Program and arguments that get the script's file as their last argument.
        script: Its text; tags such as ``{{inputs.parameters.x}}`` are replaced.
        volumes: Kubernetes volumes.
        mounts: Kubernetes volume mounts.
        init_progress: Progress shown at first, ``"done/total"``.
        timeout: Limit in seconds, or a duration text such as ``"10m"``.
        retry_strategy: Argo's ``retryStrategy`` as a dict.
        resource: Refused: Kubernetes resources of other kinds.
        image_pull_policy: ``Always``, ``IfNotPresent`` or ``Never``.
        requests: Kubernetes resource requests, ``{"cpu": "1"}``.
        limits: Kubernetes resource limits.
        envs: Environment: name -> text, ``Secret``, or a Kubernetes ``valueFrom`` dict.
        init_containers: Containers run before it.
        sidecars: Containers run beside it.
        script_rendered: Whether an executor has already wrapped the script; dflow's internal mark.
    """

    default_command: Sequence[str] = ()

    def __init__(
        self,
        name: Optional[str] = None,
        inputs: Optional[Inputs] = None,
        outputs: Optional[Outputs] = None,
        memoize_key: Optional[str] = None,
        pvcs: Any = None,
        annotations: Optional[Dict[str, str]] = None,
        labels: Optional[Dict[str, str]] = None,
        node_selector: Optional[Dict[str, str]] = None,
        tolerations: Any = None,
        affinity: Any = None,
        image: Optional[str] = None,
        command: Union[str, Sequence[str], None] = None,
        script: str = "",
        volumes: Any = None,
        mounts: Any = None,
        init_progress: str = "0/1",
        timeout: Union[int, float, str, None] = None,
        retry_strategy: Any = None,
        resource: Any = None,
        image_pull_policy: Optional[str] = None,
        requests: Optional[Dict[str, str]] = None,
        limits: Optional[Dict[str, str]] = None,
        envs: Optional[Dict[str, Any]] = None,
        init_containers: Any = None,
        sidecars: Any = None,
        script_rendered: bool = False,
    ):
        super().__init__(name, inputs, outputs, memoize_key, pvcs, annotations, labels)
        check_options(
            {"resource": resource}, {"resource": "Create Kubernetes resources outside of it."}, self.title, self.where
        )
        self.node_selector, self.tolerations, self.affinity = node_selector, tolerations, affinity
        self.image = image
        self.command = as_command(self.default_command if command is None else command)
        self.script = script
        self.volumes, self.mounts = volumes, mounts
        self.init_progress = init_progress
        self.timeout = seconds_text(timeout, self.title)
        self.retry_strategy = retry_strategy
        self.image_pull_policy = image_pull_policy
        self.requests, self.limits = requests, limits
        self.envs = dict(envs or {})
        self.init_containers, self.sidecars = init_containers, sidecars
        self.script_rendered = script_rendered


class ShellOPTemplate(ScriptOPTemplate):
    """A shell script; arguments as for ``ScriptOPTemplate``, the command is ``sh`` unless given."""

    default_command = ("sh",)


class PythonScriptOPTemplate(ScriptOPTemplate):
    """A Python script; arguments as for ``ScriptOPTemplate``, the command is ``python3`` unless given."""

    default_command = ("python3",)


class ContainerOPTemplate(ScriptOPTemplate):
    """A command run in an image, without a script.

    Args:
        command: Program, and arguments that come before ``args``.
        args: Arguments.
        **kwargs: As for ``ScriptOPTemplate``, except ``script``.
    """

    def __init__(self, command: Union[str, Sequence[str]] = "", args: Union[str, Sequence[str]] = "", **kwargs: Any):
        if kwargs.get("script"):
            raise ModelError(
                f"a ContainerOPTemplate was given a script{at(author_frame())}; it runs a command. Use "
                "ShellOPTemplate(script=...)."
            )
        super().__init__(command=command, **kwargs)
        self.args = as_command(args)


class HTTPOPTemplate(OPTemplate):
    """An HTTP request that Argo's agent makes; the local engine refuses it by name.

    Args:
        url: Address; tags are replaced.
        name: Its name, lower-cased.
        inputs: What it takes.
        outputs: What it gives.
        memoize_key: Key under which its outputs are kept and found again.
        annotations: Annotations.
        labels: Labels.
        method: HTTP method.
        headers: Header name -> text.
        timeout: Limit in seconds.
        success_condition: expr-lang text over ``response``.
        body: Body of the request.
        insecure_skip_verify: Whether the server's certificate is not checked.
    """

    def __init__(
        self,
        url: str,
        name: Optional[str] = None,
        inputs: Optional[Inputs] = None,
        outputs: Optional[Outputs] = None,
        memoize_key: Optional[str] = None,
        annotations: Optional[Dict[str, str]] = None,
        labels: Optional[Dict[str, str]] = None,
        method: str = "get",
        headers: Optional[Dict[str, str]] = None,
        timeout: Optional[int] = None,
        success_condition: Optional[str] = None,
        body: Optional[str] = None,
        insecure_skip_verify: bool = False,
    ):
        super().__init__(name, inputs, outputs, memoize_key, None, annotations, labels)
        self.url, self.method, self.headers, self.body = url, method, dict(headers or {}), body
        self.timeout, self.success_condition = timeout, success_condition
        self.insecure_skip_verify = insecure_skip_verify


class Secret:
    """A value that reaches a leaf's environment and stands in no manifest, script or log.

    Args:
        value: The secret itself; without it, an existing Kubernetes Secret is meant.
        name: Name of the Kubernetes Secret; made up when only a value is given.
        key: Key in that Secret.
    """

    def __init__(self, value: Optional[str] = None, name: Optional[str] = None, key: str = "secret"):
        if value is None and name is None:
            raise ModelError("Secret() was given neither a value nor the name of an existing Secret. Give one of them.")
        self.value, self.name, self.key = value, name or "secret-" + randstr(10), key

    def __repr__(self) -> str:
        return f"Secret(name={self.name!r}, key={self.key!r})"


def as_command(command: Union[str, Sequence[str]]) -> List[str]:
    """Return a command as a list; a text is one word, as in dflow."""
    if isinstance(command, str):
        return [command] if command else []
    return [str(word) for word in command]


def seconds_text(timeout: Union[int, float, str, None], owner: str) -> Optional[str]:
    """Return a time limit as Argo's duration text; numbers are seconds.

    Raises:
        ModelError: It is not a positive number or a text.
    """
    if timeout is None or isinstance(timeout, str):
        return timeout
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout <= 0:
        raise ModelError(
            f"{owner} was given timeout={timeout!r}; it is a positive number of seconds, or a duration such as '10m'."
        )
    return f"{timeout:g}s"
