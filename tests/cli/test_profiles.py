"""``machine import``: dpdispatcher's JSON as a profile that ``machine show`` reads."""

import json
import tomllib

import pytest

from dflow_hpc.cli.main import main

MACHINE = {
    "batch_type": "Slurm",
    "context_type": "SSHContext",
    "remote_root": "/data/me",
    "remote_profile": {"hostname": "login", "username": "me", "password": "geheim"},
}
RESOURCES = {"number_node": 1, "cpu_per_node": 4, "queue_name": "gpu", "group_size": 1, "module_list": ["a"]}
PROFILE = {
    "scheduler": "slurm",
    "host": "me@login",
    "root": "/data/me",
    "setup": ["module load a"],
    "resources": {"nodes": 1, "tasks": 4, "queue": "gpu"},
}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def call(content, *words):
        (tmp_path / "my file.json").write_text(content if isinstance(content, str) else json.dumps(content))
        code = main(["machine", "import", "my file.json", *words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.mark.parametrize(
    ("content", "words", "names"),
    [
        ({"machine": MACHINE, "resources": RESOURCES}, [], ["my-file"]),
        ([{"machine": MACHINE, "resources": RESOURCES}], ["--name", "gpu"], ["gpu"]),
        ({"train": [{"command": "dp", "machine": MACHINE, "resources": RESOURCES}], "x": 1}, [], ["train"]),
        ([{"machine": MACHINE, "resources": RESOURCES}] * 2, [], ["my-file-0", "my-file-1"]),
    ],
)
def test_files_of_every_shape_become_profiles(run, tmp_path, capsys, content, words, names):
    code, out, err = run(content, *words)
    assert code == 0
    assert tomllib.loads(out) == {"machine": dict.fromkeys(names, PROFILE)}
    assert "geheim" not in out + err
    assert f"{names[0]}: the password is left out" in err
    (tmp_path / "machines.toml").write_text(out)
    assert main(["machine", "show", names[0]]) == 0
    assert 'host = "me@login"' in capsys.readouterr().out


def test_a_machine_alone_and_mistakes(run):
    assert 'scheduler = "slurm"' in run(MACHINE)[1]
    assert "cannot be read as JSON" in run("{")[2]
    assert 'there is no "machine" in it' in run({"a": 1})[2]
    code, _, err = run({"machine": {**MACHINE, "batch_type": "LSF"}})
    assert (code, "my-file: batch_type is 'LSF'" in err) == (2, True)
