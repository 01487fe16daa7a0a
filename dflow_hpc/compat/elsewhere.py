"""What dflow sends elsewhere and dflow_hpc does not: its plugins for services, and names without any counterpart.

Programs import these at their heads and often need none of them: their executor is chosen by a settings file, their
storage client belongs to a branch not taken. So importing works, and so does building what only keeps its arguments.
It is refused where it would be needed: an executor when the workflow is compiled (before anything runs), a storage
client when a file is asked of it, and a name without a counterpart when it is called.

Not here: behaviour. Nothing of this module talks to a machine or a service; executors for clusters are in
``executors.py``.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

from functools import lru_cache
from typing import Any, Dict, Optional, Type

from dflow_hpc.compat.names import PLACE
from dflow_hpc.errors import CompileError, DflowError, StorageError
from dflow_hpc.model.executor import Executor
from dflow_hpc.storage.objects import StorageClient


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


class BohriumExecutor(ElsewhereExecutor):
    """dflow's executor and context for Bohrium, and for Lebesgue before it."""

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


class RayClusterExecutor(ElsewhereExecutor):
    """dflow's executor for a Ray cluster."""

    def __init__(self, ray_host: str, ray_remote_path: str = "/tmp/ray", **given: Any):  # noqa: S108  (dflow's default)
        super().__init__(ray_host=ray_host, ray_remote_path=ray_remote_path, **given)


datasets_config: Dict[str, Any] = {}
"""``dflow.plugins.datasets.config``: programs write their account into it. Nobody reads it here."""


class _ElsewhereClient(StorageClient):
    """Keeps what a storage client of dflow was given, and refuses when a file is asked of it.

    Args:
        **given: The account; each becomes an attribute.
    """

    def __init__(self, **given: Any):
        vars(self).update(given)

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise StorageError(
            f"a file was asked of {type(self).__name__}, whose service dflow_hpc does not speak to. Set "
            "s3_config['storage_client'] to None, and s3_config['endpoint'] to an S3 server."
        )

    upload = download = list = copy = get_md5 = _refuse


class TiefblueClient(_ElsewhereClient):
    """dflow's client of Bohrium's storage; runs on this machine need none."""


class OSSClient(_ElsewhereClient):
    """dflow's client of Aliyun's object storage; runs on this machine need none."""

    def __init__(self, endpoint: Optional[str] = None, bucket_name: Optional[str] = None, **given: Any):
        super().__init__(endpoint=endpoint, bucket_name=bucket_name, **given)


class _Refusing(type):
    """The class of stand-ins: refuses what is asked of one by name, such as ``DatasetsArtifact.from_urn(...)``."""

    advice: str

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise DflowError(f"{cls.__name__}.{name} was asked for; {cls.advice}")


@lru_cache
def stand_in(name: str, advice: str) -> Type[Any]:
    """Return a class that can be imported, subclassed and asked for by ``isinstance``, and never called.

    Args:
        name: A name that dflow has and dflow_hpc has not.
        advice: What to use instead.
    """

    def refuse(cls: Type[Any], *_: Any, **__: Any) -> Any:
        raise DflowError(f"{cls.__name__} was called; {cls.advice}")

    advice = f"dflow_hpc has no counterpart of dflow's {name}. {advice}"
    return _Refusing(name, (), {"__new__": refuse, "advice": advice, "__doc__": advice, "__module__": __name__})
