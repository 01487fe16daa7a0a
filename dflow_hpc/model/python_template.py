"""PythonOPTemplate: an OP with the options under which it runs.

The code of the OP travels in the run's bundle, so most of dflow's options about carrying code have no work left; they
are accepted where ignoring them changes nothing, and refused by name where it would.

Not here: the op record and the manifest (``compile/leaves.py``), the OP itself (``op/``).

Trap: the class's signs are read once, at construction. An OP whose sign depends on instance state gives the template
of that instance.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import inspect
from typing import Any, Dict, List, Optional, Sequence, Union

from dflow_hpc.config import config
from dflow_hpc.errors import ModelError
from dflow_hpc.model.checks import UnknownName, at, check_options, close, listed
from dflow_hpc.model.declared import InputArtifact, InputParameter, OutputArtifact, OutputParameter
from dflow_hpc.model.io import Inputs, Outputs
from dflow_hpc.model.templates import RETRY_POLICIES, ScriptOPTemplate

_SLICES = "Give `Slices(...)`, which names what is cut and joined."
_PASTED = "The OP is loaded, not pasted into a script; put the text into its execute()."
_REFUSED = {
    "skip_slice_input": "Give `Slices(...)` without that input.",
    "input_artifact_prefix": "Pass `artifact[key]` to the step.",
    "input_artifact_slices": _SLICES,
    "input_parameter_slices": _SLICES,
    "output_artifact_slices": _SLICES,
    "output_parameter_slices": _SLICES,
    "pre_script": _PASTED,
    "post_script": _PASTED,
    "tmp_root": "An OP gets the paths of its artifacts, and works in a directory of its own.",
}


class PythonOPTemplate(ScriptOPTemplate):
    """A template that runs a Python OP.

    Args:
        op_class: An OP class, an OP instance (its state travels with it), or a function made an OP.
        image: Container image under Argo and container runtimes, ``config["python_image"]`` unless given; this
            machine's Python runs it otherwise.
        command: The Python that runs it, ``python3`` unless given.
        annotations: Annotations of its pods.
        labels: Labels of its pods.
        node_selector: Labels of the nodes that may run it.
        tolerations: Kubernetes tolerations.
        affinity: Kubernetes affinity.
        output_artifact_save: Name -> ``S3Artifact``, or a list with one: the key under which it is stored.
        output_artifact_archive: Name -> ``"tar"`` or ``None``.
        output_parameter_default: Name -> value when the OP leaves none.
        input_artifact_prefix: Refused.
        input_artifact_slices: Refused, as the next three: ``slices`` says it all.
        input_parameter_slices: Refused.
        output_artifact_slices: Refused.
        output_parameter_slices: Refused.
        output_artifact_global_name: Name -> name under which the workflow publishes it.
        output_parameter_global_name: Name -> name under which the workflow publishes it.
        slices: How a step's loop cuts its inputs and joins its outputs.
        python_packages: Path, or list of paths, of packages that travel too.
        timeout: Limit in seconds.
        retry_on_transient_error: How many times it runs again after any exception but ``FatalError``.
        retry_on_failure: How many times it runs again when the OP failed.
        retry_on_error: How many times it runs again when the node or the pod failed.
        retry_on_failure_and_error: How many times it runs again after either.
        timeout_as_transient_error: Whether ``retry_on_transient_error`` also counts a time limit.
        memoize_key: Key under which its outputs are kept and found again.
        volumes: Kubernetes volumes.
        mounts: Kubernetes volume mounts.
        image_pull_policy: ``Always``, ``IfNotPresent`` or ``Never``.
        requests: Kubernetes resource requests.
        limits: Kubernetes resource limits.
        upload_dflow: Accepted; what is needed always travels.
        envs: Environment: name -> text, ``Secret`` or a Kubernetes ``valueFrom`` dict.
        init_containers: Containers run before it.
        sidecars: Containers run beside it.
        tmp_root: Accepted when ``/tmp``: OPs get paths and never name a root.
        pre_script: Refused: Python text put before the OP's.
        post_script: Refused: Python text put after the OP's.
        success_tag: Whether it gives the output ``dflow_success_tag``; steps that count successes ask for it.
        create_slice_dir: Whether each slice's outputs go into a directory of its own.
        skip_slice_input: Refused.

    Raises:
        ModelError: An option is refused or names something that the OP does not declare.
    """

    default_command = ("python3",)

    def __init__(
        self,
        op_class: Any,
        image: Optional[str] = None,
        command: Union[str, Sequence[str], None] = None,
        annotations: Optional[Dict[str, str]] = None,
        labels: Optional[Dict[str, str]] = None,
        node_selector: Optional[Dict[str, str]] = None,
        tolerations: Any = None,
        affinity: Any = None,
        output_artifact_save: Optional[Dict[str, Any]] = None,
        output_artifact_archive: Optional[Dict[str, Optional[str]]] = None,
        output_parameter_default: Optional[Dict[str, Any]] = None,
        input_artifact_prefix: Optional[Dict[str, str]] = None,
        input_artifact_slices: Optional[Dict[str, str]] = None,
        input_parameter_slices: Optional[Dict[str, str]] = None,
        output_artifact_slices: Optional[Dict[str, str]] = None,
        output_parameter_slices: Optional[Dict[str, str]] = None,
        output_artifact_global_name: Optional[Dict[str, str]] = None,
        output_parameter_global_name: Optional[Dict[str, str]] = None,
        slices: Any = None,
        python_packages: Any = None,
        timeout: Union[int, float, None] = None,
        retry_on_transient_error: Optional[int] = None,
        retry_on_failure: Optional[int] = None,
        retry_on_error: Optional[int] = None,
        retry_on_failure_and_error: Optional[int] = None,
        timeout_as_transient_error: bool = False,
        memoize_key: Optional[str] = None,
        volumes: Any = None,
        mounts: Any = None,
        image_pull_policy: Optional[str] = None,
        requests: Optional[Dict[str, str]] = None,
        limits: Optional[Dict[str, str]] = None,
        upload_dflow: bool = True,
        envs: Optional[Dict[str, Any]] = None,
        init_containers: Any = None,
        sidecars: Any = None,
        tmp_root: str = "/tmp",  # noqa: S108  (dflow's default; nothing is written there)
        pre_script: str = "",
        post_script: str = "",
        success_tag: bool = False,
        create_slice_dir: bool = False,
        skip_slice_input: bool = False,
    ):
        self.op_class = op_class
        self.op_name = _op_name(op_class)
        inputs, outputs = _from_signs(op_class, self.op_name)
        super().__init__(
            name=None,
            inputs=inputs,
            outputs=outputs,
            memoize_key=memoize_key,
            annotations=annotations,
            labels=labels,
            node_selector=node_selector,
            tolerations=tolerations,
            affinity=affinity,
            image=image or config["python_image"],
            command=command,
            volumes=volumes,
            mounts=mounts,
            timeout=timeout,
            image_pull_policy=image_pull_policy,
            requests=requests,
            limits=limits,
            envs=envs,
            init_containers=init_containers,
            sidecars=sidecars,
        )
        refused = {
            "skip_slice_input": skip_slice_input,
            "input_artifact_prefix": input_artifact_prefix,
            "input_artifact_slices": input_artifact_slices,
            "input_parameter_slices": input_parameter_slices,
            "output_artifact_slices": output_artifact_slices,
            "output_parameter_slices": output_parameter_slices,
            "pre_script": pre_script,
            "post_script": post_script,
            "tmp_root": "" if tmp_root == "/tmp" else tmp_root,  # noqa: S108
        }
        check_options(refused, _REFUSED, self.title, self.where)
        self.python_packages = packages(python_packages)
        self.upload_dflow = upload_dflow
        self.success_tag = success_tag
        self.create_slice_dir = create_slice_dir
        self.retry_strategy = _retries(
            self.title,
            timeout_as_transient_error,
            retry_on_transient_error=retry_on_transient_error,
            retry_on_failure=retry_on_failure,
            retry_on_error=retry_on_error,
            retry_on_failure_and_error=retry_on_failure_and_error,
        )
        self._set_outputs("artifacts", "save", output_artifact_save)
        self._set_outputs("artifacts", "archive", output_artifact_archive)
        self._set_outputs("artifacts", "global_name", output_artifact_global_name)
        self._set_outputs("parameters", "global_name", output_parameter_global_name)
        self._set_outputs("parameters", "default", output_parameter_default)
        self.slices: Any = None
        if slices is not None:
            self.set_slices(slices)

    @property
    def title(self) -> str:
        """What error texts call it."""
        return f"PythonOPTemplate({self.op_name})"

    def set_slices(self, slices: Any) -> None:
        """Let the steps of this template cut their inputs by ``slices``.

        Raises:
            ModelError: It names something that the OP does not declare.
        """
        check_slices(slices, self, self.title)
        self.slices = slices

    add_slices = set_slices

    def _set_outputs(self, group: str, attribute: str, values: Optional[Dict[str, Any]]) -> None:
        declared = getattr(self.outputs, group)
        for name, value in (values or {}).items():
            if name not in declared:
                raise UnknownName(
                    f"{self.title} was given output_{group[:-1]}_{attribute} for {name!r}{at(self.where)}; its output "
                    f"{group} are {listed(declared)}{close(name, declared)}."
                )
            listed_already = attribute != "save" or isinstance(value, (list, tuple))
            setattr(declared[name], attribute, value if listed_already else [value])


def packages(given: Any) -> List[Any]:
    """Return ``python_packages`` as a list of paths."""
    if given is None:
        return []
    return list(given) if isinstance(given, (list, tuple, set)) else [given]


def check_slices(slices: Any, template: Any, owner: str) -> None:
    """Check that the names in ``Slices`` are those that ``template`` declares.

    Raises:
        ModelError: ``slices`` is none, or names something unknown.
    """
    for side, group in (("input", "parameter"), ("input", "artifact"), ("output", "parameter"), ("output", "artifact")):
        names = getattr(slices, f"{side}_{group}", None)
        if names is None:
            raise ModelError(
                f"{owner} was given slices={slices!r}; they are Slices('{{{{item}}}}', input_parameter=[...], "
                "output_artifact=[...])."
            )
        declared = getattr(getattr(template, side + "s"), group + "s")
        for name in names:
            if name not in declared:
                raise UnknownName(
                    f"{owner} was given Slices({side}_{group}=[{name!r}]); its {side} {group}s are "
                    f"{listed(declared)}{close(str(name), declared)}."
                )


def _op_name(op_class: Any) -> str:
    owner = op_class if isinstance(op_class, type) else type(op_class)
    if not (hasattr(owner, "get_input_sign") and hasattr(owner, "execute")):
        raise ModelError(
            f"PythonOPTemplate was given {op_class!r}, which is no OP. Give a subclass of OP, an instance of one, or "
            "a function with the decorator @OP.function."
        )
    name = str(getattr(op_class, "__name__", owner.__name__))
    missing = getattr(owner, "__abstractmethods__", ())
    if missing:
        raise ModelError(
            f"PythonOPTemplate was given the OP {name}, which does not define {listed(missing)}. An OP defines "
            "get_input_sign(cls) and get_output_sign(cls), both class methods, and execute(self, op_in)."
        )
    try:
        inspect.signature(owner.execute).bind("self", "op_in")
    except TypeError as error:
        raise ModelError(
            f"PythonOPTemplate was given the OP {name}, whose execute{inspect.signature(owner.execute)} cannot be "
            f"called with its inputs as the one argument: {error}. Write: def execute(self, op_in)."
        ) from error
    return name


def _from_signs(op_class: Any, op_name: str) -> Any:
    from dflow_hpc.op.op import checked_sign
    from dflow_hpc.op.signs import Artifact, BigParameter, Parameter

    inputs, outputs = Inputs(), Outputs()
    for name, sign in checked_sign(op_class, "input").items():
        if isinstance(sign, Artifact):
            inputs.artifacts[name] = InputArtifact(
                type=sign.type, optional=sign.optional, archive=sign.archive, writable=sign.writable
            )
        elif isinstance(sign, (Parameter, BigParameter)):
            default = {"value": sign.default} if hasattr(sign, "default") else {}
            inputs.parameters[name] = InputParameter(
                type=sign.type, save_as_artifact=isinstance(sign, BigParameter), **default
            )
        else:
            inputs.parameters[name] = InputParameter(type=sign)
    for name, sign in checked_sign(op_class, "output").items():
        if isinstance(sign, Artifact):
            outputs.artifacts[name] = OutputArtifact(
                type=sign.type,
                archive=sign.archive,
                save=sign.save,
                optional=sign.optional,
                global_name=sign.global_name,
            )
        elif isinstance(sign, (Parameter, BigParameter)):
            default = {"default": sign.default} if hasattr(sign, "default") else {}
            outputs.parameters[name] = OutputParameter(
                type=sign.type,
                global_name=sign.global_name,
                save_as_artifact=isinstance(sign, BigParameter),
                **default,
            )
        else:  # a bare type: an OP that leaves it out gives None, as in dflow
            outputs.parameters[name] = OutputParameter(type=sign, default=None)
    both = set(inputs.parameters) & set(inputs.artifacts)
    if both:
        raise ModelError(f"OP {op_name} declares {listed(both)} twice in its input sign.")
    return inputs, outputs


def _retries(owner: str, timeout_too: bool, **limits: Optional[int]) -> Optional[Dict[str, Any]]:
    given = {name: limit for name, limit in limits.items() if limit is not None}
    if not given:
        return None
    if len(given) > 1:
        raise ModelError(f"{owner} was given {listed(given)} together; one retry rule holds. Keep one of them.")
    name, limit = next(iter(given.items()))
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise ModelError(f"{owner} was given {name}={limit!r}; it is how many times it runs again, 0 or more.")
    if name in RETRY_POLICIES:
        return {"limit": limit, "retryPolicy": RETRY_POLICIES[name]}
    # Exit code 1 is any exception, 2 is FatalError; a time limit ends a leaf with neither.
    wanted = "asInt(lastRetry.exitCode) %s" % ("!= 2" if timeout_too else "== 1")
    return {"limit": limit, "expression": wanted}
