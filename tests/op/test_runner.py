"""The runner: one leaf, from files to files."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

import pytest

from dflow_hpc import OP, OPIO, Artifact, BigParameter, FatalError, OPIOSign, Parameter, Slices, TransientError
from dflow_hpc.op import catalog, runner, values


class Base(OP):
    """Lets each OP below say its signs in two lines."""

    ins: Dict[str, Any] = {}
    outs: Dict[str, Any] = {}

    @classmethod
    def get_input_sign(cls):
        return OPIOSign(cls.ins)

    @classmethod
    def get_output_sign(cls):
        return OPIOSign(cls.outs)


class Echo(Base):
    ins = {"n": int, "text": str, "items": List[float], "big": BigParameter(Any), "d": Parameter(int, default=7)}
    outs = {"n": int, "text": str, "items": list, "big": BigParameter(Any), "d": int}

    @OP.exec_sign_check
    def execute(self, op_in):
        return OPIO(op_in)


def test_parameters_go_through(leaf):
    given = {"n": "3", "text": 'a "b"\n', "items": "[1, 2.5]", "big": '{"py/tuple": [1]}'}
    done = leaf(Echo, given)
    assert done.code == 0
    assert {name: done.text(name) for name in given} == given
    assert done.text("d") == "7"
    assert not (done.root / "termination-log").exists()


def test_a_wrong_value_names_itself(leaf, capsys):
    done = leaf(Echo, {"n": "three", "text": "", "items": "[]", "big": "1"})
    assert done.code == 1
    assert "input parameter 'n' is declared as int; found the text 'three'" in done.message
    assert "Traceback" in capsys.readouterr().err


class Files(Base):
    ins = {"data": Artifact(List[Path]), "none": Artifact(Path, optional=True)}
    outs = {"out": Artifact(Path), "listed": Artifact(List[str])}

    @OP.exec_sign_check
    def execute(self, op_in):
        assert op_in["none"] is None
        Path("out.txt").write_text("+".join(path.read_text() for path in op_in["data"]))
        return OPIO({"out": Path("out.txt"), "listed": [str(path) for path in op_in["data"]]})


def test_artifacts_go_through(leaf):
    done = leaf(Files, artifacts={"data": {"a": "1", "d/b": "2"}})
    assert done.code == 0
    assert done.content("out") == {"out.txt": "1+2"}
    assert done.content("listed") == {"a": "1", "d/b": "2"}
    assert done.artifact("listed") == ["a", "d/b"]


class Fails(Base):
    ins = {"how": str}
    outs = {"n": int, "log": Artifact(Path)}

    def execute(self, op_in):
        Path("log").write_text("so far")
        self.set_output("log", Path("log"))
        self.set_output("n", 5)
        Path("log").write_text("so far, and more")
        if op_in["how"] == "fatal":
            raise FatalError("never again")
        if op_in["how"] == "transient":
            raise TransientError("again\nsecond line")
        if op_in["how"] == "exit":
            sys.exit(7)
        if op_in["how"] == "term":
            os.kill(os.getpid(), signal.SIGTERM)
        if op_in["how"] == "interrupt":
            raise KeyboardInterrupt
        if op_in["how"] == "nothing":
            return None
        return {"n": 1}


@pytest.mark.parametrize(
    ("how", "code", "message"),
    [
        ("fatal", 2, "dflow_hpc.op.op.FatalError: never again"),
        ("transient", 1, "dflow_hpc.op.op.TransientError: again"),
        ("term", 1, "dflow_hpc.op.runner.Terminated: the leaf was asked to end (SIGTERM)"),
        ("interrupt", 1, "KeyboardInterrupt"),
        ("nothing", 1, "dflow_hpc.errors.SignError: Fails.execute returned None; its output sign has 'n', 'log'. "),
    ],
)
def test_failures_keep_what_was_published(leaf, how, code, message):
    done = leaf(Fails, {"how": how})
    assert done.code == code
    assert done.message.startswith(message)
    assert done.text("n") == "5"
    assert done.content("log") == {"log": "so far, and more"}
    assert not (done.root / "outputs/artifacts/log/log").is_symlink()


def test_exit_of_an_op_goes_on_and_keeps_what_was_published(leaf, tmp_path):
    with pytest.raises(SystemExit) as ended:
        leaf(Fails, {"how": "exit"})
    assert ended.value.code == 7
    assert (tmp_path / "leaf0/outputs/artifacts/log/log").read_text() == "so far, and more"


def test_an_output_that_is_left_out(leaf):
    done = leaf(Fails, {"how": "partly"})
    assert done.code == 1
    assert "output 'log' is declared and execute did not return it; it returned 'n'" in done.message


def test_another_handler_of_sigterm_stays(leaf):
    def handler(_number, _frame):
        raise KeyError("mine")

    signal.signal(signal.SIGTERM, handler)
    assert "KeyError: 'mine'" in leaf(Fails, {"how": "term"}).message


class Knows(Base):
    outs = {"known": dict}

    def __init__(self, factor):
        self.factor = factor

    def execute(self, op_in):
        known = {"key": self.key, "name": self.workflow_name, "root": self.tmp_root, "factor": self.factor}
        return OPIO({"known": {**known, "cwd": str(Path.cwd())}})


def test_what_an_op_knows(leaf, monkeypatch):
    monkeypatch.setenv("ARGO_WORKFLOW_NAME", "wf-1")
    state = values.dump_state(Knows((1, 2)))
    done = leaf(Knows, {"dflow_key": "iter-3"}, instance=state)
    known = values.load(done.text("known"))
    root = str(done.root)
    assert known == {"key": "iter-3", "name": "wf-1", "root": root, "factor": (1, 2), "cwd": f"{root}/workdir"}


class Square(Base):
    ins = {"n": int, "shift": Parameter(int, default=0), "file": Artifact(Path, optional=True)}
    outs = {"m": int, "out": Artifact(Path), "pid": int}

    @OP.exec_sign_check
    def execute(self, op_in):
        n = op_in["n"]
        if n < 0:
            raise ValueError(f"negative: {n}")
        if n == 99:
            os._exit(3)
        if n == 98:
            time.sleep(60)
        content = op_in["file"].read_text() if op_in["file"] else ""
        name = f"out-{n}" if not self.slices.get("dirs") else "out"
        Path(name).write_text(f"{content}{n * n + op_in['shift']}")
        return OPIO({"m": n * n + op_in["shift"], "out": Path(name), "pid": os.getpid()})


def record(**options):
    names = {"input_parameter": ["n"], "output_parameter": ["m"], "output_artifact": ["out"]}
    return Slices(**{**names, **options}).record("${item}" if "group_size" in options else "${dflow_var_0}")


def test_one_slice(leaf):
    slices = record(input_artifact=["file"])
    given = {"n": "[1, 2, 3]", "shift": "10", "dflow_var_0": "2"}
    done = leaf(Square, given, {"file": {"x": "x:", "y": "y:", "z": "z:"}}, slices=slices)
    assert done.code == 0
    assert done.value("m") == [{"dflow_list_item": 19, "order": 2}]
    assert done.content("out") == {"out-3": "z:19"}
    assert catalog.read(done.root / "outputs/artifacts/out") == [catalog.Entry("out-3", 2)]
    assert isinstance(done.value("pid"), int)


class Squares(Base):
    ins = {"n": List[int], "files": Artifact(List[Path], optional=True)}
    outs = {"m": List[int], "out": Artifact(List[Path])}

    @OP.exec_sign_check
    def execute(self, op_in):
        for n in op_in["n"]:
            Path(f"out-{n}").write_text(str(n))
        short = len(op_in["n"]) == 3
        return OPIO(
            {"m": [n * n for n in op_in["n"]][: 2 if short else 9], "out": [Path(f"out-{n}") for n in op_in["n"]]}
        )


def test_several_slices_at_once(leaf):
    given = {"n": "[1, 2, 3, 4]", "dflow_group": "1", "dflow_nslices": "4"}
    done = leaf(Squares, given, slices=record(group_size=2, create_dir=True))
    assert done.value("m") == [{"dflow_list_item": 9, "order": 2}, {"dflow_list_item": 16, "order": 3}]
    assert done.content("out") == {"2/out-3": "3", "3/out-4": "4"}
    short = leaf(Squares, {**given, "dflow_group": "0"}, slices=record(group_size=3))
    assert "output parameter 'm' belongs to 3 slices, [0, 1, 2]; found [1, 4]" in short.message


def test_stacked_inputs_are_cut(leaf):
    stacked = json.dumps([values.stack([3], [1]), values.stack([5], [0])])
    assert leaf(Square, {"n": stacked, "dflow_var_0": "0"}, slices=record()).value("m")[0]["dflow_list_item"] == 25


@pytest.mark.parametrize("size", [1, 2, -1])
def test_pools(leaf, size):
    given = {"n": "[1, 2, 3]", "dflow_group": "0", "dflow_nslices": "3"}
    slices = record(group_size=3, pool_size=size, input_artifact=["file"])
    done = leaf(Square, given, {"file": {"x": "x:", "y": "y:", "z": "z:"}}, slices=slices)
    assert done.code == 0
    assert [item["dflow_list_item"] for item in done.value("m")] == [1, 4, 9]
    assert done.content("out") == {"out-1": "x:1", "out-2": "y:4", "out-3": "z:9"}
    assert done.artifact("out") == ["out-1", "out-2", "out-3"]
    assert (done.value("pid") == os.getpid()) is (size == 1)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("forgiven", [False, True])
def test_a_pools_failures_leave_the_others_results(leaf, size, forgiven):
    given = {"n": "[1, -2, 3]", "dflow_group": "0", "dflow_nslices": "3"}
    done = leaf(Square, given, slices=record(group_size=3, pool_size=size), success_tag=forgiven)
    assert done.code == (0 if forgiven else 1)
    assert [item["dflow_list_item"] for item in done.value("m")] == [1, None, 9]
    assert done.artifact("out") == ["out-1", None, "out-3"]
    if forgiven:
        assert (done.root / "outputs/success_tag").read_text() == "2"
    else:
        assert done.message == "ValueError: negative: -2"


def test_raise_for_group(leaf):
    given = {"n": "[1, -2]", "dflow_group": "0", "dflow_nslices": "2"}
    slices = record(group_size=2, pool_size=1, raise_for_group=True)
    assert leaf(Square, given, slices=slices, success_tag=True).code == 1


def test_a_process_of_a_pool_that_dies_is_one_slices_failure(leaf):
    given = {"n": "[1, 99, 3]", "dflow_group": "0", "dflow_nslices": "3"}
    done = leaf(Square, given, slices=record(group_size=3, pool_size=2))
    assert done.code == 1
    assert "the process of slice 1 of the pool ended without a result (exit code 3)" in done.message
    assert [item["dflow_list_item"] for item in done.value("m")] == [1, None, 9]


class OddError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Odd(Square):
    def execute(self, op_in):
        if op_in["n"] == 2:
            raise OddError("this", "that")
        return OPIO({"m": lambda: 0, "out": None, "pid": 0})


def test_what_cannot_be_pickled_is_told(leaf):
    given = {"n": "[1, 2]", "dflow_group": "0", "dflow_nslices": "2"}
    done = leaf(Odd, given, slices=record(group_size=2, pool_size=2))
    assert "slice 0 of the pool: 'its outputs', which cannot be pickled" in done.message
    given["dflow_group"] = "1"
    done = leaf(Odd, {**given, "n": "[0, 0, 2, 2]", "dflow_nslices": "4"}, slices=record(group_size=2, pool_size=2))
    assert "slice 0 of the pool: OddError('this and that'), which cannot be pickled" in done.message


@pytest.mark.parametrize("size", [1, 2])
def test_pool_timeout(leaf, size):
    given = {"n": "[1, 98]", "dflow_group": "0", "dflow_nslices": "2"}
    done = leaf(Square, given, slices=record(group_size=2, pool_size=size, pool_timeout=0.2))
    assert done.message == "TimeoutError: slice 1 of the pool took longer than pool_timeout, 0.2 s"
    assert [item["dflow_list_item"] for item in done.value("m")] == [1, None]


class SameName(Square):
    def execute(self, op_in):
        Path("out").write_text(str(op_in["n"]))
        return OPIO({"m": op_in["n"], "out": Path("out"), "pid": 0})


@pytest.mark.parametrize("size", [1, 2])
def test_directories_of_slices_in_a_pool(leaf, size):
    given = {"n": "[1, 2]", "dflow_group": "0", "dflow_with_param": '["a.x", "b"]'}
    slices = Slices("'{{item}}'", output_artifact=["out"], group_size=2, pool_size=size, create_dir=True)
    done = leaf(SameName, {**given, "n": "5"}, slices=slices.record("'${item}'"))
    assert done.code == 0
    assert done.content("out") == {"a/x/out": "5", "b/out": "5"}
    assert done.artifact("out") == {"a": {"x": "a/x/out"}, "b": "b/out"}
    assert (done.root / "workdir/a/x/out").exists()


def test_a_directory_for_a_slice_that_runs_alone(leaf):
    slices = Slices("{{item}}", output_artifact=["out"]).record("${v}")
    done = leaf(SameName, {"n": "5", "v": "3"}, slices=slices, create_slice_dir=True)
    assert (done.root / "workdir/3/out").read_text() == "5"
    assert done.content("out") == {"out": "5"}


@pytest.mark.parametrize("options", [{}, {"pool_size": 1}])
def test_a_slice_that_leads_out(leaf, tmp_path, options):
    slices = Slices("'{{item}}'", output_artifact=["out"], create_dir=True, **options).record("'${v}'")
    done = leaf(SameName, {"n": "5", "v": "../../x"}, slices=slices)
    assert done.code == 1
    assert "the slice '../../x' was asked to name a directory (create_dir); it would lie outside" in done.message


class Whole(Base):
    ins = {"file": Artifact(Path), "n": int}
    outs = {"out": str}

    def execute(self, op_in):
        return {"out": f"{op_in['file'].read_text()}{op_in['n']}"}


def test_sub_path(leaf):
    slices = Slices(sub_path=True, input_artifact=["file"], input_parameter=["n"]).record("${dflow_var_0}")
    given = {"n": "[5, 6]", "dflow_var_0": "1", "dflow_file_sub_path": "d/b"}
    done = leaf(Whole, given, {"file": {"d/b": "b"}}, orders={"file": [1]}, slices=slices)
    assert done.text("out") == "b6"


def test_prefix_and_parts(leaf):
    orders = {"file": ["a.0", "a.1", "b"]}
    done = leaf(Whole, {"n": "1"}, {"file": {"x": "x", "y": "y", "z": "z"}}, orders=orders, prefix={"file": "a.1"})
    assert done.text("out") == "y1"
    done = leaf(Whole, {"n": "1"}, {"dflow_file_0": {"x": "x"}}, parts={"file": 1})
    assert done.text("out") == "x1"


class Empty(Base):
    ins = {"d": Artifact(Path)}
    outs = {"out": Artifact(Path)}

    def execute(self, op_in):
        assert list((op_in["d"] / "empty").iterdir()) == []
        Path("made/empty").mkdir(parents=True)
        return {"out": Path("made")}


def test_empty_directories_are_marked_in_pods_only(leaf):
    files = {"empty/.empty_dir": "", "x": ""}
    done = leaf(Empty, artifacts={"d": files}, pod=True)
    assert done.content("out") == {"made/empty/.empty_dir": ""}


def test_a_trivial_leaf_touches_few_things(leaf, tmp_path):
    """What 1,000 leaves pay for: no import, one read, one write, and a handful of directories."""

    class Trivial(Base):
        ins = {"n": int}
        outs = {"m": int}

        @OP.exec_sign_check
        def execute(self, op_in):
            return OPIO({"m": op_in["n"] + 1})

    assert leaf(Trivial, {"n": "1"}).text("m") == "2"
    events = []
    watched = ("import", "open", "os.mkdir", "os.chdir", "os.listdir", "os.scandir", "os.link", "subprocess.Popen")
    watching = True
    sys.addaudithook(lambda event, _args: events.append(event) if watching and event in watched else None)
    root = tmp_path / "next"
    (root / "inputs/parameters").mkdir(parents=True)
    (root / "inputs/parameters/n").write_text("4")
    events.clear()
    code = runner.run(root, {"entry": {"name": "Trivial"}})
    watching = False
    assert code == 0
    counts = {event: events.count(event) for event in set(events)}
    assert counts == {"open": 3, "os.mkdir": 4, "os.chdir": 1}
