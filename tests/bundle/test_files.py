"""Which files travel: modules and packages of the author's, what lies beside them, and what must not travel.

Everything here runs in this process, on OPs of modules; scripts have their own tests.
"""

import importlib
import os
import sys
from pathlib import Path

import pytest

from dflow_hpc.compile import gather
from dflow_hpc.compile.bundle import bundle, diff, extract
from dflow_hpc.config import config
from dflow_hpc.errors import BundleError
from dflow_hpc.op.loader import load

OP = "class Op:\n    def execute(self):\n        return 1\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A directory on sys.path; its modules are forgotten afterwards."""
    directory = tmp_path / "project"
    directory.mkdir()
    monkeypatch.syspath_prepend(directory)
    before = set(sys.modules)
    importlib.invalidate_caches()

    def write(files):
        for name, content in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return directory

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def op_of(module):
    return importlib.import_module(module).Op


def code_of(made):
    return sorted(name.removeprefix("code/") for name in made.files if name.startswith("code/"))


def test_a_regular_package_travels_whole_and_alone(project):
    project({
        "big/__init__.py": "",
        "big/sub/__init__.py": "",
        "big/sub/ops.py": OP,
        "big/sub/table.csv": "1,2",
        "big/other.py": "import near",
        "near.py": "",
        "unrelated/__init__.py": "",
    })  # fmt: skip
    made, entries = bundle([op_of("big.sub.ops")])
    assert entries == [{"kind": "module", "module": "big.sub.ops", "name": "Op"}]
    assert [name for name in code_of(made) if name.startswith("big/")] == [
        "big/__init__.py",
        "big/other.py",
        "big/sub/__init__.py",
        "big/sub/ops.py",
        "big/sub/table.csv",
    ]
    assert "near.py" in code_of(made)
    assert not [name for name in code_of(made) if name.startswith("unrelated/")]


def test_a_module_in_a_namespace_takes_what_lies_beside_it(project):
    project({"ns/a/ops.py": OP, "ns/a/data.txt": "x", "ns/b/far.py": ""})
    made, _ = bundle([op_of("ns.a.ops")])
    assert code_of(made) == ["ns/a/data.txt", "ns/a/ops.py"]


def test_an_instance_and_an_imported_module_of_another_directory(project, tmp_path, monkeypatch):
    project({"ops.py": "def make():\n    import common\n" + OP})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "common.py").write_text("import space.part.deep\n")
    (tmp_path / "elsewhere" / "common.dat").write_text("x")
    (tmp_path / "elsewhere" / "space" / "part").mkdir(parents=True)
    (tmp_path / "elsewhere" / "space" / "part" / "deep.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    made, entries = bundle([op_of("ops")()])
    assert entries == [{"kind": "module", "module": "ops", "name": "Op"}]
    assert code_of(made) == ["common.dat", "common.py", "ops.py", "space/part/deep.py"]


def test_an_installed_module_travels_only_when_it_is_named(project, tmp_path, monkeypatch):
    site = tmp_path / "lib" / "site-packages"
    (site / "inst").mkdir(parents=True)
    (site / "inst" / "__init__.py").write_text(OP)
    (site / "inst" / "data.bin").write_bytes(b"0" * (1 << 20))
    monkeypatch.syspath_prepend(site)
    monkeypatch.setitem(config, "bundle_max_file", 1 << 10)
    op = op_of("inst")
    stays, entries = bundle([op])
    goes, same = bundle([op], [site / "inst"])
    assert entries == same == [{"kind": "module", "module": "inst", "name": "Op"}]
    assert code_of(stays) == []
    assert code_of(goes) == ["inst/__init__.py", "inst/data.bin"]


def test_a_named_package_that_is_not_there(tmp_path):
    with pytest.raises(BundleError, match=r"package .*nothing was to travel .*it does not exist"):
        bundle([], [tmp_path / "nothing"])


def test_a_module_of_pythonpath_stays_with_a_notice(project, tmp_path, monkeypatch):
    project({"ops.py": "import cluster_tool\n" + OP})
    away = tmp_path / "modules"
    away.mkdir()
    (away / "cluster_tool.py").write_text("")
    monkeypatch.syspath_prepend(away)
    monkeypatch.setenv("PYTHONPATH", str(away))
    made, _ = bundle([op_of("ops")])
    assert code_of(made) == ["ops.py"]
    assert len(made.notices) == 1
    assert "cluster_tool" in made.notices[0]
    assert "comes from PYTHONPATH and stays behind" in made.notices[0]


def test_what_nobody_means_to_send_is_left_out(project):
    project({
        "ops.py": OP,
        ".dflowignore": "# mine\n*.log\nraw/\n/sub/only_here.txt\n",
        ".secret": "x",
        ".git/config": "x",
        "venv/pyvenv.cfg": "",
        "venv/lib.py": "",
        "wf-1/journal.jsonl": "",
        "wf-1/store/a": "",
        "upload/x": "",
        "node_modules/m.js": "",
        "__pycache__/ops.cpython-311.pyc": "",
        "it.egg-info/PKG-INFO": "",
        "run.log": "",
        "raw/a.txt": "",
        "sub/raw": "",
        "sub/only_here.txt": "",
        "sub/b.log": "",
        "sub/deep/only_here.txt": "",
    })  # fmt: skip
    made, _ = bundle([op_of("ops")])
    assert code_of(made) == ["ops.py", "sub/deep/only_here.txt", "sub/raw"]
    assert made.notices == ()


def test_a_pattern_that_takes_back_is_refused(project):
    project({"ops.py": OP, ".dflowignore": "*\n!keep.txt\n"})
    with pytest.raises(BundleError, match=r"says '!keep.txt': files cannot be taken back in"):
        bundle([op_of("ops")])


def test_a_large_file_stays_with_a_notice(project, monkeypatch):
    directory = project({"ops.py": OP, "data/big.npy": b"0" * 3000, "small.npy": b"0" * 100})
    monkeypatch.setitem(config, "bundle_max_file", 2000)
    made, _ = bundle([op_of("ops")])
    assert code_of(made) == ["ops.py", "small.npy"]
    assert len(made.notices) == 1
    assert str(directory / "data/big.npy") in made.notices[0]
    assert "upload_artifact" in made.notices[0]


def test_many_files_stay_with_a_notice_nearest_first(project, monkeypatch):
    project({"ops.py": OP, **{f"far/away/{i}.txt": "x" for i in range(20)}, "zz.txt": "x"})
    monkeypatch.setattr(gather, "TOTAL_FILES", 3)
    made, _ = bundle([op_of("ops")])
    assert code_of(made) == ["far/away/0.txt", "ops.py", "zz.txt"]
    assert "far/away/1.txt and what lies deeper" in made.notices[0]


def test_a_home_directory_is_not_descended_into(project, monkeypatch):
    directory = project({"ops.py": OP, "beside.txt": "x", "documents/letter.txt": "x"})
    monkeypatch.setenv("HOME", str(directory))
    made, _ = bundle([op_of("ops")])
    assert code_of(made) == ["beside.txt", "ops.py"]


@pytest.mark.parametrize("name", ["fast.cpython-311-x86_64-linux-gnu.so", "fast.so", "sub/fast.pyd"])
def test_a_compiled_extension_is_refused_by_name(project, name):
    project({"ops.py": OP, name: b"\x7fELF"})
    with pytest.raises(BundleError, match=r"fast\.[a-z].* is compiled for this machine and cannot travel"):
        bundle([op_of("ops")])
    project({".dflowignore": "fast.*\n"})
    assert code_of(bundle([op_of("ops")])[0]) == ["ops.py"]


def test_links_are_followed_once_and_dead_ones_are_nothing(project, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "data.txt").write_text("far")
    directory = project({"ops.py": OP, "sub/a.txt": "x"})
    (directory / "linked.txt").symlink_to(outside / "data.txt")
    (directory / "linked").symlink_to(outside)
    (directory / "sub" / "up").symlink_to(directory)
    (directory / "dead").symlink_to(directory / "nowhere")
    (directory / "itself").symlink_to(directory / "itself")
    os.mkfifo(directory / "pipe")
    made, _ = bundle([op_of("ops")])
    assert code_of(made) == ["linked.txt", "linked/data.txt", "ops.py", "sub/a.txt"]
    assert made.files["code/linked.txt"] == made.files["code/linked/data.txt"]


def test_odd_names_travel_and_impossible_ones_are_said(project, tmp_path):
    directory = project({"ops.py": OP, "a\\b \n\N{SNOWMAN}.txt": "x"})
    Path(os.fsdecode(os.fsencode(directory) + b"/bad-\xff.txt")).write_text("x")
    made, _ = bundle([op_of("ops")])
    assert code_of(made) == ["a\\b \n\N{SNOWMAN}.txt", "ops.py"]
    assert "left behind because its name is not UTF-8" in made.notices[0]
    extract(made.data, tmp_path / "code")
    assert (tmp_path / "code/code/a\\b \n\N{SNOWMAN}.txt").read_text() == "x"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_named(project):
    directory = project({"ops.py": OP, "closed.txt": "x"})
    (directory / "closed.txt").chmod(0)
    with pytest.raises(BundleError, match=r"closed.txt cannot be read"):
        bundle([op_of("ops")])


def test_the_same_files_give_the_same_bytes(project, tmp_path):
    directory = project({"ops.py": OP, "b/c.txt": "x", "a.txt": "y"})
    op = op_of("ops")
    first, _ = bundle([op])
    os.utime(directory / "a.txt", (1, 1))
    again, _ = bundle([op])
    assert again.data == first.data
    (directory / "a.txt").write_text("z")
    (directory / "new.txt").write_text("")
    changed, _ = bundle([op])
    assert changed.sha256 != first.sha256
    assert diff(first.files, changed.files) == ["code/a.txt", "code/new.txt"]


def test_a_module_that_a_loader_named_otherwise_travels_under_its_name(project):
    directory = project({"file.py": OP})
    spec = importlib.util.spec_from_file_location("plugins.one", directory / "file.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["plugins.one"] = module
    spec.loader.exec_module(module)
    made, entries = bundle([module.Op])
    assert entries == [{"kind": "module", "module": "plugins.one", "name": "Op"}]
    assert code_of(made) == ["plugins/one.py"]


def test_a_bundle_without_files_of_the_author_is_loaded(tmp_path):
    made, entries = bundle([importlib.import_module("dflow_hpc.op.op").OP])
    extract(made.data, tmp_path / "bundle")
    before = list(sys.path), Path.cwd()
    try:
        assert load(entries[0], tmp_path / "bundle").__name__ == "OP"
    finally:
        sys.path[:] = before[0]
    assert Path.cwd() == before[1]


def test_what_is_carried_of_dflow_hpc_is_what_a_script_loads(project):
    project({"ops.py": OP})
    names = set(bundle([op_of("ops")])[0].files)
    assert {"lib/dflow_hpc/__init__.py", "lib/dflow_hpc/op/loader.py", "lib/jsonpickle/__init__.py"} <= names
    stays = ("lib/dflow_hpc/compile", "lib/dflow_hpc/engines", "lib/dflow_hpc/compat", "lib/cloudpickle")
    assert not [name for name in names if name.startswith(stays)]
