"""One connection to a Kubernetes API server: who we are, requests with retries, streams.

Where and as whom: ``config["k8s_api_server"]`` with ``token``; else the kubeconfig ``k8s_config_file``, that of
``KUBECONFIG`` or ``~/.kube/config``, with ``k8s_context``; else, in a pod, its service account. The client package of
Kubernetes reads kubeconfigs (with all their ways to log in); requests go through urllib3, because its typed calls have
changed between versions and would take a Workflow apart into objects.

A request is tried again while the server is busy (429, 5xx) or the link fails, for a minute at most. So what changes
something must bear being done twice: ``Cluster.create`` shows how.

Trap: a token may expire while we run: on 401 the settings are read anew, once a request.
"""

from __future__ import annotations

import copy
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from dflow_hpc.config import config
from dflow_hpc.errors import ConfigError
from dflow_hpc.kube.errors import KubeError, Unreachable, refusal

if TYPE_CHECKING:
    import urllib3

    from dflow_hpc.kube.cluster import Cluster

_SECONDS = 60.0
"""For one answer, and for all attempts of one request."""
_IDLE = 120.0
"""Seconds without a byte after which a stream counts as dead; the server sends a bookmark each minute."""
_JSON = "application/json"


def connect(
    *,
    namespace: str | None = None,
    token: str | None = None,
    k8s_config_file: str | None = None,
    k8s_api_server: str | None = None,
    k8s_context: str | None = None,
    host: str | None = None,
    seconds: float = _SECONDS,
) -> Cluster:
    """Return the cluster that the settings name.

    Args:
        namespace: The namespace of all that is asked; None: ``config["namespace"]``.
        token: Bearer token; this and what follows: None means the setting of that name.
        k8s_config_file: A kubeconfig.
        k8s_api_server: Address of the API, instead of a kubeconfig.
        k8s_context: Context of the kubeconfig; its current one unless given.
        host: Address of Argo's own server; the setting's only where somebody has set it.
        seconds: How long a request is tried again at most.

    Raises:
        ConfigError: The settings name no cluster, or one that cannot be used.
    """
    from dflow_hpc.kube.cluster import Cluster

    given = {"token": token, "k8s_config_file": k8s_config_file, "k8s_api_server": k8s_api_server}
    given["k8s_context"] = k8s_context
    wish = {name: config[name] if value is None else value for name, value in given.items()}
    if host is None and config.layer("host") != "default":
        host = config["host"]
    return Cluster(Connection(lambda: _identity(wish), seconds=seconds), namespace or config["namespace"], host)


def _identity(wish: Mapping[str, Any]) -> Any:
    """Return the ``kubernetes.client.Configuration`` for what was wished."""
    import kubernetes.client
    import kubernetes.config

    client: Any = kubernetes.client  # typed in some versions only
    reader: Any = kubernetes.config
    found = client.Configuration()
    server, token = wish["k8s_api_server"], wish["token"]
    if server:
        found.host = server
        found.api_key = {"authorization": f"Bearer {token}"} if token else {}
        if config["k8s_ca_file"]:
            found.ssl_ca_cert = str(Path(config["k8s_ca_file"]).expanduser())
        return found
    try:
        if wish["k8s_config_file"] or not _in_pod():
            reader.load_kube_config(wish["k8s_config_file"], wish["k8s_context"], client_configuration=found)
        else:
            reader.load_incluster_config(client_configuration=found)
    except (reader.ConfigException, OSError) as error:
        raise ConfigError(
            f"a Kubernetes cluster was asked for; {str(error).rstrip('.')}. Set config['k8s_config_file'] "
            "(DFLOW_K8S_CONFIG_FILE) to a kubeconfig, or k8s_api_server and token."
        ) from error
    if token:
        found.api_key = {"authorization": f"Bearer {token}"}
        found.refresh_api_key_hook = None
    return found


def _in_pod() -> bool:
    """Say whether this is a pod without a kubeconfig of its own."""
    import os

    if os.environ.get("KUBECONFIG") or Path("~/.kube/config").expanduser().exists():
        return False
    return Path("/var/run/secrets/kubernetes.io/serviceaccount/token").exists()


class Connection:
    """Requests to one API server, as one identity. Thread-safe.

    Args:
        identify: Returns who we are and where, as a ``kubernetes.client.Configuration``; called again on 401.
        seconds: How long a request is tried again at most.
    """

    def __init__(self, identify: Callable[[], Any], *, seconds: float = _SECONDS):
        self._identify = identify
        self._seconds = seconds
        self._configuration: Any = None
        self._pool: urllib3.PoolManager | None = None
        self.received = 0
        """Bytes of answers so far, as they came over the wire."""
        self.sent = 0
        """Requests so far."""

    @property
    def server(self) -> str:
        """Address of the API server."""
        return str(self._identity().host)

    def elsewhere(self, host: str) -> Connection:
        """Return a connection to another server, as the same user.

        Args:
            host: Its address.
        """

        def identify() -> Any:
            found = copy.copy(self._identify())
            found.host = host
            # The authority that a kubeconfig names is that of the API server alone.
            found.ssl_ca_cert = str(Path(config["k8s_ca_file"]).expanduser()) if config["k8s_ca_file"] else None
            return found

        return Connection(identify, seconds=self._seconds)

    def _identity(self) -> Any:
        if self._configuration is None:
            self._configuration = self._identify()
            self._pool = _pool(self._configuration)
        return self._configuration

    def request(
        self,
        what: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        content: str = _JSON,
        accept: str = _JSON,
    ) -> Any:
        """Make a request and return its answer, read as JSON.

        Args:
            what: What is asked for, in words, for messages: ``"read the pod 'x'"``.
            method: ``GET``, ``POST``, ``PUT``, ``PATCH`` or ``DELETE``.
            path: Path of the resource.
            query: Parameters; those that are None are left out.
            body: What is sent, as plain data.
            content: Media type of the body; it says which kind of patch it is.
            accept: Media type of the answer; by it the API gives parts of objects.

        Raises:
            KubeError: It was refused, or no answer came: ``Unreachable``.
        """
        data = None if body is None else json.dumps(body).encode()

        def once() -> bytes:
            answer = self._send(what, method, path, query, data, content, accept)
            try:
                return bytes(answer.data)
            finally:
                self.received += answer.tell()
                answer.release_conn()

        text = self._again(once)
        return json.loads(text) if text else None

    def stream(
        self, what: str, path: str, *, query: Mapping[str, Any] | None = None, accept: str = _JSON
    ) -> Iterator[bytes]:
        """Yield an answer line by line as it comes; only its beginning is tried again.

        Raises:
            KubeError: It was refused; ``Unreachable``: the link was cut, or nothing came for two minutes.
        """
        import urllib3

        answer = self._again(lambda: self._send(what, "GET", path, query, None, _JSON, accept, idle=_IDLE))
        rest = b""
        try:
            for chunk in answer.stream(1 << 16):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from lines
            if rest:
                yield rest
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._silent(what, error) from error
        finally:
            self.received += answer.tell()
            answer.close()  # what is left of it must not be read by the next request

    def _again(self, once: Callable[[], Any]) -> Any:
        """Call until it does not raise ``Unreachable``, or time is up."""
        import tenacity

        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Unreachable),
            stop=tenacity.stop_after_delay(self._seconds),
            wait=tenacity.wait_exponential(multiplier=0.2, max=5) + tenacity.wait_random(0, 0.2),
            reraise=True,
        )
        try:
            return attempts(once)
        except KubeError as error:
            if error.status != 401:
                raise
            self._configuration = None  # a token that was renewed meanwhile
            return attempts(once)

    def _send(
        self,
        what: str,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        data: bytes | None,
        content: str,
        accept: str,
        idle: float | None = None,
    ) -> Any:
        """Send a request once; the answer, whose body is not read yet."""
        import urllib3

        identity = self._identity()
        pool = self._pool
        assert pool is not None  # noqa: S101  made with the identity
        wanted = {name: value for name, value in (query or {}).items() if value is not None}
        address = identity.host.rstrip("/") + path + (f"?{urlencode(wanted)}" if wanted else "")
        headers = {"Accept": accept, "User-Agent": "dflow-hpc", **config["http_headers"]}
        for secret in identity.auth_settings().values():
            headers[secret["key"]] = secret["value"]
        if data is not None:
            headers["Content-Type"] = content
        if idle is None:
            headers["Accept-Encoding"] = "gzip"
        timeout = urllib3.Timeout(connect=10, read=idle or _SECONDS)
        self.sent += 1
        try:
            answer = pool.request(
                method, address, body=data, headers=headers, timeout=timeout, retries=False, preload_content=False
            )
            if answer.status < 400:
                return answer
            text = answer.read()
        except urllib3.exceptions.SSLError as error:
            raise ConfigError(
                f"Kubernetes was asked to {what}; {identity.host} and we cannot agree on TLS: {error}. Name its "
                "authority: config['k8s_ca_file'] (DFLOW_K8S_CA_FILE), or use a kubeconfig that has it."
            ) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._silent(what, error) from error
        answer.release_conn()
        raise refusal(what, answer.status, text)

    def _silent(self, what: str, error: Exception) -> Unreachable:
        return Unreachable(
            f"Kubernetes was asked to {what}; no answer came from {self.server}: {error}. See whether the network and "
            "the API server are up, and whether the settings name the right one (dflow-hpc config)."
        )


def _pool(configuration: Any) -> urllib3.PoolManager:
    import urllib3

    options: dict[str, Any] = {
        "maxsize": 16,
        "cert_reqs": ssl.CERT_REQUIRED if configuration.verify_ssl else ssl.CERT_NONE,
        "ca_certs": configuration.ssl_ca_cert,
        "cert_file": configuration.cert_file,
        "key_file": configuration.key_file,
    }
    if configuration.assert_hostname is not None:
        options["assert_hostname"] = configuration.assert_hostname
    if getattr(configuration, "tls_server_name", None):
        options["server_hostname"] = configuration.tls_server_name
    if configuration.proxy:
        return urllib3.ProxyManager(configuration.proxy, proxy_headers=configuration.proxy_headers, **options)
    return urllib3.PoolManager(**options)
