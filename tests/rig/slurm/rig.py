"""Two real Slurm clusters on this machine: up, down, and what can be made to fail.

Needs root and Debian 12 (Slurm 22.05), and no systemd; what is missing is installed by apt. All state lies in one
directory, ``DFLOW_RIG`` (default /var/lib/dflow-hpc-rig), at ports from ``DFLOW_RIG_PORT`` (default 22600) on
loopback: two rigs with different values of both live beside each other. ``ctl`` is the command line.

Trap: the clusters outlive the process that started them; only ``down`` ends them, and nothing else of the machine.
"""

import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import zlib
from contextlib import contextmanager
from pathlib import Path

import sites
from hosts import Hosts
from processes import RigError, install, wait

PACKAGES = (
    *("slurm-wlm", "slurmdbd", "munge", "mariadb-server", "openssh-server", "openssh-client", "util-linux", "procps"),
    "python3",  # for jobs that run Python; the tests may have another one
    *("charliecloud", "podman", "runc", "busybox-static"),  # container runtimes, and what an image is made of
)
SECONDS_TO_START = 120  # 10 on an idle machine
SIGNALS = {"stop": signal.SIGTERM, "kill": signal.SIGKILL, "pause": signal.SIGSTOP, "resume": signal.SIGCONT}
TOOLS = ("sbatch", "squeue", "sacct", "scancel", "scontrol")


class Rig:
    """The clusters in one directory."""

    def __init__(self, room=None, port=None):
        """Use the directory ``room`` and ports from ``port`` on; absent: the environment's, or the defaults."""
        self.room = Path(room or os.environ.get("DFLOW_RIG", "/var/lib/dflow-hpc-rig"))
        self.port = int(port or os.environ.get("DFLOW_RIG_PORT", "22600"))
        self.client = self.room / "client"
        self.sites = sites.sites(self.port)
        self.processes = Hosts(self.room / "run")
        # With the room in it: a second rig that finds its ports taken must not remove the first one's when it goes.
        self._cgroup = f"dflow-hpc-rig-{self.port}-{zlib.crc32(str(self.room).encode()):08x}"

    @contextmanager
    def locked(self):
        """Hold the rig: one command changes it at a time."""
        if os.geteuid():
            raise RigError("the rig makes namespaces and users' processes: run it as root")
        self.processes.run.mkdir(parents=True, exist_ok=True)
        with (self.processes.run / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    # Up and down

    def up(self):
        """Install, write and start what is missing, and undo the failures that were asked for."""
        install(PACKAGES)
        for site in self.sites.values():
            self._write(site)
        self._write_client()
        for site in self.sites.values():
            self._start(site)
        for site in self.sites.values():
            self.restore(site)

    def down(self, *, wipe=False):
        """End what ``up`` started; with ``wipe`` remove the rig's directory too."""
        for site in self.sites.values():
            self.processes.stop(f"slurmctld.{site.login}")  # saves its state
            self.processes.stop(f"slurmdbd.{site.login}")
            self.processes.stop(f"mariadbd.{site.login}")
            for host in site.hosts:
                self.processes.stop_host(host)
            self.processes.stop(f"keeper-{site.name}", signal.SIGKILL)
        for controller in ("memory", "freezer"):
            top = Path("/sys/fs/cgroup", controller, self._cgroup)
            for directory, _, _ in os.walk(top, topdown=False):
                Path(directory).rmdir()
        if wipe:
            shutil.rmtree(self.room)

    def _write(self, site):
        """Write the files of a cluster: its keys once, its configuration each time."""
        there = self.room / site.name
        for name in ("munge", "slurm", "ssh", "home/.ssh", "scratch", "quota", "state/ctld", "log", "mysql"):
            (there / name).mkdir(parents=True, exist_ok=True)
        _write_once(there / "munge/munge.key", secrets.token_bytes(128))
        _make_key(there / "ssh/ssh_host_ed25519_key", site.login)
        (there / "hosts").write_text(sites.hosts_file(site))
        (there / "ssh/sshd_config").write_text(sites.sshd_config(site))
        self._write_slurm_conf(site)
        (there / "slurm/cgroup.conf").write_text(sites.CGROUP_CONF)
        if site.name == "gpu":
            (there / "slurm/gres.conf").write_text(sites.GRES_CONF)
            for number in range(2):
                device = there / f"slurm/gpu{number}"
                if not device.exists():
                    os.mknod(device, 0o020666, os.makedev(1, 3))  # /dev/null's numbers: a device that does nothing
        if site.accounting:
            conf = there / "slurm/slurmdbd.conf"
            conf.write_text(sites.slurmdbd_conf(site))
            conf.chmod(0o600)
            shutil.chown(conf, "slurm", "slurm")
        for name in ("state", "state/ctld", "log"):
            shutil.chown(there / name, "slurm", "slurm")
        shutil.chown(there / "mysql", "mysql", "mysql")
        (there / "munge").chmod(0o700)
        (there / "munge/munge.key").chmod(0o400)
        for name in ("munge", "munge/munge.key"):
            shutil.chown(there / name, "munge", "munge")
        (there / "scratch").chmod(0o1777)
        for name, mode in (("home", 0o750), ("home/.ssh", 0o700)):
            (there / name).chmod(mode)
            os.chown(there / name, sites.UID, sites.UID)

    def _write_slurm_conf(self, site, min_job_age=None):
        text = sites.slurm_conf(site, cgroups=self.cgroups, min_job_age=min_job_age)
        (self.room / site.name / "slurm/slurm.conf").write_text(text)

    @property
    def cgroups(self):
        """Whether the kernel limits jobs' memory and tracks their processes here."""
        wanted = {"memory": "memory.limit_in_bytes", "freezer": "tasks"}
        return all(Path("/sys/fs/cgroup", name, file).exists() for name, file in wanted.items())

    def _write_client(self):
        """Write what the tests log in with, and the facts that they are told."""
        self.client.mkdir(exist_ok=True)
        _make_key(self.client / "id_ed25519", "rig")
        known, facts = "", {}
        for site in self.sites.values():
            host_key = (self.room / site.name / "ssh/ssh_host_ed25519_key.pub").read_text().split()
            known += f"[127.0.0.1]:{site.port} {host_key[0]} {host_key[1]}\n"
            facts[site.name] = {
                "name": site.name,
                "host": "127.0.0.1",
                "port": site.port,
                "user": sites.USER,
                "key": str(self.client / "id_ed25519"),
                "known_hosts": str(self.client / "known_hosts"),
                "ssh_config": str(self.client / "ssh_config"),
                "home": site.home,
                "root": f"{sites.SCRATCH}/{sites.USER}",
                "root_here": str(self.room / site.name / "scratch" / sites.USER),
                "small_root": f"{sites.QUOTA}/{sites.USER}",
                "nodes": site.nodes,
                "accounting": site.accounting,
                "cgroups": self.cgroups,
            }
        (self.client / "known_hosts").write_text(known)
        (self.client / "ssh_config").write_text(sites.ssh_config(self.sites.values(), self.client))
        (self.client / "rig.json").write_text(json.dumps(facts, indent=1))

    def _start(self, site):
        """Start the hosts of a cluster and all their daemons that do not run."""
        there, keeper = self.room / site.name, f"keeper-{site.name}"
        # The small file system is mounted where only the cluster's hosts see it, and is gone with the last of them.
        mount = f"mount -t tmpfs -o size={sites.QUOTA_SIZE},mode=1777 quota '{there}/quota' && exec sleep infinity"
        self.processes.spawn(keeper, ["unshare", "--mount", "--propagation=private", "sh", "-c", mount])
        keeper_pid = self.processes.pid(keeper)
        wait(keeper, lambda: f"{there}/quota " in Path(f"/proc/{keeper_pid}/mounts").read_text(), 20)
        for host in site.hosts:
            self.boot(site, host)
        if site.accounting:
            self._start_database(site)
            self.start(site, "slurmdbd")
            self._make_accounts(site)
        self.start(site, "slurmctld")
        self.start(site, "sshd")

    def _start_database(self, site):
        login, socket = site.login, "/run/mysqld/mysqld.sock"
        if not (self.room / site.name / "mysql/mysql").exists():
            how = ("--datadir=/var/lib/mysql", "--skip-test-db", "--auth-root-authentication-method=socket")
            self.processes.call(login, ["mariadb-install-db", "--user=mysql", *how])
        small = ("--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900", "--skip-networking")
        command = [
            "mariadbd",
            "--no-defaults",
            "--user=mysql",
            "--datadir=/var/lib/mysql",
            f"--socket={socket}",
            *small,
        ]
        self.processes.daemon("mariadbd", login, command)
        client = ["mysql", "--no-defaults", f"--socket={socket}", "-e"]
        self._wait_for(login, [*client, "select 1"], "mariadbd")
        self.processes.call(
            login,
            [
                *client,
                "create database if not exists slurm_acct;"
                "create user if not exists slurm@localhost identified via unix_socket;"
                "grant all on slurm_acct.* to slurm@localhost",
            ],
        )

    def _make_accounts(self, site):
        """Give the cluster its association, once."""
        login = site.login
        self._wait_for(login, ["sacctmgr", "-n", "show", "cluster"], "slurmdbd")
        if sites.USER in self.processes.call(login, ["sacctmgr", "-n", "-P", "show", "user"]):
            return
        for words in (
            ("cluster", site.name),
            ("account", sites.ACCOUNT),
            ("qos", sites.QOS_OF_TWO, "MaxSubmitJobsPerUser=2"),
            ("user", sites.USER, f"account={sites.ACCOUNT}", f"qos=normal,{sites.QOS_OF_TWO}", "defaultqos=normal"),
        ):
            self.processes.call(login, ["sacctmgr", "-i", "add", *words])

    def _wait_for(self, host, command, daemon):
        def answers():
            return subprocess.run(self.processes.enter(host, command), capture_output=True, check=False).returncode == 0

        wait(f"an answer of {daemon}", answers, SECONDS_TO_START, lambda: self.processes.tail(f"{daemon}.{host}"))

    # Failures, and back

    def site_of(self, word):
        """Return the cluster with a name, or the one of a host.

        Raises:
            RigError: There is none.
        """
        for site in self.sites.values():
            if word == site.name or word in site.hosts:
                return site
        raise RigError(f"'{word}' was given; known are {', '.join(self.sites)} and their hosts")

    def start(self, site, daemon, host=None):
        """Start a daemon of a cluster: slurmctld, slurmdbd or sshd on its login host, slurmd on a node."""
        commands = {
            "slurmctld": (["slurmctld", "-D"], "slurm"),
            "slurmdbd": (["slurmdbd", "-D"], "slurm"),
            "sshd": (["/usr/sbin/sshd", "-D", "-e"], None),
            "slurmd": (["slurmd", "-D", "-N", str(host)], None),
            "munged": (["munged", "--foreground", "--num-threads=2"], "munge"),
        }
        if daemon not in commands:
            raise RigError(f"the daemon '{daemon}' was given; known are {', '.join(commands)}")
        command, user = commands[daemon]
        self.processes.daemon(daemon, host or site.login, command, user)

    def change(self, site, word, daemon, host=None):
        """Stop, kill, pause or resume a daemon. Sessions of sshd and jobs of slurmd go on."""
        name = f"{daemon}.{host or site.login}"
        if not self.processes.pid(name):
            raise RigError(f"{name} is not running: `ctl status` lists what is")
        if word in ("pause", "resume"):
            self.processes.send(name, SIGNALS[word])
        else:
            self.processes.stop(name, SIGNALS[word])

    def boot(self, site, host):
        """Power a host on: its namespaces and munged; on a node slurmd too."""
        passwd = site.passwd
        env = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "SITE": str(self.room / site.name),
            "RUN": str(self.room / "run"),
        }
        cgroup = self._cgroup if self.cgroups else ""
        env |= {"HOME_THERE": site.home, "PASSWD": passwd, "CGROUP": cgroup}
        self.processes.start_host(host, f"keeper-{site.name}", env)
        self.start(site, "munged", host)
        if host != site.login:
            self.start(site, "slurmd", host)

    def refuse_logins(self, site, *, refuse):
        """Take the user's key from the cluster's list of those that may log in, or put it there."""
        there = self.room / site.name / "home/.ssh/authorized_keys"
        there.write_text("" if refuse else (self.client / "id_ed25519.pub").read_text())
        there.chmod(0o600)
        os.chown(there, sites.UID, sites.UID)

    def cut(self, site):
        """Cut all links to the cluster's sshd; what they had started there goes on."""
        # In the host's PID namespace; the listener's title does not begin so.
        self.processes.call(site.login, ["pkill", "-KILL", "-f", f"^sshd: {sites.USER}"], check=False)

    def fill(self, site, *, full):
        """Fill the cluster's small file system to its last byte, or empty it of the filling."""
        file = f"{sites.QUOTA}/.filling"
        command = f"cat /dev/zero > {file} 2>/dev/null; sync -f {file}" if full else f"rm -f {file}"
        self.processes.call(site.login, ["sh", "-c", command])

    def slow(self, site, seconds):
        """Make each command of Slurm on the login host wait so many seconds before it starts; 0: no more."""
        there = self.room / site.name / "local" / site.login
        for name in TOOLS:
            tool = there / name
            if seconds:
                tool.write_text(f'#!/bin/sh\nsleep {float(seconds)}\nexec /usr/bin/{name} "$@"\n')
                tool.chmod(0o755)
            else:
                tool.unlink(missing_ok=True)

    def drain(self, site, node):
        """Let a node take no more jobs."""
        self.processes.call(site.login, ["scontrol", "update", f"nodename={node}", "state=drain", "reason=rig"])

    def purge(self, site):
        """Let slurmctld forget every job that has ended by now, as it does MinJobAge after their end."""
        self._restart_slurmctld(site, min_job_age=1)
        query = ["squeue", "-h", "-t", "CA,CD,F,TO,NF,OOM,DL,PR", "-o", "%i"]

        def ended():
            return set(self.processes.call(site.login, query).split())

        before = ended()  # others may end all the time
        # The records of an array stay until its last member ends; of one that ended while slurmctld was away that is
        # found out by the nodes' next report, after two minutes.
        wait("the purge", lambda: not before & ended(), 3 * SECONDS_TO_START)
        self._restart_slurmctld(site)

    def _restart_slurmctld(self, site, min_job_age=None):
        self.processes.stop(f"slurmctld.{site.login}")
        self._write_slurm_conf(site, min_job_age)
        self.start(site, "slurmctld")
        self._wait_for(site.login, ["scontrol", "ping"], "slurmctld")

    def cancel_all(self, site):
        """Cancel all jobs of the user and wait until none is left."""
        self.processes.call(site.login, ["scancel", f"--user={sites.USER}"])
        queue = ["squeue", "-h", "-o", "%i"]
        wait(
            "the end of all jobs",
            lambda: not self.processes.call(site.login, queue).strip(),
            SECONDS_TO_START,
            lambda: self.processes.call(site.login, ["squeue"]),
        )

    def restore(self, site):
        """Undo every failure of a cluster, and wait until all its nodes are ready and its sshd lets the user in."""
        for name in self.processes.names():
            if name.partition(".")[2] in site.hosts:
                self.processes.send(name, signal.SIGCONT)
        self._start(site)
        self.slow(site, 0)
        self.fill(site, full=False)
        self.refuse_logins(site, refuse=False)

        def ready():
            states = self._node_states(site)
            for node, state in states.items():
                if state.rstrip("*") in ("drain", "drng", "down"):
                    resume = ["scontrol", "update", f"nodename={node}", "state=resume"]
                    self.processes.call(site.login, resume, check=False)
            return sorted(states) == site.nodes and all(s in ("idle", "mix", "alloc", "comp") for s in states.values())

        wait(f"the nodes of {site.name}", ready, SECONDS_TO_START, lambda: f"They are {self._node_states(site)}")
        ssh = ["ssh", "-F", str(self.client / "ssh_config"), "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", site.name]
        wait(
            f"a login at {site.name}",
            lambda: subprocess.run([*ssh, "true"], capture_output=True, check=False).returncode == 0,
            SECONDS_TO_START,
            lambda: self.processes.tail(f"sshd.{site.login}"),
        )

    def _node_states(self, site):
        text = self.processes.call(site.login, ["sinfo", "-h", "-N", "-o", "%N %t"], check=False)
        return dict(pair for line in text.splitlines() if len(pair := line.split()) == 2 and pair[0] in site.nodes)


def _write_once(file, data):
    if not file.exists():
        file.write_bytes(data)


def _make_key(file, comment):
    if not file.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", file], check=True)
