"""`dflow-hpc machine`: profiles shown, host keys trusted, machines proved step by step, each fault on one screen."""

import os

import pytest

from dflow_hpc.cli.main import main
from dflow_hpc.executors.transport.sshconfig import own_known_hosts

pytestmark = pytest.mark.slow

HERE = """
[machine.here]
scheduler = "shell"
root = "ROOT"
setup = ["export FROM_SETUP=1"]
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Return a function: profiles and arguments in, exit code and all that was printed out."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)

    def call(profiles, *words):
        (tmp_path / "machines.toml").write_text((HERE + profiles).replace("ROOT", str(tmp_path / "root")))
        code = main(["machine", *words])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return call


def test_profiles_are_listed_and_shown_merged(run):
    code, text = run('[machine.b]\nextends = "here"\nhost = "far"\n[machine.b.resources]\ncpus = 4\n', "list")
    assert code == 0
    assert [line.split()[:3] for line in text.splitlines()[1:3]] == [["b", "shell", "far"], ["here", "shell", "(this"]]
    _, text = run('[machine.b]\nextends = "here"\nhost = "far"\n[machine.b.resources]\ncpus = 4\n', "show", "b")
    for line in ('host = "far"', 'setup = ["export FROM_SETUP=1"]', "cpus = 4", "[machine.b.resources]"):
        assert line in text.splitlines()
    assert run("", "show", "c") == (2, run("", "check", "c")[1])


def test_a_good_machine_is_proved_down_to_a_job(run, tmp_path):
    code, text = run("", "check", "here", "--import", "json")
    assert code == 0, text
    assert [line[:10] for line in text.splitlines() if line.startswith("ok")] == [
        "ok  login ",
        "ok  direct",
        "ok  shell ",
        "ok  a job ",
    ]
    (tmp_path / "own.py").write_text("import yaml, nothing_of_this_name\n")
    (tmp_path / "main.py").write_text("import json, own, dflow_hpc\n\ndef f():\n    from click import echo\n")
    code, text = run("", "check", "here", "--for", "main.py")
    assert "main.py imports click, yaml" in text.splitlines()
    code, text = run("", "clean", "here")
    assert (code, "2 leaves" in text) == (0, True)
    assert not list((tmp_path / "root").glob("*/current"))


@pytest.mark.parametrize(
    ("profile", "words", "expected"),
    [
        ("", ("--import", "no_such_module"), ["No module named 'no_such_module'"]),
        ('root = "/proc/nowhere"', (), ["/proc/nowhere", "root of the profile", "quota"]),
        ('scheduler = "pbs"\nsetup = []', (), ["qstat", "known are pbs, shell, slurm", "PATH"]),
        ('setup = ["false"]', (), ["a setup line of the machine's profile failed"]),
    ],
)
def test_each_fault_is_said_on_one_screen_with_the_way_out(run, profile, words, expected, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    code, text = run(f'[machine.bad]\nextends = "here"\n{profile}\n', "check", "bad", *words)
    assert code == 1
    assert len(text.splitlines()) < 40
    bad = text[text.index("\nBAD ") :]
    assert [part for part in expected if part not in bad] == []


def test_an_unknown_host_is_refused_then_trusted_then_proved(run, sshd, monkeypatch):
    key = '[machine.m]\nextends = "here"\nhost = "stranger"\nssh_config = "' + str(sshd.config) + '"\n'
    code, text = run(key, "check", "m")
    assert (code, "dflow-hpc machine trust m" in text) == (1, True)
    code, text = run(key, "trust", "m", "--fingerprint", "SHA256:another")
    assert (code, "Nothing is stored" in text, own_known_hosts().exists()) == (2, True, False)
    monkeypatch.setattr("click.confirm", lambda _: False)
    assert run(key, "trust", "m")[0] == 1
    assert not own_known_hosts().exists()
    monkeypatch.setattr("click.confirm", lambda _: True)
    code, text = run(key, "trust", "m")
    assert (code, "SHA256:" in text, own_known_hosts().exists()) == (0, True, True)
    assert run(key, "trust", "m")[1].startswith("the host keys of machine 'm' are known")
    code, text = run(key, "check", "m", "--no-job")
    assert code == 0, text


def test_a_refused_login_says_what_was_tried(run, sshd):
    key = f'[machine.m]\nextends = "here"\nhost = "refused"\nssh_config = "{sshd.config}"\n'
    code, text = run(key, "check", "m")
    assert code == 1
    for part in ("refused the login", f"{sshd.directory}/wrong", "ssh refused true", 'transport = "openssh"'):
        assert part in text


@pytest.mark.rig
@pytest.mark.parametrize("transport", ["paramiko", "openssh"])
@pytest.mark.parametrize("cluster", ["gpu", "cpu"])
def test_a_real_cluster_is_proved(run, slurm_rig, cluster, transport):
    there = slurm_rig[cluster]
    profile = (
        f'[machine.m]\nscheduler = "slurm"\nhost = "{there.name}"\nssh_config = "{there.ssh_config}"\n'
        f'transport = "{transport}"\nroot = "{there.root}/check {os.getpid()}"\n'
        f'[machine.m.resources]\nqueue = "{there.name}"\nmemory = "64MB"\ntime = "5m"\n'
    )
    code, text = run(profile, "check", "m")
    assert code == 0, text
    assert f"with{'' if there.accounting else 'out'} accounting" in text
    assert f"a job ran on {there.name}-n" in text


@pytest.mark.rig
def test_what_real_slurm_refuses_and_a_full_quota_are_found_before_a_run(run, slurm_faults):
    there = slurm_faults["cpu"]
    profile = (
        f'[machine.m]\nscheduler = "slurm"\nhost = "{there.name}"\nssh_config = "{there.ssh_config}"\nroot = "%s"\n'
        '[machine.m.resources]\nqueue = "no-such-queue"\nmemory = "64MB"\ntime = "5m"\n'
    )
    code, text = run(profile % f"{there.root}/check", "check", "m")
    assert (code, "invalid partition" in text, '#SBATCH --partition="no-such-queue"' in text) == (1, True, True)
    there.ctl("fill")
    code, text = run(profile % f"{there.small_root}/check", "check", "m")
    assert code == 1
    assert "choose another root" in text or "quota left" in text
