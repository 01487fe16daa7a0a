"""Workflow: what is submitted, and the handle on its run.

The workflow knows neither engines nor the compiler: it asks for them by name (``hooks.py``).

Not here: the manifest (``compile/``), results (``manifest/result.py``).

Trap: ``submit()`` of a local workflow runs it to its end and never raises because a step failed; it prints which. Use
``run()`` where a failed run must stop the program.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

from typing import Any, Dict, List, Optional

from dflow_hpc import hooks
from dflow_hpc.config import config
from dflow_hpc.errors import CompileError, EngineError, ModelError, WorkflowFailed
from dflow_hpc.model.checks import at, author_frame, check_options, check_workflow_name
from dflow_hpc.model.context import enter, leave
from dflow_hpc.model.dag import DAG
from dflow_hpc.model.declared import InputParameter
from dflow_hpc.model.executor import as_executor
from dflow_hpc.model.io import InputParameters
from dflow_hpc.model.reuse import whole
from dflow_hpc.model.step import Step
from dflow_hpc.model.steps import Steps
from dflow_hpc.model.task import Task

_REFUSED = {
    "artifact_repo_key": "Name the repository in the settings of the object storage (s3_config).",
}


class Workflow:
    """A workflow.

    Args:
        name: Prefix of its runs' ids; lower-case letters, digits and ``-``.
        steps: The Steps that it is; without it and ``dag``, the first ``add`` decides.
        dag: The DAG that it is.
        namespace: Kubernetes namespace, ``config["namespace"]`` unless given.
        id: Id of its run: of the next one to be submitted, or of one that exists and is asked about.
        uid: Accepted for dflow's sake.
        host: Address of the Argo Server, ``config["host"]`` unless given.
        token: Its token, ``config["token"]`` unless given.
        k8s_config_file: A kubeconfig, ``config["k8s_config_file"]`` unless given.
        k8s_api_server: Address of the Kubernetes API, ``config["k8s_api_server"]`` unless given.
        context: Executor of every step that names none: a machine's name, ``MachineExecutor``, or dflow's hook.
        annotations: Annotations.
        labels: Labels.
        parallelism: How many leaves run at once.
        pod_gc_strategy: When finished pods are deleted, such as ``"OnPodSuccess"``.
        image_pull_secrets: Name, or names, of Kubernetes Secrets.
        artifact_repo_key: Refused.
        parameters: Parameters of the whole workflow: ``{{workflow.parameters.<name>}}``.
        on_exit: Template run when it has ended, however it did.

    Raises:
        ModelError: Something given cannot be part of a workflow.
    """

    def __init__(
        self,
        name: str = "workflow",
        steps: Optional[Steps] = None,
        dag: Optional[DAG] = None,
        namespace: Optional[str] = None,
        id: Optional[str] = None,
        uid: Optional[str] = None,
        host: Optional[str] = None,
        token: Optional[str] = None,
        k8s_config_file: Optional[str] = None,
        k8s_api_server: Optional[str] = None,
        context: Any = None,
        annotations: Optional[Dict[str, str]] = None,
        labels: Optional[Dict[str, str]] = None,
        parallelism: Optional[int] = None,
        pod_gc_strategy: Optional[str] = None,
        image_pull_secrets: Any = None,
        artifact_repo_key: Optional[str] = None,
        parameters: Optional[Dict[str, Any]] = None,
        on_exit: Any = None,
    ):
        self.where = author_frame()
        self.name = check_workflow_name(name)
        if id is not None:
            check_workflow_name(id)
        check_options({"artifact_repo_key": artifact_repo_key}, _REFUSED, self.title, self.where)
        if steps is not None and dag is not None:
            raise ModelError(f"{self.title} was given steps and dag{at(self.where)}; it is one of them.")
        self.entrypoint: Any = steps if steps is not None else dag
        self._check_entrypoint()
        self.namespace, self.id, self.uid = namespace, id, uid or id
        self.host, self.token = host, token
        self.k8s_config_file, self.k8s_api_server = k8s_config_file, k8s_api_server
        self.context = as_executor(context, self.title)
        self.annotations = {**config["workflow_annotations"], **(annotations or {})}
        self.labels = dict(labels or {})
        self.parallelism = parallelism
        self.pod_gc_strategy = pod_gc_strategy
        self.image_pull_secrets = _names(image_pull_secrets)
        self.parameters = InputParameters(
            {key: _parameter(value) for key, value in (parameters or {}).items()}, template=self
        )
        self.on_exit = on_exit
        self.manifest: Optional[Dict[str, Any]] = None
        self.submitted = False

    @property
    def title(self) -> str:
        """What error texts call it."""
        return f"workflow {self.name!r}"

    def _check_entrypoint(self) -> None:
        if self.entrypoint is not None and not isinstance(self.entrypoint, (Steps, DAG)):
            raise ModelError(
                f"{self.title} was given {self.entrypoint!r}{at(self.where)} as its steps or dag; it takes a Steps or "
                "a DAG. Use `add(step)` for single steps."
            )

    # -- composing ---------------------------------------------------------------------------------------------------

    def add(self, step: Any) -> None:
        """Add a step or task, or a list of steps that run beside each other.

        The first one decides whether the workflow is a Steps or a DAG.

        Raises:
            ModelError: It is no step, or the workflow was submitted.
        """
        if self.submitted:
            raise ModelError(
                f"{self.title} was given {step!r} to add{at(author_frame())} after it was submitted as {self.id!r}; "
                "its run would not do it. Add all steps first, or make a new Workflow."
            )
        if self.entrypoint is None:
            first = step[0] if isinstance(step, (list, tuple)) and step else step
            make = DAG if isinstance(first, Task) else Steps
            self.entrypoint = make(name="{}-{}".format(self.name.replace(".", "-"), "dag" if make is DAG else "steps"))
        self.entrypoint.add(step)

    def all_steps(self) -> List[Step]:
        """Return the steps of its entrypoint as one list."""
        return [] if self.entrypoint is None else list(self.entrypoint.all_steps())

    def names(self) -> Dict[str, Any]:
        """Return the steps of its entrypoint by name."""
        return {} if self.entrypoint is None else self.entrypoint.names()

    def step_class(self) -> Any:
        """Return the class of step that it takes: Task, unless its entrypoint is a Steps."""
        return Step if isinstance(self.entrypoint, Steps) else Task

    def __enter__(self) -> "Workflow":
        enter(self)
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        leave(self)
        if kind is None:
            self.submit()

    # -- the manifest ------------------------------------------------------------------------------------------------

    def compile(self) -> Any:
        """Return it compiled: manifest, bundle of code, secrets (``compile.Compiled``)."""
        return hooks.resolve("compile")(self)

    def to_dict(self) -> Dict[str, Any]:
        """Return its manifest, an Argo ``Workflow``, as plain data."""
        manifest: Dict[str, Any] = self.compile().manifest
        return manifest

    def to_json(self, **kwargs: Any) -> str:
        """Return its manifest as JSON; ``kwargs`` go to ``json.dumps``."""
        import json

        return json.dumps(self.to_dict(), **kwargs)

    def to_yaml(self, target: Optional[str] = None, **_kwargs: Any) -> str:
        """Return its manifest as YAML.

        Args:
            target: None: as both engines take it. ``"argo"``: as Argo alone can run it; refused while a step is placed
                on a machine.
            **_kwargs: Accepted for dflow's sake.
        """
        from dflow_hpc.manifest.text import dump  # PyYAML

        manifest = self.to_dict()
        if target is None:
            return dump(manifest)
        if target != "argo":
            raise ModelError(f"to_yaml(target={target!r}) was asked for; known are None and 'argo'.")
        placed = [
            template["name"]
            for template in manifest["spec"]["templates"]
            if "dflow-hpc/machine" in (template.get("metadata") or {}).get("annotations", {})
        ]
        if placed:
            raise ModelError(
                "to_yaml(target='argo') was asked for; the templates {} are placed on machines, which Argo does not "
                "know. Run it locally, or leave out `executor=`.".format(", ".join(placed))
            )
        keys = sorted(set(_bundle_keys(manifest)))
        head = "".join(
            f"# Publish first: the code bundle as object {key} of the artifact repository.\n" for key in keys
        )
        return head + dump(manifest)

    @classmethod
    def from_dict(cls, manifest: Dict[str, Any]) -> "Workflow":
        """Return a workflow that is a finished manifest: it can be submitted and asked about, not added to."""
        metadata = manifest.get("metadata") or {}
        name = str(metadata.get("generateName") or metadata.get("name") or "workflow").rstrip("-")
        workflow = cls(name, id=metadata.get("name"), namespace=metadata.get("namespace"))
        workflow.manifest = manifest
        return workflow

    @classmethod
    def from_json(cls, text: str) -> "Workflow":
        """Return the workflow of a manifest in JSON."""
        import json

        return cls.from_dict(json.loads(text))

    @classmethod
    def from_yaml(cls, text: str) -> "Workflow":
        """Return the workflow of a manifest in YAML.

        Raises:
            ModelError: There is not exactly one Workflow in it.
        """
        from dflow_hpc.manifest.text import load

        found = load(text).workflows
        if len(found) != 1:
            raise ModelError(f"from_yaml was given {len(found)} Workflows; it takes one.")
        return cls.from_dict(found[0])

    # -- running -----------------------------------------------------------------------------------------------------

    def submit(self, reuse_step: Any = None) -> Any:
        """Submit it. Locally this runs it to its end, unless ``config["detach"]``; failed steps are printed.

        Args:
            reuse_step: Steps of an earlier run (``query_step``); those whose key occurs again are not run.

        Returns:
            The run as it is then (``ArgoWorkflow``); its ``id`` is also ``workflow.id``.

        Raises:
            CompileError: It cannot become a manifest, or Argo would refuse it.
            EngineError: The engine does not take it.
        """
        from dflow_hpc.manifest.validate import problem_of
        from dflow_hpc.op.loader import forbid_while_loading

        forbid_while_loading("submit")
        compiled = self.compile()
        problem = problem_of(compiled.manifest) if self.manifest is None else ""
        if problem:
            raise CompileError(f"{self.title} was to be submitted{at(self.where)}; Argo would refuse it: {problem}.")
        engine = self._engine()
        reuse = whole([step for step in reuse_step or [] if step.key], engine.query)
        self.id = engine.submit(compiled, id=self.id, detach=bool(config["detach"]), reuse=reuse)
        self.submitted = True
        result = self.query()
        self.uid = result.uid
        return result

    def run(self, reuse_step: Any = None, timeout: Optional[float] = None) -> Any:
        """Submit it, wait for its end, and raise unless it succeeded.

        Args:
            reuse_step: As for ``submit``.
            timeout: Seconds to wait at most.

        Returns:
            The run (``ArgoWorkflow``).

        Raises:
            WorkflowFailed: It ended otherwise, or had not ended in time.
        """
        self.submit(reuse_step=reuse_step)
        phase = self._engine().wait(self._id(), timeout)
        result = self.query()
        if phase != "Succeeded":
            message = (result.get("status") or {}).get("message")
            raise WorkflowFailed(
                "workflow {} was run; it ended as {}{}. See `dflow-hpc get {}`, then `dflow-hpc retry {}`.".format(
                    self.id, phase, ": " + message if message else "", self.id, self.id
                )
            )
        return result

    def wait(self, interval: float = 1) -> str:  # noqa: ARG002
        """Wait for its end and return its phase.

        Args:
            interval: Accepted for dflow's sake; the engine knows how to wait.
        """
        phase: str = self._engine().wait(self._id())
        return phase

    def query(self, fields: Optional[List[str]] = None, retry: int = 3) -> Any:  # noqa: ARG002
        """Return its run (``ArgoWorkflow``): metadata, spec and status.

        Args:
            fields: Accepted for dflow's sake; all fields are returned.
            retry: Accepted for dflow's sake.
        """
        from dflow_hpc.manifest.result import ArgoWorkflow

        return ArgoWorkflow(self._engine().query(self._id()))

    def query_status(self) -> str:
        """Return its phase: Pending, Running, Succeeded, Failed or Error."""
        return str((self._engine().query(self._id()).get("status") or {}).get("phase") or "Pending")

    def query_step(self, *args: Any, **kwargs: Any) -> List[Any]:
        """Return steps of its run; filters as for ``ArgoWorkflow.get_step``: name, key, phase, id, type, parent_id."""
        found: List[Any] = self.query().get_step(*args, **kwargs)
        return found

    def query_step_by_key(
        self, key: Any, name: Any = None, phase: Any = None, id: Any = None, type: Any = None
    ) -> List[Any]:
        """Return the steps with these keys; the filters are as for ``query_step``."""
        return self.query_step(name=name, key=key, phase=phase, id=id, type=type)

    def query_keys_of_steps(self) -> List[str]:
        """Return the keys of all its steps that have one."""
        return [step.key for step in self.query_step() if step.key is not None]

    def query_global_outputs(self) -> Any:
        """Return what it published by ``global_name``: an object with ``.parameters`` and ``.artifacts``, or None."""
        from dflow_hpc.manifest.result import global_outputs

        return global_outputs(self._engine().query(self._id()))

    def terminate(self) -> None:
        """End its leaves at once."""
        self._engine().terminate(self._id())

    def stop(self) -> None:
        """End its leaves and run its exit handlers."""
        self._engine().stop(self._id())

    def suspend(self) -> None:
        """Start nothing more until ``resume``."""
        self._engine().suspend(self._id())

    def resume(self) -> None:
        """Go on after ``suspend``, or after the death of the process that ran it."""
        self._engine().resume(self._id())

    def retry(self) -> None:
        """Run what failed again, and keep what succeeded."""
        self._engine().retry(self._id())

    def delete(self) -> None:
        """Remove its run with its artifacts."""
        self._engine().delete(self._id())

    def resubmit(self) -> Any:
        """Submit it again, as a new run."""
        self._id()
        self.id = None
        return self.submit()

    def _engine(self) -> Any:
        names = ("namespace", "token", "k8s_config_file", "k8s_api_server", "host")
        where = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return hooks.resolve("engine")(config["mode"]).at(**where)

    def _id(self) -> str:
        if self.id is None:
            raise EngineError(
                f"{self.title} was asked about its run; it was not submitted. Call submit(), or give the id of a run: "
                "Workflow(id=...)."
            )
        return self.id


def query_workflows(
    labels: Optional[Dict[str, str]] = None,
    fields: Optional[List[str]] = None,  # noqa: ARG001
) -> List[Any]:
    """Return the runs that the engine knows (``ArgoWorkflow``).

    Args:
        labels: Only those with these labels.
        fields: Accepted for dflow's sake.
    """
    from dflow_hpc.manifest.result import ArgoWorkflow

    found = []
    engine = hooks.resolve("engine")(config["mode"])
    for run in engine.list_runs():
        data = engine.query(run.id)
        own = (data.get("metadata") or {}).get("labels") or {}
        if all(own.get(key) == value for key, value in (labels or {}).items()):
            found.append(ArgoWorkflow(data))
    return found


def _parameter(value: Any) -> InputParameter:
    return value if isinstance(value, InputParameter) else InputParameter(value=value)


def _names(given: Any) -> List[str]:
    if given is None:
        return []
    items = given if isinstance(given, (list, tuple)) else [given]
    return [str(getattr(item, "name", item)) for item in items]


def _bundle_keys(manifest: Dict[str, Any]) -> List[str]:
    return [
        artifact["s3"]["key"]
        for template in manifest["spec"]["templates"]
        for artifact in (template.get("inputs") or {}).get("artifacts") or []
        if artifact["name"] == "dflow_python_packages"
    ]
