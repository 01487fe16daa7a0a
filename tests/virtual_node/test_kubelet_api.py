"""The kubelet's API over TLS, as the API server asks it: who may, logs, stops, commands in jobs, numbers."""

import asyncio
import contextlib
import datetime
import http.client
import json
import ssl
import struct
import sys
import zlib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

sys.path.insert(0, str(Path(__file__).parent))
from api import Api, Node, until, within

from dflow_hpc.virtual_node import spdy
from dflow_hpc.virtual_node.access import Access, User, of_certificate, subresources
from dflow_hpc.virtual_node.inside import Inside
from dflow_hpc.virtual_node.kubelet_api import KubeletApi, is_stop
from dflow_hpc.virtual_node.serving import Serving, own


class Reviews:
    """The API server's reviews: one token is known, and ``admin`` may everything."""

    def __init__(self):
        self.asked = []

    @property
    def connection(self):
        return self

    def request(self, what, method, path, body=None):
        self.asked.append(path.rpartition("/")[2])
        if path.endswith("tokenreviews"):
            good = body["spec"]["token"] == "good"
            return {"status": {"authenticated": good, "user": {"username": "reader", "groups": ["g"]}}}
        spec = body["spec"]
        allowed = spec["user"] == "admin" or spec["resourceAttributes"]["subresource"] == "metrics"
        return {"status": {"allowed": allowed}}


def certificates(path):
    """Make an authority of clients and a client's certificate; the authority as PEM, the client's files."""
    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    oid = x509.oid.NameOID
    names = [
        x509.Name([x509.NameAttribute(oid.COMMON_NAME, "ca")]),
        x509.Name([x509.NameAttribute(oid.ORGANIZATION_NAME, "g"), x509.NameAttribute(oid.COMMON_NAME, "admin")]),
    ]
    made = []
    for number in range(2):
        builder = x509.CertificateBuilder(names[0], names[number], keys[number].public_key())
        builder = builder.serial_number(number + 1).not_valid_before(now).not_valid_after(now + datetime.timedelta(1))
        builder = builder.add_extension(x509.BasicConstraints(ca=number == 0, path_length=None), critical=True)
        made.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (path / "client.crt").write_bytes(made[1])
    (path / "client.key").write_bytes(keys[1].private_bytes(*form))
    return made[0].decode(), path / "client.crt", path / "client.key"


class Asker:
    """A client of the node's API; blocking calls for threads."""

    def __init__(self, port, ca, client=None):
        self.port = port
        self.context = ssl.create_default_context(cafile=str(ca))
        if client:
            self.context.load_cert_chain(*client)

    def get(self, path, method="GET", **headers):
        link = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context, timeout=20)
        with contextlib.closing(link):
            link.request(method, path, headers=headers)
            answer = link.getresponse()
            return answer.status, answer.read().decode()

    def execute(self, path, stdin=None):
        """Run a command as the API server does; its status, stdout and stderr."""
        link = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context, timeout=20)
        with contextlib.closing(link):
            link.connect()
            wish = {"Connection": "Upgrade", "Upgrade": spdy.UPGRADE, "X-Stream-Protocol-Version": spdy.PROTOCOL}
            link.request("POST", path, headers=wish)
            file = link.sock.makefile("rwb")
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += file.read(1)
            if b" 101 " not in head:
                return head
            with file:
                return self._streams(file, stdin)

    def _streams(self, file, stdin):
        names = ["error", "stdout", "stderr"] + ["stdin"] * (stdin is not None)
        deflate = zlib.compressobj(zdict=spdy._dictionary())
        for place, name in enumerate(names):
            pair = b"".join(struct.pack(">I", len(text)) + text for text in (b"streamtype", name.encode()))
            block = deflate.compress(struct.pack(">I", 1) + pair) + deflate.flush(zlib.Z_SYNC_FLUSH)
            body = struct.pack(">IIH", 2 * place + 1, 0, 0) + block
            file.write(struct.pack(">II", 0x80030001, len(body)) + body)
        if stdin is not None:
            file.write(struct.pack(">II", 7, 1 << 24 | len(stdin)) + stdin)
        file.flush()
        found, ended = dict.fromkeys(range(1, 8, 2), b""), set()
        while not {1, 3, 5} <= ended:
            first, second = struct.unpack(">II", file.read(8))
            data = file.read(second & 0xFFFFFF)
            if not first >> 31:
                found[first] += data
                ended |= {first} if second >> 24 else set()
        return json.loads(found[1]), found[3].decode(), found[5].decode()


@contextlib.asynccontextmanager
async def served(tmp_path):
    node = Node(tmp_path, Api())
    ca, *client = certificates(tmp_path)
    reviews, said = Reviews(), []
    files = own(tmp_path, "node", "127.0.0.1")
    inside = Inside(asyncio.get_running_loop(), node.pods, node.broker, node.broker._site)
    kubelet = KubeletApi("node", ("127.0.0.1", 0), Serving(*files, ca), Access("node", reviews), inside, said.append)
    node.asker, node.stranger = Asker(kubelet.port, files[0], client), Asker(kubelet.port, files[0])
    node.reviews = reviews
    try:
        yield node
    finally:
        await asyncio.to_thread(kubelet.close)
        await node.leave()
    assert not said


async def running(node, name, command):
    pod = node.api.add(name, command)
    node.show(pod)
    await until(lambda: "Running" in node.api.phases(name))
    node.show(node.api.pods[name], "MODIFIED")
    return pod


def test_only_whom_the_cluster_knows_and_lets_may_ask(tmp_path):
    async def scenario():
        async with served(tmp_path) as node:
            ask = lambda who, path, **headers: asyncio.to_thread(who.get, path, **headers)  # noqa: E731
            assert await ask(node.stranger, "/healthz") == (200, "ok")
            assert (await ask(node.stranger, "/pods"))[0] == 401
            assert (await ask(node.stranger, "/pods", Authorization="Bearer bad"))[0] == 401
            status, text = await ask(node.stranger, "/pods", Authorization="Bearer good")
            assert (status, "reader may not GET /pods" in text) == (403, True)
            assert (await ask(node.stranger, "/metrics", Authorization="Bearer good"))[0] == 200
            assert json.loads((await ask(node.asker, "/pods"))[1])["kind"] == "PodList"
            before = len(node.reviews.asked)
            assert (await ask(node.asker, "/pods"))[0] == 200
            assert len(node.reviews.asked) == before
            assert (await ask(node.asker, "/nothing"))[0] == 404
            assert (await ask(node.asker, "/attach/ns/p/c", method="POST"))[0] == 501

    within(scenario())


def test_logs_of_a_pod_that_runs_are_followed_to_their_end(tmp_path):
    async def scenario():
        async with served(tmp_path) as node:
            go = str(tmp_path / "go").replace("/tmp", "/t''mp")  # where it says /tmp, that is the pod's own
            await running(node, "p", f"echo one; until [ -e {go} ]; do sleep 0.05; done; echo two")
            path = "/containerLogs/ns/p/only"
            status, text = await asyncio.to_thread(node.asker.get, path)
            assert (status, text) == (200, "one\n")
            following = asyncio.create_task(asyncio.to_thread(node.asker.get, f"{path}?follow=true"))
            (tmp_path / "go").touch()
            assert await following == (200, "one\ntwo\n")
            assert await asyncio.to_thread(node.asker.get, f"{path}?tailLines=1") == (200, "two\n")
            assert (await asyncio.to_thread(node.asker.get, f"{path}?previous=true"))[0] == 400
            assert (await asyncio.to_thread(node.asker.get, f"{path}?tailLines=x"))[0] == 400
            assert (await asyncio.to_thread(node.asker.get, "/containerLogs/ns/p/other"))[0] == 404
            assert (await asyncio.to_thread(node.asker.get, "/containerLogs/ns/q/only"))[0] == 404

    within(scenario())


def test_a_command_runs_in_the_jobs_environment(tmp_path):
    async def scenario():
        async with served(tmp_path) as node:
            await running(node, "p", "sleep 100")
            path = "/exec/ns/p/only?output=1&error=1&command=sh&command=-c&command="
            line = "pwd%3B+cat%3B+echo+oh+%3E%262%3B+exit+3"
            answer = await asyncio.to_thread(node.asker.execute, f"{path}{line}&input=1", b"to it")
            status, out, err = answer
            assert out.endswith("/workdir\nto it")
            assert (err, status["details"]["causes"][0]["message"]) == ("oh\n", "3")
            status, *_ = await asyncio.to_thread(node.asker.execute, f"{path}true")
            assert status["status"] == "Success"
            status, *_ = await asyncio.to_thread(node.asker.execute, f"{path}true&tty=1")
            assert "a terminal was asked for" in status["message"]
            assert (await asyncio.to_thread(node.asker.get, f"{path}true", method="POST"))[0] == 400
            numbers = (await asyncio.to_thread(node.asker.get, "/metrics"))[1]
            assert 'dflow_node_pods{phase="Running"} 1' in numbers.splitlines()
            summary = json.loads((await asyncio.to_thread(node.asker.get, "/stats/summary"))[1])
            assert [pod["podRef"]["name"] for pod in summary["pods"]] == ["p"]
            node.show(node.api.pods["p"], "DELETED")
            await until(lambda: not node.broker.dispatcher.open)

    within(scenario())


def test_argos_kill_ends_the_job(tmp_path):
    async def scenario():
        async with served(tmp_path) as node:
            pod = await running(node, "p", "sleep 100")
            words = "&".join(f"command={word}" for word in ("/var/run/argo/argoexec", "kill", "15", "1"))
            for _ in range(2):
                path = f"/exec/ns/p/only?output=1&error=1&{words}"
                status, *_ = await asyncio.to_thread(node.asker.execute, path)
                assert status["status"] == "Success"
            return await node.ended(pod)

    found = within(scenario())
    assert found["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 143


@pytest.mark.parametrize(
    ("words", "stop"),
    [
        (["/var/run/argo/argoexec", "kill", "9", "1"], True),
        (["/bin/sh", "-c", "kill -15 1"], True),
        (["/bin/sh", "-c", "kill -15 12"], False),
        (["/bin/sh", "-c", "ls"], False),
        (["argoexec", "version"], False),
        (["kill"], False),
    ],
)
def test_what_stops_a_step(words, stop):
    assert is_stop(words) is stop


def test_a_certificate_names_a_user_and_groups():
    subject = ((("organizationName", "system:nodes"),), (("organizationName", "b"),), (("commonName", "x"),))
    assert of_certificate({"subject": subject}) == User("x", ("system:nodes", "b"))
    assert of_certificate({}) is None
    assert of_certificate(None) is None


def test_paths_need_the_subresources_of_a_kubelet():
    assert subresources("/containerLogs/a/b/c") == ("proxy",)
    assert subresources("/stats/summary") == ("stats",)
    assert subresources("/runningpods/") == ("pods", "proxy")


def test_the_nodes_own_certificate_is_made_once_and_anew_for_another_address(tmp_path):
    first = own(tmp_path, "node", "127.0.0.1")[0].read_bytes()
    assert own(tmp_path, "node", "127.0.0.1")[0].read_bytes() == first
    assert own(tmp_path, "node", "node.example")[0].read_bytes() != first
    assert (tmp_path / "serving.key").stat().st_mode & 0o777 == 0o600
