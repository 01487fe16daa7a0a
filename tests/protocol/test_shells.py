"""The least machine: other shells and tools than Debian's, login shells of all kinds, homes and rc files of users.

What runs is a whole life of a batch: scripts brought, submitted, run, asked, fetched, cleaned.
"""

import shlex
import shutil
import subprocess

import pytest

from dflow_hpc.errors import ConfigError
from dflow_hpc.executors.protocol import Questions, unpack
from dflow_hpc.executors.transport import in_posix_shell
from dflow_hpc.executors.transport.local import LocalTransport


class Dressed(LocalTransport):
    """A machine as it is after a login: each command goes through a login shell, or sees other tools."""

    def __init__(self, login):
        super().__init__()
        self._login = login

    def run(self, command, stdin=b"", timeout=60.0):
        return super().run(self._login(command), stdin, timeout)


def life(machine, transport):
    """Let a batch of two live on a machine; fail where it is not as anywhere."""
    machine.transport = machine.scripts._transport = transport
    assert machine.scripts.home().missing == ()
    script = "cat ../inputs/n >../out; mkdir ../d; echo x >../d/f; echo said; umask; exit $(cat ../inputs/n)"
    program = machine.command("sh", "-c", script, outputs=["out", "d"], result=True, env={"AB": "a'b c"})
    for token, code in (("k-1", "0"), ("l-1", "3")):
        (machine.here / token / "inputs").mkdir(parents=True)
        (machine.here / token / "inputs" / "n").write_text(code)
    answer = machine.submit("b", {"k-1": program, "l-1": program}, setup=["SET=1"])
    assert answer["b"].word == "answered", answer
    assert [(marker["rc"], marker["stage"]) for marker in machine.wait("k-1", "l-1")] == [(0, "main"), (3, "main")]
    for token in ("k-1", "l-1"):
        assert (machine.here / token / "d" / "f").read_text() == "x\n"
        # Setup lines run in a login shell, for the sake of "module"; what it says comes first.
        assert (machine.here / token / "log.txt").read_text().endswith("said\n0077\n")
        assert (machine.here / token / "result").read_text() == "said\n0077\n"
    shutil.rmtree(machine.here / "k-1" / "d")
    unpack(machine.scripts.fetch(["k-1"]), machine.place)
    assert (machine.here / "k-1" / "d" / "f").exists()
    reply = machine.scripts.ask(Questions(run={"echo": "echo $((1+1))"}, seal=["other"], forget=["k-1"]))
    assert (reply.batches["other"].word, reply.ran["echo"].out) == ("sealed", b"2\n")
    assert machine.scripts.clean(30)["leaves"] == 1


def tools_of(directory, shell, without=()):
    """Make a directory with busybox's tools and a shell, and nothing else."""
    if shutil.which("busybox") is None or shutil.which(shell) is None:
        pytest.skip(f"needs busybox and {shell}")
    directory.mkdir()
    names = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    for name in set(names) - {"sh", "bash", *without}:
        (directory / name).symlink_to(shutil.which("busybox"))
    (directory / "sh").symlink_to(shutil.which(shell))
    return directory


@pytest.mark.parametrize("shell", ["busybox", "dash", "bash", "ksh", "mksh", "yash"])
def test_a_posix_shell_with_busybox_is_enough(machine, tmp_path, shell):
    tools = tools_of(tmp_path / "tools", shell)
    # The scripts are called by /bin/sh; here that is the shell in question.
    path = f"PATH={shlex.quote(str(tools))}; export PATH; "
    life(machine, Dressed(lambda text: path + text.replace("/bin/sh ", "sh ")))


@pytest.mark.parametrize("tool", ["tar", "gzip", "setsid", "timeout", "stat", "df"])
def test_a_tool_that_is_missing_is_named(machine, tmp_path, tool):
    tools = tools_of(tmp_path / "tools", "dash", without=(tool,))
    if tool == "gzip":  # busybox's tar unpacks by itself
        tools.joinpath("tar").unlink()
        tools.joinpath("tar").symlink_to("/usr/bin/tar")
    machine.scripts._transport = Dressed(lambda text: f"PATH={shlex.quote(str(tools))}; export PATH; {text}")
    with pytest.raises(ConfigError, match=f"there is no {tool} on it"):
        machine.scripts.home()


RC = {
    ".bashrc": "set -o noclobber\nalias rm='rm -i' mv='mv -i' ls='ls --color' cp=false\necho bashrc speaks\n",
    ".profile": "set -o noclobber\nalias mkdir=false\necho profile speaks\n",
    ".bash_profile": ". ~/.bashrc\necho Welcome to the cluster\n",
    ".tcshrc": "echo tcshrc speaks\nalias rm 'rm -i'\nset noclobber\n",
}


@pytest.mark.parametrize("login", ["bash -lc", "bash -ic", "tcsh -c", "dash -c", "busybox sh -lc", "zsh -c", "fish -c"])
@pytest.mark.parametrize("umask", ["000", "077"])
def test_login_shells_that_speak_and_rc_files_that_change_much(machine, tmp_path, monkeypatch, login, umask):
    words = login.split()
    if shutil.which(words[0]) is None:
        pytest.skip(f"needs {words[0]}")
    home = tmp_path / "a home with blanks"
    home.mkdir()
    for name, text in RC.items():
        (home / name).write_text(text)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("ENV", str(home / ".profile"))
    life(machine, Dressed(lambda text: f"umask {umask}; exec {login} {shlex.quote(in_posix_shell(text))}"))
    assert machine.root.stat().st_mode & 0o777 == 0o700


def test_a_root_relative_to_a_home_with_blanks(machine, tmp_path, monkeypatch):
    home = tmp_path / "my home"
    home.mkdir()
    machine.scripts._root = ".dflow-hpc/machine"
    machine.root = home / ".dflow-hpc/machine"
    life(machine, Dressed(lambda text: f"cd {shlex.quote(str(home))}; HOME=$PWD; {text}"))
    assert (home / ".dflow-hpc/machine/.batch/b").is_dir()
