"""dflow's import names: each module and each name answers, or says what to use; installed packages are left alone.

The finder stays for the life of a process, so what installs it runs in a process of its own.
"""

import importlib
import json
import subprocess
import sys

import pytest

import dflow_hpc
from dflow_hpc.compat import names, utils


def python(program, *, cwd, expect=0):
    done = subprocess.run([sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stderr
    return done.stdout


ALL_NAMES = """
import importlib, json
from dflow_hpc.compat import install, names
from dflow_hpc.errors import DflowError
assert install() and install()
result = {"answered": [], "refused": []}
for module, listed in names.MODULES.items():
    for name in listed:
        found = getattr(importlib.import_module(module), name)
        if name not in names.INSTEAD:
            result["answered"].append(f"{module}.{name}")
            continue
        class Own(found):
            pass
        try:
            Own(1, a=2)
        except DflowError as error:
            assert str(error).startswith(f"Own was called; dflow_hpc has no counterpart of dflow's {name}. "), error
            result["refused"].append(name)
print(json.dumps(result))
"""


def test_every_name_of_dflow_answers_or_says_what_to_use(tmp_path):
    result = json.loads(python(ALL_NAMES, cwd=tmp_path))
    assert set(result["refused"]) == set(names.INSTEAD)
    assert len(result["answered"]) > 100


def test_the_tables_agree_with_the_public_names():
    listed = {name for row in names.MODULES.values() for name in row}
    assert not names.INSTEAD.keys() & {*dflow_hpc.__all__, *names.ELSEWHERE}
    assert names.INSTEAD.keys() <= listed
    assert {name.rpartition(".")[2] for name in names.ELSEWHERE} <= listed
    assert listed <= {*dflow_hpc.__all__, *names.ELSEWHERE, *names.INSTEAD}


IMPORTS = """
from dflow_hpc.compat import install
install()
from dflow import *
from dflow import config, set_config
from dflow.config import config as same, s3_config
import dflow.config
import dflow.utils
import dflow_hpc
import dflow_hpc.python
from dflow.python import OP, upload_packages
from dflow.python.opio import HDF5Dataset
assert Step is dflow.step.Step is dflow_hpc.Step
assert config is same is dflow.config is dflow_hpc.config
assert OP is dflow_hpc.OP is dflow_hpc.python.OP is dflow.python.op.OP
assert dflow.utils.flatten({"a": [1]}) == {"a.0": 1}
set_config(mode="debug")
assert list(dflow.__path__) == dflow_hpc.__path__
assert dflow.config["mode"] == "debug"
for statement in (
    "import dflow.plugins.nothing",
    "from dflow import Stepp",
    "import dflow.nothing",
    "import dflow.cli",
):
    try:
        exec(statement)
    except ImportError as error:
        print(error)
"""


def test_import_statements_of_dflow_scripts(tmp_path):
    lines = python(IMPORTS, cwd=tmp_path).splitlines()
    assert "dflow.plugins.nothing was imported" in lines[0]
    assert "Step(..., executor='NAME')" in lines[0]
    assert "cannot import name 'Stepp' from 'dflow'" in lines[1]
    assert "No module named 'dflow.nothing'" in lines[2]
    assert "No module named 'dflow.cli'" in lines[3]  # there is a dflow_hpc.cli


PLUGINS = """
from dflow_hpc.compat import install
install()
import inspect
import dflow
from dflow_hpc.errors import CompileError
from dflow import SlurmRemoteExecutor, ShellOPTemplate, Step, Workflow, config, s3_config
from dflow.plugins import bohrium
from dflow.plugins.bohrium import BohriumContext, TiefblueClient
from dflow.plugins.dispatcher import DispatcherExecutor
from dflow.plugins.lebesgue import LebesgueExecutor
from dflow.plugins.ray import RayClusterExecutor
assert dflow.plugins.dispatcher.DispatcherExecutor is DispatcherExecutor
assert bohrium.config["username"] is None and bohrium.config is not config
assert list(inspect.signature(DispatcherExecutor.__init__).parameters)[:3] == ["self", "host", "queue_name"]
executor = DispatcherExecutor(host="login", machine_dict={"batch_type": "Slurm"}, clean=False)
assert (executor.host, executor.machine_dict, executor.clean) == ("login", {"batch_type": "Slurm"}, False)
assert SlurmRemoteExecutor("login", username="me", header="#SBATCH").header == "#SBATCH"
s3_config["storage_client"] = TiefblueClient(project_id=1)
wf = Workflow("elsewhere")
wf.add(Step("say", ShellOPTemplate("say", image="busybox", script="echo"), executor=LebesgueExecutor(extra={})))
everywhere = Workflow("everywhere", context=BohriumContext(executor="mixed", extra={}, username="", password=""))
everywhere.add(Step("say", ShellOPTemplate("say", image="busybox", script="echo")))
ray = Workflow("ray")
ray.add(Step("say", ShellOPTemplate("say", image="busybox", script="echo"), executor=RayClusterExecutor("ray://head:1")))
for workflow in (wf, everywhere, ray):
    try:
        workflow.to_dict()
    except CompileError as error:
        print(error)
"""

SERVICES = """
from dflow_hpc.compat import install
install()
from dflow.plugins.bohrium import BohriumDatasetsArtifact, TiefblueClient
from dflow.plugins.datasets import DatasetsArtifact, config
from dflow.plugins.launching import OP_to_parser
from dflow.plugins.metadata import MetadataClient
from dflow.plugins.oss import OSSClient
from dflow_hpc.errors import DflowError
config["user"] = "me"
assert not hasattr(OP_to_parser, "__wrapped__")
for refused in (
    lambda: DatasetsArtifact.from_urn("launching+datasets://set@1"),
    lambda: BohriumDatasetsArtifact("/bohr/set"),
    lambda: MetadataClient(project="p", token="t"),
    lambda: OP_to_parser(object),
    lambda: OSSClient("https://oss", bucket_name="b").download("key", "path"),
    lambda: TiefblueClient(project_id=1).upload("key", "path"),
):
    try:
        refused()
    except DflowError as error:
        print(error)
"""


def test_other_services_can_be_imported_and_are_refused_where_they_are_needed(tmp_path):
    lines = python(SERVICES, cwd=tmp_path).splitlines()
    assert lines[0].startswith("DatasetsArtifact.from_urn was asked for; dflow_hpc has no counterpart of dflow's ")
    assert lines[1].startswith("BohriumDatasetsArtifact was called; ")
    assert [line.endswith("or upload_artifact() it.") for line in lines[:2]] == [True, True]
    assert lines[2].endswith("journal says what came from what.")
    assert lines[3].endswith("with argparse, and call submit().")
    assert lines[4].startswith("a file was asked of OSSClient, ")
    assert lines[5].startswith("a file was asked of TiefblueClient, ")


def test_executors_of_other_services_can_be_made_and_are_refused_before_a_run(tmp_path):
    lines = python(PLUGINS, cwd=tmp_path).splitlines()
    assert len(lines) == 3
    for line, name in zip(lines, ("BohriumExecutor", "BohriumExecutor", "RayClusterExecutor"), strict=True):
        assert f"given to {name}," in line
        assert "Step(..., executor='NAME')" in line


OBJECTS = """
import json
from dflow_hpc.compat import install
install()
from argo.workflows.client import V1PersistentVolumeClaimVolumeSource, V1Toleration, V1Volume, V1VolumeMount
import argo.workflows.client
from dflow import ShellOPTemplate, Step, Workflow
try:
    argo.workflows.client.ApiClient
except AttributeError as error:
    assert "Install argo-workflows==5.0.0" in str(error)
say = ShellOPTemplate(
    "say",
    image="busybox",
    script="echo",
    volumes=[V1Volume(name="v", persistent_volume_claim=V1PersistentVolumeClaimVolumeSource(claim_name="c"))],
    mounts=[V1VolumeMount(name="v", mount_path="/data", sub_path=None)],
    tolerations=[V1Toleration(key="gpu", operator="Exists")],
)
wf = Workflow("volumes")
wf.add(Step("say", say))
print(json.dumps(next(found for found in wf.to_dict()["spec"]["templates"] if found["name"] == "say")))
"""


def test_objects_of_argos_client_can_be_given_to_templates(tmp_path):
    found = json.loads(python(OBJECTS, cwd=tmp_path))
    assert found["volumes"] == [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
    assert found["script"]["volumeMounts"] == [{"name": "v", "mountPath": "/data"}]
    assert found["tolerations"] == [{"key": "gpu", "operator": "Exists"}]


def test_an_installed_client_of_argo_stays(tmp_path):
    (tmp_path / "argo").mkdir()
    (tmp_path / "argo" / "__init__.py").write_text("WHO = 'theirs'\n")
    program = "from dflow_hpc.compat import install; install(); import argo; print(argo.WHO)"
    assert python(program, cwd=tmp_path) == "theirs\n"


def test_an_installed_dflow_stays_unless_asked(tmp_path):
    (tmp_path / "dflow").mkdir()
    (tmp_path / "dflow" / "__init__.py").write_text("WHO = 'theirs'\n")
    program = (
        "from dflow_hpc.compat import install; print(install({force})); import dflow; print(dflow.__spec__.origin)"
    )
    theirs = f"False\n{tmp_path}/dflow/__init__.py\n"
    assert python(program.format(force=""), cwd=tmp_path) == theirs
    assert python(program.format(force="force=True"), cwd=tmp_path) == "True\ndflow_hpc.compat\n"


def test_a_plain_directory_called_dflow_is_nobodys(tmp_path):
    (tmp_path / "dflow").mkdir()
    program = "from dflow_hpc.compat import install; print(install()); from dflow import Step; print(Step.__module__)"
    assert python(program, cwd=tmp_path) == "True\ndflow_hpc.model.step\n"


def test_run_command(tmp_path):
    assert utils.run_command("echo a b") == (0, "a b\n", "")
    assert utils.run_command(["sh", "-c", "echo e >&2; exit 3"], raise_error=False) == (3, "", "e\n")
    assert utils.run_command("echo a | cat", shell=True)[1] == "a\n"
    assert utils.run_command("cat", input="zz")[1] == "zz"
    assert utils.run_command(["echo c; echo b | cat"], try_bash=True, login=False)[1] == "c\nb\n"
    assert utils.run_command("pwd", cwd=tmp_path)[1] == f"{tmp_path}\n"
    with pytest.raises(AssertionError, match=r"ended with exit code 3:\ne\n"):
        utils.run_command(["sh", "-c", "echo e >&2; exit 3"])


def test_small_helpers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with utils.set_directory("new", mkdir=True) as there:
        assert there == tmp_path / "new" == there.cwd()
    assert there.cwd() == tmp_path
    assert utils.dict2list({"0": {"1": 5}, "2": {"a": 1}}) == [[None, 5], None, {"a": 1}]
    stacked = [{"dflow_list_item": "x", "order": 1}, {"dflow_list_item": "y", "order": 0}]
    assert utils.convert_dflow_list(stacked) == ["y", "x"]
    settings = {"a": {"b": 1, "c": 2}, "d": 3}
    utils.update_dict(settings, {"a": {"b": {"e": 4}}, "d": {"f": 5}})
    assert settings == {"a": {"b": {"e": 4}, "c": 2}, "d": {"f": 5}}
    (tmp_path / "file").write_text("abc")
    assert utils.get_md5("file") == "900150983cd24fb0d6963f7d28e17f72"
    assert utils.import_func("os.path.join") is importlib.import_module("os").path.join
    with pytest.raises(ModuleNotFoundError, match="no module nowhere"):
        utils.import_func("nowhere.at.all")
    text = utils.jsonpickle.dumps({(1, 2): 3})
    assert utils.jsonpickle.loads(text) == {(1, 2): 3}
