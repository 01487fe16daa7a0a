"""What the two clusters are: names, ports, directories and the text of their configuration files. Starts nothing.

They differ where clusters differ: ``gpu`` has GRES and no accounting, and forgets a job 60 s after its end; ``cpu``
has slurmdbd, associations and a QOS that lets a user have two jobs. Their users' homes lie at different paths.

Trap: nodes declare more CPUs and memory than the machine has; jobs that sleep need none. So do not compute here.
"""

from dataclasses import dataclass

USER, UID = "hpc", 12001
ACCOUNT = "lab"
QOS_OF_TWO = "two"  # at most two jobs submitted a user: what refuses a third is a limit, not a mistake
SCRATCH, QUOTA = "/scratch", "/quota"
QUOTA_SIZE = "16m"
NODE_CPUS = {"gpu": 8, "cpu": 16}


@dataclass(frozen=True)
class Site:
    """One cluster: a login host, which runs its daemons too, and compute nodes."""

    name: str
    port: int
    """First of its 20 ports: +0 sshd, +1 slurmctld, +2 slurmdbd, +11... slurmd."""
    home: str
    node_count: int
    accounting: bool
    min_job_age: int
    """Seconds for which slurmctld keeps the record of a job that has ended."""

    @property
    def login(self):
        """The host behind its sshd."""
        return f"{self.name}-login"

    @property
    def nodes(self):
        """Its compute nodes."""
        return [f"{self.name}-n{number}" for number in range(1, self.node_count + 1)]

    @property
    def hosts(self):
        """All its hosts."""
        return [self.login, *self.nodes]

    @property
    def passwd(self):
        """The user's line in /etc/passwd of its hosts; the machine does not know that user."""
        return f"{USER}:x:{UID}:{UID}::{self.home}:/bin/bash"


def sites(port):
    """Return the two clusters, by name, at ports from ``port`` on."""
    return {
        "gpu": Site("gpu", port, f"/home/{USER}", 2, False, 60),
        "cpu": Site("cpu", port + 20, f"/users/h/{USER}", 3, True, 300),
    }


def hosts_file(site):
    """Return /etc/hosts of a cluster's hosts."""
    return "".join(f"127.0.0.1 {name}\n" for name in ("localhost", *site.hosts))


def sshd_config(site):
    """Return the configuration of a cluster's sshd: keys only, sshd's own limits on sessions and logins."""
    return f"""\
ListenAddress 127.0.0.1
Port {site.port}
HostKey /etc/ssh/ssh_host_ed25519_key
PidFile /run/sshd.pid
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
AllowUsers {USER}
X11Forwarding no
PrintMotd no
Subsystem sftp /usr/lib/openssh/sftp-server
"""


def slurm_conf(site, *, cgroups, min_job_age=None):
    """Return slurm.conf of a cluster.

    Args:
        site: The cluster.
        cgroups: Memory limits and the tracking of processes by cgroup v1; else by polling, where a job that grows
            too large ends as FAILED instead of OUT_OF_MEMORY.
        min_job_age: Seconds; absent: the cluster's own.
    """
    track, task = ("proctrack/cgroup", "task/cgroup") if cgroups else ("proctrack/linuxproc", "task/none")
    lines = f"""\
ClusterName={site.name}
SlurmctldHost={site.login}(127.0.0.1)
SlurmctldPort={site.port + 1}
SlurmUser=slurm
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
CommunicationParameters=NoAddrCache,NoCtldInAddrAny,NoInAddrAny
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd-%n.log
StateSaveLocation=/var/lib/slurm/ctld
SlurmdSpoolDir=/var/spool/slurmd
ProctrackType={track}
TaskPlugin={task}
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobCompType=jobcomp/none
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=20
KillWait=5
Waittime=0
InactiveLimit=0
DefMemPerCPU=256
MailProg=/bin/true
MinJobAge={min_job_age or site.min_job_age}
""".splitlines()
    if not cgroups:
        lines.append("JobAcctGatherParams=OverMemoryKill")
    lines += _accounting(site) + _nodes(site)
    return "\n".join(lines) + "\n"


def _accounting(site):
    if not site.accounting:
        return ["AccountingStorageType=accounting_storage/none", "MaxArraySize=1001"]
    return [
        "AccountingStorageType=accounting_storage/slurmdbd",
        f"AccountingStorageHost={site.login}",
        f"AccountingStoragePort={site.port + 2}",
        "AccountingStorageEnforce=associations,qos,limits",
        "MaxArraySize=20001",
        "MaxJobCount=50000",
    ]


def _nodes(site):
    cpus, gres = NODE_CPUS[site.name], " Gres=gpu:a100:2" if site.name == "gpu" else ""
    lines = ["GresTypes=gpu"] if gres else []
    for number, node in enumerate(site.nodes):
        lines.append(
            f"NodeName={node} NodeHostname={node} NodeAddr=127.0.0.1 Port={site.port + 11 + number} "
            f"CPUs={cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={cpus} ThreadsPerCore=1 "
            f"RealMemory=16000 TmpDisk=1000 State=UNKNOWN{gres}"
        )
    nodes = ",".join(site.nodes)
    lines.append(f"PartitionName={site.name} Nodes={nodes} Default=YES MaxTime=INFINITE DefaultTime=01:00:00 State=UP")
    lines.append(f"PartitionName=short Nodes={nodes} MaxTime=00:10:00 DefaultTime=00:05:00 PriorityTier=10 State=UP")
    return lines


def slurmdbd_conf(site):
    """Return slurmdbd.conf of a cluster with accounting."""
    return f"""\
AuthType=auth/munge
DbdHost={site.login}
DbdAddr=127.0.0.1
DbdPort={site.port + 2}
SlurmUser=slurm
LogFile=/var/log/slurm/slurmdbd.log
PidFile=/run/slurm/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StorageLoc=slurm_acct
"""


GRES_CONF = "Name=gpu Type=a100 File=/etc/slurm/gpu[0-1]\n"
CGROUP_CONF = """\
CgroupPlugin=cgroup/v1
CgroupAutomount=no
CgroupMountpoint=/sys/fs/cgroup
ConstrainCores=no
ConstrainDevices=no
ConstrainRAMSpace=yes
ConstrainSwapSpace=no
"""


def ssh_config(all_sites, client):
    """Return the OpenSSH configuration with which the tests log in: one alias a cluster, its name."""
    return "".join(
        f"""\
Host {site.name}
  HostName 127.0.0.1
  Port {site.port}
  User {USER}
  IdentityFile {client}/id_ed25519
  IdentitiesOnly yes
  UserKnownHostsFile {client}/known_hosts
"""
        for site in all_sites
    )
