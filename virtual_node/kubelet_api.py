"""The kubelet's API of a virtual node: what the API server asks of one for ``kubectl logs`` and ``exec``, and numbers.

Each request is a thread: few ask, and those who follow a log wait most of the time. Everybody but those who ask for
``/healthz`` must be known to the cluster, and allowed (``access.py``).

Exec: Argo's way to stop a step (``argoexec kill``, or ``kill`` in a shell) ends the job and runs nothing. Any other
command runs in the job's environment where the scheduler gives a way into a job; without a terminal, and what is
written to it is brought there when it has ended.

Not here: pods (``inside.py``), TLS (``serving.py``), frames (``spdy.py``).

Trap: a stop may come twice, and for a container that has ended: it is answered as if it had worked.
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from dflow_hpc.errors import ConfigError, DflowError
from dflow_hpc.kube import KubeError
from dflow_hpc.virtual_node import metrics, spdy
from dflow_hpc.virtual_node.access import Access
from dflow_hpc.virtual_node.inside import Inside
from dflow_hpc.virtual_node.logs import LogReader, Options
from dflow_hpc.virtual_node.serving import Serving

Object = dict[str, Any]

_IDLE = 60.0
"""Seconds for which a client may be silent, or take nothing."""
_HANDSHAKE = 10.0
_LOOK = 1.0
"""Seconds between two looks at a log that is followed."""
_FRESH = 8.0
"""Seconds that one who does not follow waits for what the machine has of a log."""
_LONGEST = 3600.0
"""Seconds that a client may take to send its input."""
_KILL = re.compile(r"\s*kill\s+(-\w+\s+)?1\s*")


def is_stop(words: Sequence[str]) -> bool:
    """Say whether a command is Argo's way to stop a step; see there: ``workflow/signal``."""
    if len(words) >= 2 and Path(words[0]).name == "argoexec":
        return words[1] == "kill"
    return len(words) == 3 and words[1] == "-c" and bool(_KILL.fullmatch(words[2]))


class KubeletApi:
    """Serves until it is closed.

    Args:
        node: The node's name.
        listen: Address and port; port 0 takes a free one.
        serving: The certificate.
        access: Who may ask what.
        inside: The pods.
        say: Called with what the administrator should know.

    Raises:
        ConfigError: The port is taken.
    """

    def __init__(
        self,
        node: str,
        listen: tuple[str, int],
        serving: Serving,
        access: Access,
        inside: Inside,
        say: Callable[[str], None],
    ):
        serving.context()
        self.node, self.serving, self.access, self.inside, self.say = node, serving, access, inside, say
        self.since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        try:
            self._server = _Server(listen, self)
        except OSError as error:
            raise ConfigError(
                f"the kubelet's API was to be served at {listen[0]}:{listen[1]}; {error}. Give it another --port."
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="kubelet-api", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more requests; those who follow a log are cut off when the process ends."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, listen: tuple[str, int], api: KubeletApi):
        self.api = api
        super().__init__(listen, _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Agree on TLS in the request's own thread: a silent client holds nobody else."""
        request.settimeout(_HANDSHAKE)
        with self.api.serving.context().wrap_socket(request, server_side=True) as secure:
            super().finish_request(secure, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  its parent's
        error = sys.exc_info()[1]
        if not isinstance(error, OSError | spdy.SpdyError):  # clients come, go, and speak no TLS
            self.api.say(f"the kubelet's API, asked by {client_address[0]}: {type(error).__name__}: {error}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "dflow-hpc", ""
    timeout = _IDLE
    server: _Server
    connection: ssl.SSLSocket

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each request."""

    def do_GET(self) -> None:
        """Answer."""
        self._answer()

    def do_POST(self) -> None:
        """Answer."""
        self._answer()

    def _answer(self) -> None:
        api, parts = self.server.api, urlsplit(self.path)
        self.query = parse_qs(parts.query, keep_blank_values=True)
        if parts.path.rstrip("/") == "/healthz":
            return self._text(200, "ok")
        try:
            user = api.access.user(self.connection.getpeercert(), self.headers.get("Authorization"))
            if user is None:
                return self._text(401, "Unauthorized")
            if not api.access.allows(user, self.command, parts.path):
                return self._text(403, f"{user.name} may not {self.command} {parts.path} of node {api.node}")
        except KubeError as error:
            return self._text(500, str(error))
        words = [unquote(part) for part in parts.path.split("/") if part]
        routes = {"containerLogs": self._logs, "exec": self._exec, "pods": self._pods, "runningpods": self._running}
        routes |= {"metrics": self._metrics, "stats": self._stats}
        if words and words[0] in ("attach", "portForward", "run"):
            return self._text(501, f"{words[0]} was asked of a pod of node {api.node}; its pods are jobs: use exec")
        if not words or words[0] not in routes:
            return self._text(404, f"there is no {parts.path} here")
        return routes[words[0]](*words[1:])

    def _text(self, status: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
        data = text.encode()
        self.close_connection = self.close_connection or status >= 400  # a body may not have been read
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _json(self, content: Object) -> None:
        self._text(200, json.dumps(content), "application/json")

    # Lists and numbers

    def _pods(self, *_rest: str) -> None:
        self._list(self.server.api.inside.pods())

    def _running(self, *_rest: str) -> None:
        pods = self.server.api.inside.pods()
        self._list([pod for pod in pods if (pod.get("status") or {}).get("phase") == "Running"])

    def _list(self, pods: list[Object]) -> None:
        items = [{"apiVersion": "v1", "kind": "Pod", **pod} for pod in pods]
        self._json({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})

    def _metrics(self, *rest: str) -> None:
        if rest:
            return self._text(404, f"there is no /metrics/{'/'.join(rest)} here: what jobs use, the scheduler knows")
        return self._text(200, metrics.text(self.server.api.inside.numbers()), "text/plain; version=0.0.4")

    def _stats(self, *rest: str) -> None:
        if rest != ("summary",):
            return self._text(404, f"there is no /stats/{'/'.join(rest)} here")
        api = self.server.api
        return self._json(metrics.summary(api.node, api.since, api.inside.pods()))

    # Logs

    def _found(self, namespace: str, name: str, container: str) -> Object | None:
        """Return the pod that was asked for; None when the answer was given already: it is not there."""
        pod = self.server.api.inside.find(namespace, name)
        if pod is None:
            self._text(404, f'pod "{name}" does not exist')
            return None
        spec = pod["spec"]
        each = (spec.get("containers") or []) + (spec.get("initContainers") or [])
        if container not in {one["name"] for one in each}:
            self._text(404, f'container "{container}" not found in pod "{name}"')
            return None
        return pod

    def _logs(self, *where: str) -> None:
        if len(where) != 3:
            return self._text(400, "the log of /containerLogs/NAMESPACE/POD/CONTAINER is to be asked for")
        try:
            options = Options.read({name: values[-1] for name, values in self.query.items()}, time.time())
        except ValueError as error:
            return self._text(400, f"the log cannot be given so: {error}")
        pod = self._found(*where)
        if pod is None:
            return None
        inside, uid, container = self.server.api.inside, pod["metadata"]["uid"], where[2]
        if options.previous:
            return self._text(400, f'previous terminated container "{container}" in pod "{where[1]}" not found')
        path = inside.log(uid, container)
        if path is not None and not path.exists() and (why := _waits(pod, container)):
            return self._text(400, f'container "{container}" in pod "{where[1]}" is waiting to start: {why}')
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if path is not None:
            self._send_log(LogReader(path, options), uid, path, follow=options.follow)
        self.wfile.write(b"0\r\n\r\n")
        return None

    def _send_log(self, reader: LogReader, uid: str, path: Path, *, follow: bool) -> None:
        inside = self.server.api.inside
        if not follow:
            self._refresh(uid, path)
        while True:
            over = inside.follow(uid)
            for line in reader.read(last=over or not follow):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line) if line else b"")
            if over or reader.full or not follow or self._gone(_LOOK):
                return

    def _refresh(self, uid: str, path: Path) -> None:
        """Wait until the machine was asked for what it has of a log, for a while."""
        before = path.stat().st_mtime_ns if path.exists() else None
        until = time.monotonic() + _FRESH
        while not self.server.api.inside.follow(uid) and time.monotonic() < until:
            if path.exists() and path.stat().st_mtime_ns != before:
                return
            if self._gone(0.1):
                return

    def _gone(self, seconds: float) -> bool:
        """Wait; say whether the client has gone. It has nothing to send while it reads a log."""
        try:
            return bool(select.select([self.connection], [], [], seconds)[0]) and self.connection.recv(1) == b""
        except (OSError, ValueError):
            return True

    # Exec

    def _exec(self, *where: str) -> None:
        if len(where) not in (3, 4):
            return self._text(400, "/exec/NAMESPACE/POD/CONTAINER is to be asked for")
        pod = self._found(where[0], where[1], where[-1])
        if pod is None:
            return None
        words = self.query.get("command", [])
        if not words:
            return self._text(400, "a command is to be run; none was given")
        wanted = {
            name for name, key in (("stdin", "input"), ("stdout", "output"), ("stderr", "error")) if self._on(key)
        }
        offered = ",".join(self.headers.get_all("X-Stream-Protocol-Version") or ())
        if spdy.UPGRADE.lower() not in (self.headers.get("Upgrade") or "").lower() or spdy.PROTOCOL not in offered:
            return self._text(400, f"exec is served over {spdy.UPGRADE} with {spdy.PROTOCOL}; {offered} was offered")
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", spdy.UPGRADE)
        self.send_header("X-Stream-Protocol-Version", spdy.PROTOCOL)
        self.end_headers()
        self.wfile.flush()
        self.close_connection = True
        self.connection.settimeout(_LONGEST)
        streams = spdy.Exec(self.rfile, self.wfile, wanted | {"error"})
        self._run(streams, pod["metadata"]["uid"], where[-1], words)
        with contextlib.suppress(spdy.SpdyError, socket.timeout, OSError):
            self.connection.settimeout(_IDLE)
            streams.drain()
        return None

    def _on(self, key: str) -> bool:
        return self.query.get(key, [""])[-1].lower() in ("1", "true")

    def _run(self, streams: spdy.Exec, uid: str, container: str, words: list[str]) -> None:
        inside = self.server.api.inside
        try:
            if is_stop(words):
                if inside.log(uid, container) is not None:
                    inside.stop(uid)
                return streams.end(0)
            if self._on("tty"):
                return streams.end(1, "a terminal was asked for; a job has none. Leave -t away")
            if inside.log(uid, container) is None:
                return streams.end(1, f"the container {container!r} is played by the node: nothing runs in it")
            answer = inside.run(uid, words, streams.stdin())
        except DflowError as error:
            return streams.end(1, str(error))
        streams.write("stdout", answer.out)
        streams.write("stderr", answer.err)
        return streams.end(answer.rc)


def _waits(pod: Object, container: str) -> str:
    """Return why a container waits; nothing if it does not."""
    status = pod.get("status") or {}
    each = (status.get("containerStatuses") or []) + (status.get("initContainerStatuses") or [])
    known = next((one["state"] for one in each if one["name"] == container), None)
    if known is None:
        return str(status.get("reason") or "ContainerCreating")
    return str(known["waiting"].get("reason") or "ContainerCreating") if "waiting" in known else ""
