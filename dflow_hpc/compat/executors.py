"""dflow's executors for clusters: each places its steps on a machine that it describes itself.

``DispatcherExecutor`` (dpdispatcher's dicts), ``SlurmRemoteExecutor``, ``RemoteExecutor``: the profile is made when the
workflow is compiled, and travels beside the manifest. ``SlurmJobTemplate`` asks for the machine whose profile has
``via = "node"``. Each argument is translated, or has no effect because nothing here does what it steers (there is no
pod of the dispatcher, so its ``image`` and ``command`` are of no use), or is refused by name when the workflow is
compiled. docs/from-dflow.md has the table.

Not here: dpdispatcher's keys (``executors/profiles/dpdispatcher.py``), and what runs on the machine.

Traps: the signatures matter, because programs read them (``inspect.signature(DispatcherExecutor.__init__)``) to pick
their settings. A program is loaded on the machine too, where none of its files lie: nothing is read before ``render``.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import copy
import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Union

from dflow_hpc.config import config
from dflow_hpc.errors import CompileError, ConfigError
from dflow_hpc.model.executor import Executor, MachineExecutor
from dflow_hpc.model.python_template import PythonOPTemplate
from dflow_hpc.model.templates import ScriptOPTemplate, as_command

Command = Union[str, List[str], None]

VIA_NODE = "via=node"
"""The machine that ``SlurmJobTemplate`` asks for."""
_RUNTIMES = ("docker", "singularity", "podman")
_WORKDIR = "dflow/workflows/{{workflow.name}}/{{pod.name}}"
_OVERRIDES = ("execute", "upload", "download", "run", "get_script", "mkdir_and_download", "upload_if_exists")
_HERE = (
    "it would run in the dispatcher's pod, and there is none. Put it into the OP, or into prepend_script of resources"
)
_REFUSED = {
    "pre_script": _HERE,
    "post_script": _HERE,
    "merge_bohrium_job_group": "there is no Bohrium here",
    "terminate_grace_period": "a job that is ended gives no outputs",
    "pvc": "the run's journal knows the job; no volume is needed",
    "prepare": "inputs go to the machine by themselves",
    "results": "outputs come back by themselves",
}
_PYTHON = (
    'mkdir -p "$DFH_LEAF/.python"; '
    "printf '#!/bin/sh\\nPATH='\\''%s'\\''\\nexport PATH\\nexec %s \"$@\"\\n' \"$PATH\" {} "
    '>"$DFH_LEAF/.python/python3"; chmod +x "$DFH_LEAF/.python/python3"; PATH="$DFH_LEAF/.python:$PATH"'
)
"""A setup line that makes ``python3`` mean a command of the user's."""


class PlacingExecutor(Executor):
    """Keeps what an executor of dflow was given, and places the templates that it gets on a machine.

    Args:
        **given: The arguments; each becomes an attribute.
    """

    def __init__(self, **given: Any):
        vars(self).update(given)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def machine_for(self, template: Any) -> Optional[MachineExecutor]:
        """Return where a template goes; None for one that is no script.

        Raises:
            CompileError: Something that the executor was given has no counterpart.
        """
        if not isinstance(template, ScriptOPTemplate):
            return None
        for name, reason in _REFUSED.items():
            value = getattr(self, name, None)
            if value:
                what = f"{template.title} was given to {type(self).__name__}"
                raise CompileError(f"{what}: {name}={value!r} has no counterpart: {reason}.")
        try:
            return self._machine(template)
        except ConfigError as error:
            raise CompileError(f"{template.title} was given to {type(self).__name__}: {error}") from error

    def render(self, template: Any) -> Any:
        """Return the template with its place on it."""
        machine = self.machine_for(template)
        return template if machine is None else machine.render(template)

    def _machine(self, template: ScriptOPTemplate) -> MachineExecutor:
        raise NotImplementedError

    def _runtime(self) -> Dict[str, Any]:
        """Return the keys of a profile that run the template's image."""
        given: Dict[str, str] = {}
        for name in _RUNTIMES:
            if getattr(self, name + "_executable", None):
                given[name] = getattr(self, name + "_executable")
        if not given:
            if not getattr(self, "map_tmp_dir", True):
                raise ConfigError(
                    "map_tmp_dir=False without a container has no counterpart: a step always gets the paths that it "
                    "declares. Leave it out."
                )
            return {}
        if len(given) > 1:
            raise ConfigError(f"{' and '.join(given)} were given; images are run by one of them.")
        [(name, executable)] = given.items()
        if Path(executable).name != name:
            raise ConfigError(
                f"{name}_executable={executable!r} is no {name}. Give its path, or describe the machine in a profile."
            )
        found: Dict[str, Any] = {"runtime": name}
        if "/" in executable:
            found["setup"] = [f"PATH={shlex.quote(str(Path(executable).parent))}:$PATH"]
        if getattr(self, "container_args", ""):
            found["runtime_options"] = shlex.split(self.container_args)
        return found

    def _placed(
        self,
        template: ScriptOPTemplate,
        profile: Mapping[str, Any],
        resources: Mapping[str, Any],
        envs: Optional[Mapping[str, Any]] = None,
        **given: Any,
    ) -> MachineExecutor:
        """Return the machine of a profile, for the template and what it is run by."""
        words = as_command(getattr(self, "remote_command", None) or template.command)
        text = " ".join(words)
        profile = {
            **profile,
            **self._runtime(),
            "setup": [*profile.get("setup", ()), *self._runtime().get("setup", ())],
        }
        if isinstance(template, PythonOPTemplate) and text != "python3":
            profile["setup"].append(_PYTHON.format(shlex.quote(text)))
        if not profile["setup"]:
            del profile["setup"]
        command = None if isinstance(template, PythonOPTemplate) else _shell_words(words)
        return _Machine(profile["scheduler"], command, dict(envs or {}), profile=profile, **given, **resources)


class _Machine(MachineExecutor):
    """A machine, with a command and variables that a template gets there."""

    def __init__(self, name: str, command: Optional[List[str]], envs: Dict[str, Any], **given: Any):
        super().__init__(name, **given)
        self.command, self.envs = command, envs

    def render(self, template: Any) -> Any:
        new = super().render(template)
        new.envs = {**self.envs, **new.envs}
        new.image = new.image or config["util_image"]
        if self.command is not None:
            new.command = self.command
        return new


def _shell_words(words: List[str]) -> List[str]:
    """Return a command as words; dflow writes it into a shell script, so one word may be a whole line."""
    if all(re.fullmatch(r"[\w@%+=:,./-]+", word, re.ASCII) for word in words):
        return words
    return ["sh", "-c", " ".join(words) + ' "$0"']


def _root(workdir: str) -> Dict[str, str]:
    """Return the root of a machine, from the directory that dflow makes for each pod."""
    root = workdir.partition("{{")[0].rstrip("/")
    root = root[2:] if root.startswith("~/") else root
    return {"root": root} if root not in ("", "~") else {}


class DispatcherExecutor(PlacingExecutor):
    """dflow's executor that submits by dpdispatcher; its dicts are understood, dpdispatcher is not needed."""

    def __init__(
        self,
        host: Optional[str] = None,
        queue_name: Optional[str] = None,
        port: int = 22,
        username: str = "root",
        password: Optional[str] = None,
        private_key_file: Any = None,
        image: Optional[str] = None,
        image_pull_policy: Optional[str] = None,
        command: Command = "python3",
        remote_command: Command = None,
        map_tmp_dir: bool = True,
        machine_dict: Optional[Dict[str, Any]] = None,
        resources_dict: Optional[Dict[str, Any]] = None,
        task_dict: Optional[Dict[str, Any]] = None,
        json_file: Any = None,
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
        self.json_file = None if json_file is None else Path(json_file).absolute()

    def dicts(self) -> Dict[str, Dict[str, Any]]:
        """Return dpdispatcher's ``machine``, ``resources`` and ``task``: dflow's defaults, the file, the arguments.

        Raises:
            ConfigError: The file cannot be read.
        """
        remote = {"hostname": self.host, "username": self.username, "port": self.port}
        remote.update({"password": self.password} if self.password is not None else {})
        remote.update({"key_filename": str(self.private_key_file)} if self.private_key_file is not None else {})
        machine = {"batch_type": "Slurm", "context_type": "SSHContext", "remote_profile": remote}
        machine["remote_root"] = self.remote_root or _WORKDIR.partition("/{{")[0]
        resources = {"queue_name": self.queue_name} if self.queue_name is not None else {}
        found: Dict[str, Dict[str, Any]] = {"machine": machine, "resources": resources, "task": {}}
        given = {"machine": self.machine_dict, "resources": self.resources_dict, "task": self.task_dict}
        file = self._file()
        for name, values in found.items():
            _update(values, file.get(name) or {})
            _update(values, given[name] or {})
        return found

    def _file(self) -> Dict[str, Any]:
        if self.json_file is None:
            return {}
        try:
            found: Dict[str, Any] = json.loads(self.json_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"json_file names {self.json_file}, which cannot be read: {error}") from error
        return {name: found[name] for name in ("machine", "resources") if name in found}  # as dflow reads it

    def _machine(self, template: ScriptOPTemplate) -> MachineExecutor:
        from dflow_hpc.executors.profiles.dpdispatcher import translate  # on the author's side only

        dicts = self.dicts()
        found = translate(dicts["machine"], dicts["resources"], dicts["task"], grouped=self.merge_sliced_step)
        own = {"DFLOW_WORKFLOW": "{{workflow.name}}", "DFLOW_POD": "{{pod.name}}", "PYTHONUNBUFFERED": "true"}
        envs = {**own, **(self.envs or {})}
        given = {"password": found.password, "notices": found.notices}
        return self._placed(template, found.profile, found.resources, envs, **given)


def _update(target: Dict[str, Any], source: Mapping[str, Any]) -> None:
    for key, value in source.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _update(target[key], value)
        else:
            target[key] = copy.deepcopy(value)


class RemoteExecutor(PlacingExecutor):
    """dflow's executor that runs a script over SSH: here a background process of that host."""

    scheduler = "shell"

    def __init__(
        self,
        host: str,
        port: int = 22,
        username: str = "root",
        password: Optional[str] = None,
        private_key_file: Any = None,
        workdir: str = "~/" + _WORKDIR,
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

    def _machine(self, template: ScriptOPTemplate) -> MachineExecutor:
        from dflow_hpc.executors.profiles.directives import Directives  # on the author's side only
        from dflow_hpc.executors.profiles.dpdispatcher import ssh_profile

        for name in _OVERRIDES:
            if hasattr(self, name):
                raise ConfigError(f"its method {name}() has no counterpart: how a machine is reached is a profile's.")
        profile: Dict[str, Any] = {"scheduler": self.scheduler, **_root(self.workdir)}
        profile.update(ssh_profile(self.host, self.username, int(self.port), self.private_key_file))
        directives = Directives().add(getattr(self, "header", "").splitlines())
        profile.update({"setup": directives.setup} if directives.setup else {})
        given = {"password": self.password, "notices": directives.notices}
        return self._placed(template, profile, directives.resources, **given)


class SlurmRemoteExecutor(RemoteExecutor):
    """dflow's executor that submits to Slurm over SSH; ``header`` holds ``#SBATCH`` lines, and lines to run first."""

    scheduler = "slurm"

    def __init__(
        self,
        host: str,
        port: int = 22,
        username: str = "root",
        password: Optional[str] = None,
        private_key_file: Any = None,
        workdir: str = "~/" + _WORKDIR,
        command: Command = None,
        remote_command: Command = None,
        image: Optional[str] = None,
        image_pull_policy: Optional[str] = None,
        map_tmp_dir: bool = True,
        docker_executable: Optional[str] = None,
        singularity_executable: Optional[str] = None,
        podman_executable: Optional[str] = None,
        action_retries: int = -1,
        header: str = "",
        interval: int = 3,
        pvc: Any = None,
    ):
        super().__init__(**{name: value for name, value in locals().items() if name not in ("self", "__class__")})


class ContainerExecutor(PlacingExecutor):
    """dflow's executor that runs a step's image on this host: a machine without a login."""

    def __init__(
        self,
        docker: Optional[str] = None,
        singularity: Optional[str] = None,
        podman: Optional[str] = None,
        image_pull_policy: Optional[str] = None,
    ):
        super().__init__(docker_executable=docker, singularity_executable=singularity, podman_executable=podman)
        self.docker, self.singularity, self.podman = docker, singularity, podman
        self.image_pull_policy = image_pull_policy

    def _machine(self, template: ScriptOPTemplate) -> MachineExecutor:
        if self.image_pull_policy == "Always":
            raise ConfigError("image_pull_policy='Always' has no counterpart: pull the image by hand when it is new.")
        return self._placed(template, {"scheduler": "shell", "transport": "local"}, {})


class SlurmJobTemplate(PlacingExecutor):
    """dflow's executor for a virtual node: the machine whose profile has ``via = "node"``."""

    def __init__(
        self,
        header: str = "",
        node_selector: Optional[Dict[str, str]] = None,
        prepare_image: Optional[str] = None,
        prepare_image_pull_policy: Optional[str] = None,
        collect_image: Optional[str] = None,
        collect_image_pull_policy: Optional[str] = None,
        workdir: str = _WORKDIR,
        remote_command: Command = None,
        docker_executable: Optional[str] = None,
        singularity_executable: Optional[str] = None,
        podman_executable: Optional[str] = None,
        **given: Any,
    ):
        named = {name: value for name, value in locals().items() if name not in ("self", "__class__", "given")}
        super().__init__(**named, **given)

    def _machine(self, template: ScriptOPTemplate) -> MachineExecutor:
        from dflow_hpc.executors.profiles.directives import Directives  # on the author's side only

        directives = Directives().add(self.header.splitlines())
        if directives.setup:
            raise ConfigError(
                f"header holds {directives.setup[0]!r}, which is no directive. The node's machine has a profile: put "
                "it into `setup` there."
            )
        if self._runtime():
            raise ConfigError("what runs images on the node's machine is said in its profile: runtime = ...")
        words = as_command(self.remote_command or template.command)
        command = None if isinstance(template, PythonOPTemplate) else _shell_words(words)
        return _Machine(VIA_NODE, command, {}, notices=directives.notices, **directives.resources)


class SlurmJob(SlurmJobTemplate):
    """dflow's resource for a virtual node, ``Step(..., use_resource=SlurmJob(...))``."""

    def __init__(
        self,
        header: str = "",
        node_selector: Optional[Dict[str, str]] = None,
        prepare: Any = None,
        results: Any = None,
        map_tmp_dir: bool = True,
        workdir: str = ".",
        remote_command: Command = None,
        docker_executable: Optional[str] = None,
        singularity_executable: Optional[str] = None,
        podman_executable: Optional[str] = None,
    ):
        super().__init__(**{name: value for name, value in locals().items() if name not in ("self", "__class__")})
