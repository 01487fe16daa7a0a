"""The local store: where keys lie, ways to clone, read-only objects, merges in many processes, faults."""

import errno
import multiprocessing
import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dflow_hpc.errors import StorageError
from dflow_hpc.storage import trees
from dflow_hpc.storage.local import LocalStore, changed, snapshot


def files(root):
    return {str(path.relative_to(root)): path for path in Path(root).rglob("*") if path.is_file()}


def leftovers(root):
    return list(Path(root).rglob(".incoming/*"))


def test_keys_of_a_run_lie_in_it_and_others_beside(store, here):
    assert store.path_of("wf/pod/out.tgz") == here / "wf/store/pod/out.tgz"
    assert store.path_of("upload/1") == here / "upload/1"
    assert LocalStore(here, "artifacts").path_of("upload/1") == here / "artifacts/upload/1"
    with pytest.raises(StorageError, match="name of a run"):
        store.put(here / "wf" / "workflow.json", "wf")


@pytest.mark.parametrize("move", [False, True])
def test_objects_are_read_only_and_can_be_deleted(store, here, move):
    source = here / "source"
    (source / "closed").mkdir(parents=True)
    (source / "closed" / "f").write_text("1")
    (source / "run.sh").write_text("1")
    (source / "run.sh").chmod(0o775)
    (source / "closed").chmod(0o555)
    store.put(source, "wf/x", move=move)
    modes = {name: stat.S_IMODE(path.stat().st_mode) for name, path in files(store.path_of("wf/x")).items()}
    assert modes["run.sh"] == 0o555
    assert not modes["closed/f"] & 0o222
    if not move:
        assert stat.S_IMODE((source / "run.sh").stat().st_mode) == 0o775
        (source / "closed").chmod(0o755)
    store.delete("wf/x")
    assert not store.exists("wf/x")


def test_ways_to_fetch(store, here):
    source = here / "source"
    (source / "d").mkdir(parents=True)
    (source / "d" / "f").write_text("1")
    store.put(source, "wf/x", move=True)
    kept = store.path_of("wf/x/d/f")
    assert store.get("wf/x", here / "link", how="link") == "hardlink"
    assert (here / "link/d/f").samefile(kept)
    assert store.get("wf/x", here / "symlink", how="symlink") == "symlink"
    assert (here / "symlink/d/f").readlink() == kept
    assert store.get("wf/x", here / "copy", how="copy") in ("reflink", "copy")
    with (here / "copy/d/f").open("a") as mine:
        mine.write("2")
    assert (here / "copy/d/f").stat().st_nlink == 1
    assert kept.read_text() == "1"
    assert store.get("wf/x", here / "cheapest") in ("reflink", "hardlink")
    with pytest.raises(StorageError, match=r"'teleport'.*reflink, hardlink"):
        store.get("wf/x", here / "y", how="teleport")


def test_small_files_are_ones_own_where_that_is_asked_for(store, here):
    (here / "in").mkdir()
    (here / "in" / "small").write_text("1")
    (here / "in" / "large").write_bytes(bytes(trees.SMALL + 1))
    store.put(here / "in", "wf/x")
    assert store.get("wf/x", here / "out", how="small") in ("reflink", "hardlink")
    before = snapshot(here / "out", above=trees.SMALL)
    for name in ("small", "large"):
        (here / "out" / name).chmod(0o644)
        with (here / "out" / name).open("a") as file:
            file.write("2")
    assert store.path_of("wf/x/small").read_text() == "1"
    assert changed(before) == ["large"]
    assert snapshot(here / "out" / "small", above=trees.SMALL).files == ()


def test_a_key_of_one_word_holds_nothing_of_the_stores_own(store, here):
    (here / "f").write_text("1")
    with store.staging("common/staged"):
        store.put(here / "f", "common/a/f")
        store.put(here / "f", "wf/b/f")
        assert len(list(store.path_of("common").iterdir())) == 2  # the store works beside the keys
        for key, name in (("common", "a"), ("wf", "b")):
            store.get(key, here / "got" / key)
            store.copy(key, f"copy/{key}")
            for path in (here / "got" / key, store.path_of(f"copy/{key}")):
                assert [entry.name for entry in path.iterdir()] == [name]


def test_what_a_file_system_cannot_do_is_tried_another_way(store, here, monkeypatch):
    (here / "f").write_text("1")
    store.put(here / "f", "wf/x")

    def refuse(*_args):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(trees, "_share_blocks", refuse)
    assert store.get("wf/x", here / "a") == "symlink"
    monkeypatch.setattr(os, "sendfile", refuse)
    assert store.get("wf/x", here / "b", how="copy") == "copy"
    assert (here / "b").read_text() == "1"
    monkeypatch.setattr(os, "rename", lambda old, new: refuse() if old == str(here / "f") else Path(old).replace(new))
    store.put(here / "f", "wf/y", move=True)
    assert store.path_of("wf/y").read_text() == "1"
    assert not (here / "f").exists()


def test_a_fetch_replaces_files_and_never_writes_into_them(store, here):
    for number in (1, 2):
        (here / "f").write_text(str(number))
        store.put(here / "f", f"wf/{number}")
    store.get("wf/1", here / "target")
    store.get("wf/2", here / "target")
    assert (here / "target").read_text() == "2"
    assert store.path_of("wf/1").read_text() == "1"
    store.get("wf/1", here / "target", keep_existing=True)
    assert (here / "target").read_text() == "2"


def test_objects_are_replaced_and_prefixes_merged(store, here):
    for name in ("a", "b"):
        (here / name).mkdir()
        (here / name / name).write_text("1")
        store.put(here / name, "wf/replaced")
        store.put(here / name, "wf/merged", archive="none")
    assert sorted(files(store.path_of("wf/replaced"))) == ["b"]
    assert sorted(files(store.path_of("wf/merged"))) == ["a", "b"]
    store.put(here / "a" / "a", "wf/replaced")
    assert store.path_of("wf/replaced").is_file()
    assert leftovers(here) == []


def test_a_merge_tells_what_it_replaced(store, here):
    notices = []
    for text in ("1", "1", "2"):
        (here / "out").mkdir()
        (here / "out" / "log").write_text(text)
        notices.append(store.put(here / "out", "wf/all", archive="none", move=True))
    assert notices[:2] == [[], []]
    assert "(log)" in notices[2][0]
    assert "create_dir=True" in notices[2][0]
    assert store.path_of("wf/all/log").read_text() == "2"


@pytest.mark.parametrize("first_is_file", [True, False])
def test_a_file_and_a_directory_of_one_name_do_not_merge(store, here, first_is_file):
    for number, is_file in enumerate([first_is_file, not first_is_file]):
        (here / str(number)).mkdir()
        if is_file:
            (here / str(number) / "x").write_text("1")
        else:
            (here / str(number) / "x" / "y").mkdir(parents=True)
    store.put(here / "0", "wf/all", archive="none")
    with pytest.raises(StorageError, match=r"another name"):
        store.put(here / "1", "wf/all", archive="none")


def _merge_many(workdir, worker, count):
    store = LocalStore(workdir)
    for number in range(count):
        out = Path(workdir) / f"leaf-{worker}-{number}"
        (out / ".dflow").mkdir(parents=True)
        (out / "results").mkdir()
        (out / "results" / f"{worker}-{number}").write_text("x" * number)
        (out / ".dflow" / f"{worker}-{number}").write_text("{}")
        store.put(out, "wf/all", archive="none", move=True)


def test_many_processes_merge_into_one_prefix(store, here):
    workers = [multiprocessing.get_context("fork").Process(target=_merge_many, args=(here, n, 20)) for n in range(4)]
    for worker in workers:
        worker.start()
    seen = {}
    while any(worker.is_alive() for worker in workers):
        # Whoever reads the catalogue first and the files then must find every file that it names.
        catalogue = store.path_of("wf/all/.dflow")
        named = [path.name for path in catalogue.glob("*")]
        seen.update({name: store.path_of(f"wf/all/results/{name}").stat().st_size for name in named})
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    expected = {f"{worker}-{number}": number for worker in range(4) for number in range(20)}
    assert all(expected[name] == size for name, size in seen.items())
    assert {path.name: path.stat().st_size for path in store.path_of("wf/all/results").iterdir()} == expected
    assert len(list(store.path_of("wf/all/.dflow").iterdir())) == 80
    assert leftovers(here) == []


def test_links_inside_a_tree_stay_links_and_a_link_at_its_top_is_followed(store, here):
    source = here / "source"
    (source / "d").mkdir(parents=True)
    (source / "d" / "f").write_text("1")
    (source / "relative").symlink_to("d/f")
    (source / "absolute").symlink_to(source / "d")
    (here / "top").symlink_to(source)
    store.put(here / "top", "wf/a")
    store.put(source, "wf/b", move=True)
    for key in ("wf/a", "wf/b"):
        store.get(key, here / key)
        assert (here / key / "relative").readlink() == Path("d/f")
        assert (here / key / "absolute").readlink() == Path("d")
    store.get("wf/a", here / "part", sub_path="relative")
    assert (here / "part").read_text() == "1"


def test_what_is_no_file_is_refused(store, here):
    (here / "out").mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(here / "out" / "socket"))
    listener.close()
    for move in (False, True):
        with pytest.raises(StorageError, match=r"out/socket.*remove it"):
            store.put(here / "out", "wf/x", move=move)
    assert not store.exists("wf/x")
    with pytest.raises(StorageError, match="No such file"):
        store.put(here / "nope", "wf/x")


def test_a_staged_input_that_was_changed_is_found(store, here):
    (here / "in").mkdir()
    for name in ("a", "b", "c", "d"):
        (here / "in" / name).write_text("1")
    store.put(here / "in", "wf/x", move=True)
    store.put(store.path_of("wf/x/a"), "wf/file")
    store.get("wf/x", here / "staged", how="symlink")
    store.get("wf/file", here / "file", how="copy")
    before, single = snapshot(here / "staged"), snapshot(here / "file")
    assert [(name, size) for name, size, _ in sorted(before.files)] == [(name, 1) for name in "abcd"]
    assert changed(before) == changed(single) == []
    store.path_of("wf/x/b").chmod(0o644)
    with (here / "staged" / "b").open("a") as file:
        file.write("2")
    os.utime(here / "staged" / "c", ns=(0, 0))
    (here / "staged" / "d").unlink()
    (here / "staged" / "new").write_text("")
    os.utime(here / "file", ns=(0, 0))
    assert sorted(changed(before)) == ["b", "c"]
    assert changed(single) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_named(store, here):
    (here / "out").mkdir()
    (here / "out" / "secret").write_text("1")
    (here / "out" / "secret").chmod(0)
    with pytest.raises(StorageError, match=r"out/secret.*readable"):
        store.put(here / "out", "wf/x")
    assert not store.exists("wf/x")
    store.put(here / "out", "wf/x", move=True)  # moved, it is ours: made readable
    assert store.path_of("wf/x/secret").read_text() == "1"


FULL = """
import subprocess, sys
from pathlib import Path
from dflow_hpc.errors import StorageError
from dflow_hpc.storage.local import LocalStore
room = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", room / "small"], check=True)
store = LocalStore(room / "small")
for move in (False, True):
    try:
        store.put(room / "big", "run/x", move=move)
    except StorageError as error:
        print(error)
    assert not store.exists("run/x")
    assert list((room / "small" / "run" / ".incoming").iterdir()) == []
    assert (room / "big" / "b").exists()
(room / "fits").write_text("1")
store.put(room / "fits", "run/x")
assert store.path_of("run/x").read_text() == "1"
"""


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    unshare = [*("unshare", "--user", "--map-root-user", "--mount"), sys.executable, "-c"]
    if not shutil.which("unshare") or subprocess.run([*unshare, ""], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no user namespaces, so no small file system can be mounted")
    (tmp_path / "small").mkdir()
    (tmp_path / "big").mkdir()
    for name in "ab":
        (tmp_path / "big" / name).write_bytes(b"x" * 700_000)
    root = Path(trees.__file__).parents[2]
    done = subprocess.run(
        [*unshare, FULL, tmp_path],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("free some space and resume") == 2
    assert "big" in done.stdout


def test_a_tree_of_many_files_takes_few_calls_a_file(store, here, monkeypatch):
    (here / "many").mkdir()
    for number in range(500):
        (here / "many" / str(number)).write_text("")
    calls = []
    for name in ("stat", "lstat", "chmod", "link", "rename", "readlink", "open"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, _real=real, _name=name, **k: calls.append(_name) or _real(*a, **k))
    store.put(here / "many", "wf/x", move=True)
    assert len(calls) <= 500 + 30
    calls.clear()
    store.get("wf/x", here / "back", how="hardlink")
    assert len(calls) <= 500 + 30
