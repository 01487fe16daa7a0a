"""What dflow sends elsewhere: its executors, its plugins for Bohrium, and names that have no counterpart at all.

Programs import these at their heads and often need none of them: their executor is chosen by a settings file, their
storage client belongs to a branch not taken. So importing works, and so does building what only keeps its arguments.
It is refused where it would be needed: an executor when the workflow is compiled (before anything runs), a storage
client when a file is asked of it, and a name without a counterpart when it is called.

Not here: behaviour. Nothing of this module talks to a machine or a service.

The trap: the signatures matter, because programs read them (``inspect.signature(DispatcherExecutor.__init__)``) to
pick their settings.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

from functools import lru_cache
from typing import Any, Dict, List, Optional, Type, Union

from dflow_hpc.compat.names import PLACE
from dflow_hpc.errors import CompileError, DflowError, StorageError
from dflow_hpc.model.executor import Executor
from dflow_hpc.storage.objects import StorageClient

Command = Union[str, List[str], None]


class ElsewhereExecutor(Executor):
    """Keeps what an executor of dflow was given, and refuses the step that has it when that step is compiled.

    Args:
        **given: The arguments; each becomes an attribute.
    """

    advice = PLACE

    def __init__(self, **given: Any):
        vars(self).update(given)

    def render(self, template: Any) -> Any:
        """Refuse.

        Raises:
            CompileError: Always.
        """
        raise CompileError(
            f"the template {template.name} was given to {type(self).__name__}, an executor of dflow that dflow_hpc "
            f"does not carry out. {self.advice} Without `executor=` the step runs here."
        )


class DispatcherExecutor(ElsewhereExecutor):
    """dflow's executor that submits by dpdispatcher."""

    def __init__(
        self,
        host: Optional[str] = None,
        queue_name: Optional[str] = None,
        port: int = 22,
        username: str = "root",
        password: Optional[str] = None,
        private_key_file: Optional[str] = None,
        image: Optional[str] = None,
        image_pull_policy: Optional[str] = None,
        command: Command = "python3",
        remote_command: Command = None,
        map_tmp_dir: bool = True,
        machine_dict: Optional[Dict[str, Any]] = None,
        resources_dict: Optional[Dict[str, Any]] = None,
        task_dict: Optional[Dict[str, Any]] = None,
        json_file: Optional[str] = None,
        docker_executable: Optional[str] = None,
        singularity_executable: Optional[str] = None,
        container_args: str = "",
        podman_executable: Optional[str] = None,
        remote_root: Optional[str] = None,
        retry_on_submission_error: Optional[int] = None,
        merge_sliced_step: bool = False,
        pre_script: str = "",
        post_script: str = "",
        clean: bool = True,
        remove_scheduling_strategies: bool = True,
        envs: Optional[Dict[str, str]] = None,
        merge_bohrium_job_group: bool = False,
        terminate_grace_period: Optional[int] = None,
    ):
        super().__init__(**{name: value for name, value in locals().items() if name not in ("self", "__class__")})


class RemoteExecutor(ElsewhereExecutor):
    """dflow's executor that runs a script over SSH."""

    def __init__(
        self,
        host: str,
        port: int = 22,
        username: str = "root",
        password: Optional[str] = None,
        private_key_file: Optional[str] = None,
        workdir: str = "~/dflow/workflows/{{workflow.name}}/{{pod.name}}",
        command: Command = None,
        remote_command: Command = None,
        image: Optional[str] = None,
        image_pull_policy: Optional[str] = None,
        map_tmp_dir: bool = True,
        docker_executable: Optional[str] = None,
        singularity_executable: Optional[str] = None,
        podman_executable: Optional[str] = None,
        action_retries: int = -1,
        **given: Any,
    ):
        named = {name: value for name, value in locals().items() if name not in ("self", "__class__", "given")}
        super().__init__(**named, **given)


class SlurmRemoteExecutor(RemoteExecutor):
    """dflow's executor that submits to Slurm over SSH."""

    def __init__(self, host: str, *args: Any, header: str = "", interval: int = 3, pvc: Any = None, **given: Any):
        super().__init__(host, *args, header=header, interval=interval, pvc=pvc, **given)


class SlurmJobTemplate(ElsewhereExecutor):
    """dflow's executor for Slurm nodes of the wlm-operator."""

    def __init__(self, header: str = "", node_selector: Optional[Dict[str, str]] = None, **given: Any):
        super().__init__(header=header, node_selector=node_selector, **given)


class ContainerExecutor(ElsewhereExecutor):
    """dflow's executor that starts a container on this machine."""

    advice = "Set `image` on the template and config['runtime'] to podman, docker or apptainer."

    def __init__(
        self,
        docker: Optional[str] = None,
        singularity: Optional[str] = None,
        podman: Optional[str] = None,
        image_pull_policy: Optional[str] = None,
    ):
        super().__init__(docker=docker, singularity=singularity, podman=podman, image_pull_policy=image_pull_policy)


class BohriumExecutor(ElsewhereExecutor):
    """dflow's executor for Bohrium, and for Lebesgue before it."""

    def __init__(self, executor: Optional[str] = None, extra: Optional[Dict[str, Any]] = None, **given: Any):
        super().__init__(executor=executor, extra=extra, **given)


bohrium_config: Dict[str, Any] = {
    "bohrium_url": "https://bohrium.dp.tech",
    "username": None,
    "phone": None,
    "password": None,
    "authorization": None,
    "project_id": None,
    "tiefblue_url": "https://tiefblue.dp.tech",
    "ticket": None,
    "upload_progress": False,
    "access_key": None,
    "openapi_url": "https://openapi.dp.tech",
    "app_key": None,
}
"""``dflow.plugins.bohrium.config``: programs write their account into it. Nobody reads it here."""


class TiefblueClient(StorageClient):
    """dflow's client of Bohrium's storage; runs on this machine need none.

    Args:
        **given: The account; each becomes an attribute.
    """

    def __init__(self, **given: Any):
        vars(self).update(given)

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise StorageError(
            "a file was asked of Bohrium's storage (TiefblueClient), which dflow_hpc does not speak to. Set "
            "s3_config['storage_client'] to None, and s3_config['endpoint'] to an S3 server."
        )

    upload = download = list = copy = get_md5 = _refuse


@lru_cache
def stand_in(name: str, advice: str) -> Type[Any]:
    """Return a class that can be imported, subclassed and asked for by ``isinstance``, and never called.

    Args:
        name: A name that dflow has and dflow_hpc has not.
        advice: What to use instead.
    """

    def refuse(cls: Type[Any], *_: Any, **__: Any) -> Any:
        raise DflowError(f"{cls.__name__} was called; dflow_hpc has no counterpart of dflow's {name}. {advice}")

    return type(name, (), {"__new__": refuse, "__doc__": f"dflow's {name}: {advice}", "__module__": __name__})
