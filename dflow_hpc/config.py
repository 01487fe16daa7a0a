"""Settings: layered, each value knowing its layer, seen as dflow's two mutable dicts.

Order, highest first: what the program assigns, the environment (``DFLOW_*``), ``dflow.toml`` beside the program, the
user's ``dflow.toml`` in the XDG configuration directory, the default here. ``dflow-hpc config`` prints them with
their layers.

Not here: machines (``executors/profiles/machine.py``), and anything secret that is not a user's own S3 or API
credential.
Reading a TOML file needs Python 3.11's ``tomllib``; on the other side of a machine there is none to read.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import json
import os
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple

from dflow_hpc.errors import ConfigError


def boolize(text: str) -> bool:
    """Read dflow's booleans: ``""``, ``"0"`` and ``"false"`` are false, any other text is true."""
    return text.strip().lower() not in ("", "0", "false")


def nullable(text: str) -> Optional[str]:
    """Read a text where ``"none"`` means nothing."""
    return None if text.strip().lower() == "none" else text


def split_headers(text: str) -> Dict[str, str]:
    """Read HTTP headers written as ``name:value;name:value``."""
    pairs = (item.split(":", 1) for item in text.split(";") if ":" in item)
    return {name.strip(): value.strip() for name, value in pairs}


def _integer(text: str) -> Optional[int]:
    value = nullable(text)
    return None if value is None else int(value)


class Setting(NamedTuple):
    """One setting: its default, how its text is read, and what it means."""

    default: Any
    read: Callable[[str], Any]
    meaning: str


SETTINGS: Mapping[str, Setting] = {
    "mode": Setting("debug", str, "engine of `python FILE`: debug (this machine) or argo; dflow's `default` is argo"),
    "host": Setting("https://127.0.0.1:2746", str, "address of the Argo Server"),
    "namespace": Setting("argo", str, "namespace of the workflows"),
    "token": Setting(None, nullable, "bearer token for Argo and Kubernetes"),
    "k8s_config_file": Setting(None, nullable, "path of a kubeconfig"),
    "k8s_context": Setting(None, nullable, "context of the kubeconfig; none: its current one"),
    "k8s_api_server": Setting(None, nullable, "address of the Kubernetes API, instead of a kubeconfig"),
    "k8s_ca_file": Setting(None, nullable, "certificate of the authority that k8s_api_server is to be trusted by"),
    "http_headers": Setting({}, split_headers, "headers added to each call to Argo and Kubernetes"),
    "workflow_annotations": Setting({}, json.loads, "annotations of each workflow"),
    "archive_mode": Setting("tar", nullable, "how artifacts are archived unless they say: tar, or none"),
    "catalog_dir_name": Setting(".dflow", str, "directory of the catalogue in an artifact"),
    "save_path_as_parameter": Setting(False, boolize, "keep each artifact's path list as a parameter too"),
    "detect_empty_dir": Setting(True, boolize, "mark empty directories in artifacts, so that they arrive"),
    "python_image": Setting("python:3.8", str, "image of Python OPs that name none"),
    "util_image": Setting("python:3.8", str, "image of helper steps"),
    "util_image_pull_policy": Setting(None, nullable, "pull policy of that image"),
    "bridge_image": Setting("dflow-hpc", str, "image, with this package, of the pods that hand steps to machines"),
    "raise_for_group": Setting(False, boolize, "default of Slices(raise_for_group=)"),
    "detach": Setting(False, boolize, "submit() returns at once; the run goes on in a process of its own"),
    "debug_workdir": Setting(".", str, "directory in which local runs lie"),
    "debug_artifact_dir": Setting(".", str, "directory of uploaded artifacts, below debug_workdir"),
    "debug_copy_method": Setting(
        None,
        nullable,
        "how inputs are staged: symlink, link, copy, small (copies up to 1 MiB), none: cheapest safe",
    ),
    "debug_pool_workers": Setting(None, _integer, "leaves that run at once; none: as many as cores, -1: no limit"),
    "debug_failfast": Setting(False, boolize, "stop a local run at the first failed step"),
    "debug_s3": Setting(False, boolize, "local runs keep their artifacts in S3"),
    "runtime": Setting(None, nullable, "how containers of foreign manifests run: host, podman, docker, apptainer"),
    "place": Setting(
        [], lambda text: text.split(";"), "steps to run elsewhere, as STEP=MACHINE;..., STEP=local is here"
    ),
    "isolation": Setting("fork", str, "how a Python OP's process is made: fork (from a zygote) or spawn"),
    "bundle_max_file": Setting(4 << 20, int, "data files beside the author's code above this size (bytes) stay behind"),
}

S3_SETTINGS: Mapping[str, Setting] = {
    "endpoint": Setting("127.0.0.1:9000", str, "host:port of the object storage"),
    "console": Setting("http://127.0.0.1:9001", str, "its web page"),
    "access_key": Setting("admin", str, "access key"),
    "secret_key": Setting("password", str, "secret key"),
    "secure": Setting(False, boolize, "use TLS"),
    "bucket_name": Setting("my-bucket", str, "bucket"),
    "repo_key": Setting(None, nullable, "key of Argo's artifact repository ConfigMap to take all this from"),
    "repo_type": Setting("s3", str, "kind of that repository"),
    "repo_prefix": Setting("", str, "prefix that the repository adds to keys"),
    "prefix": Setting("", str, "prefix added to each key that does not have it"),
    "storage_client": Setting(None, nullable, "dotted name of a storage client class"),
    "extra_prefixes": Setting([], lambda text: text.split(";"), "prefixes that are accepted as they are"),
}


class Settings(Dict[str, Any]):
    """A dict of settings that knows where each value came from.

    Unknown keys are accepted, as dflow does: plugins keep theirs here.
    """

    def __init__(self, table: Mapping[str, Setting], environment_prefix: str, files: Tuple[Tuple[str, Any], ...]):
        super().__init__()
        self._layers: Dict[str, str] = {}
        self._variables = {name: environment_prefix + name.upper() for name in table}
        for name, setting in table.items():
            self._put(name, setting.default, "default")
            for layer, values in reversed(files):
                if name in values:
                    self._put(name, values[name], layer)
            variable = self._variables[name]
            if variable in os.environ:
                try:
                    value = setting.read(os.environ[variable])
                except ValueError as error:
                    raise ConfigError(
                        f"environment variable {variable} was read for the setting {name!r} ({setting.meaning}); "
                        f"found {os.environ[variable]!r}: {error}"
                    ) from error
                self._put(name, value, "environment " + variable)

    def _put(self, name: str, value: Any, layer: str) -> None:
        # Mutable defaults are copied: a user's config["http_headers"]["x"] = "y" must not change the table.
        super().__setitem__(name, value.copy() if isinstance(value, (dict, list)) else value)
        self._layers[name] = layer

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self and isinstance(name, str):
            self._doubt(name)
        super().__setitem__(name, value)
        self._layers[name] = "program"

    def _doubt(self, name: str) -> None:
        """Warn of a name that is almost a setting's: it is kept, and does nothing."""
        import difflib  # only plugins and slips of the pen come here

        found = difflib.get_close_matches(name, self, n=1, cutoff=0.85)
        if found and abs(len(name) - len(found[0])) <= 2:  # dflow has debug_save_copy_method, which is no slip
            import warnings

            warnings.warn(f"{name!r} was assigned, which is no setting; did you mean {found[0]!r}?", stacklevel=3)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Assign several settings, as ``dict.update`` does."""
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def layer(self, name: str) -> str:
        """Return the layer that gave the value of ``name``, such as ``"environment DFLOW_MODE"``."""
        return self._layers.get(name, "program")

    def carried(self) -> Dict[str, str]:
        """Return, as environment variables, what a process started elsewhere would not find: values set here.

        Objects (a storage client) have no text, and stay.
        """
        texts: Dict[str, str] = {}
        for name, variable in self._variables.items():
            value = self[name]
            if isinstance(value, list):
                value = ";".join(value)
            elif isinstance(value, bool):
                value = "1" if value else "0"
            if self.layer(name) != "default" and isinstance(value, str):
                texts[variable] = value
        return texts


def user_config_dir() -> Path:
    """Return the user's configuration directory (XDG)."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "dflow-hpc"


def _files() -> Tuple[Tuple[str, Dict[str, Any]], ...]:
    found = []
    for path in (Path("dflow.toml"), user_config_dir() / "dflow.toml"):
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ConfigError(f"the settings file {path} was found and cannot be read: {error}") from error
        import tomllib  # novm: a file of settings is read on the author's machine only

        try:
            found.append((str(path), tomllib.loads(text)))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"the settings file {path} is not TOML: {error}") from error
    return tuple(found)


_found = _files()
config = Settings(SETTINGS, "DFLOW_", tuple((f"file {name}", data) for name, data in _found))
s3_config = Settings(
    S3_SETTINGS, "DFLOW_S3_", tuple((f"file {name} [s3]", data.get("s3", {})) for name, data in _found)
)


def set_config(**settings: Any) -> None:
    """Assign settings: ``set_config(mode="argo")`` is ``config["mode"] = "argo"``."""
    config.update(settings)


def set_s3_config(**settings: Any) -> None:
    """Assign settings of the object storage."""
    s3_config.update(settings)


def is_local() -> bool:
    """Say whether the settings choose the local engine (dflow's word is ``debug``)."""
    return config["mode"] not in ("argo", "default")


def randstr(length: int = 5) -> str:
    """Return random lower-case letters and digits.

    Unlike dflow's it does not follow ``random.seed``, so that two seeded programs never get one name.
    """
    import secrets  # with random and OpenSSL behind it: a leaf that forks from who has them pays for them

    return "".join(secrets.choice("0123456789abcdefghijklmnopqrstuvwxyz") for _ in range(length))
