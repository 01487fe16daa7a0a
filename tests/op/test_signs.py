"""Signs and OPs: what is refused when they are built, and what is checked when they run."""

from pathlib import Path
from typing import Dict, List, Optional, Set, Union

import pytest

from dflow_hpc import OP, OPIO, Artifact, BigParameter, HDF5Datasets, NestedDict, OPIOSign, Parameter
from dflow_hpc.config import config
from dflow_hpc.errors import SignError
from dflow_hpc.op.op import signs_of

KINDS = {
    "path": [str, Path],
    "list": [List[str], List[Path], list[Path]],
    "set": [Set[str], Set[Path]],
    "dict": [Dict[str, str], Dict[str, Path]],
    "nested": [NestedDict[str], NestedDict[Path]],
    "hdf5": [HDF5Datasets, Union[List[Path], HDF5Datasets]],
}


@pytest.mark.parametrize(("kind", "type_"), [(kind, type_) for kind, types in KINDS.items() for type_ in types])
def test_artifact_types(kind, type_):
    assert Artifact(type_).kind == kind


@pytest.mark.parametrize(
    "type_", [int, "Path", None, List[int], Dict[Path, str], Union[str, Path], List, Optional[Path]]
)
def test_what_is_no_artifact_type(type_):
    with pytest.raises(SignError, match="an artifact is one of: str, Path, List"):
        Artifact(type_)
    artifact = Artifact(Path)
    with pytest.raises(SignError):
        artifact.type = type_


def test_a_misspelled_option_is_no_free_attribute():
    with pytest.raises(SignError, match="did you mean 'writable'"):
        Artifact(Path, writeable=True)
    with pytest.raises(SignError, match="did you mean 'default'"):
        Parameter(int, defualt=3)
    assert Artifact(Path, description="words").description == "words"


def test_artifact_options(monkeypatch):
    assert Artifact(Path).archive == "tar"
    monkeypatch.setitem(config, "archive_mode", None)
    artifact = Artifact(Path, optional=True, description="what it is")
    assert (artifact.archive, artifact.optional, artifact.sub_path, artifact.writable) == (None, True, True, False)
    assert artifact.description == "what it is"
    with pytest.raises(SignError, match=r"archive='zip'.*known are 'tar'"):
        Artifact(Path, archive="zip")


def test_parameters():
    assert not hasattr(Parameter(int), "default")
    assert Parameter(Optional[int], default=None).default is None
    assert Parameter(int, global_name="n").global_name == "n"
    assert BigParameter(Dict[str, List[float]], description="d").description == "d"
    for wrong in ("int", 3, [int]):
        with pytest.raises(SignError, match=r"expected a type"):
            Parameter(wrong)


def test_signs_compare_by_what_they_say():
    assert Artifact(Path) == Artifact(Path) != Artifact(Path, optional=True)
    assert Parameter(int) != BigParameter(int)
    assert repr(Parameter(List[int], default=[])) == "Parameter(List[int], default=[])"


def test_opio_is_a_dict():
    opio = OPIO({"b": 1}, a=2)
    opio["c"] = 3
    del opio["b"]
    assert list(opio.items()) == [("a", 2), ("c", 3)]
    assert repr(opio) == "{'a': 2, 'c': 3}"
    with pytest.raises(KeyError, match="its keys are: 'a', 'c'"):
        opio["z"]


class Train(OP):
    """Fits something."""

    result = None

    @classmethod
    def get_input_sign(cls):
        return OPIOSign(
            {
                "n": int,
                "rate": Parameter(float, default=0.5),
                "options": Parameter(dict, default={}),
                "big": BigParameter(int),
                "files": Artifact(List[Path]),
                "model": Artifact(Path, optional=True),
            }
        )

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"m": List[int], "tables": Artifact(Dict[str, str])})

    @OP.exec_sign_check
    def execute(self, op_in):
        self.seen = op_in
        return self.result if self.result is not None else OPIO({"m": [op_in["n"]], "tables": {"a": "x", "b": None}})


GOOD = {"n": 1, "big": "anything", "files": [Path("a"), None]}


def test_defaults_and_optional_inputs():
    op = Train()
    out = op.execute(OPIO(GOOD))
    assert out == {"m": [1], "tables": {"a": "x", "b": None}}
    assert op.seen == {**GOOD, "rate": 0.5, "options": {}, "model": None}
    op.seen["options"]["x"] = 1
    assert Train.get_input_sign()["options"].default == {}
    assert signs_of(Train).inputs["options"].default == {}


def test_none_always_passes():
    op = Train()
    op.result = {"m": None, "tables": None}
    assert op.execute({**GOOD, "n": None, "files": None}) == {"m": None, "tables": None}
    assert op.seen["n"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 1.0}, r"input 'n' of Train: expected int, found 1.0 of type float"),
        ({"rate": "1"}, r"input 'rate' of Train: expected float"),
        ({"files": ["a"]}, r"input 'files' of Train, element \[0\]: expected Optional\[pathlib.Path\]|Union"),
        ({"files": Path("a")}, r"input 'files' of Train: expected List"),
        ({"more": 1}, r"input 'more' of Train was given; its input sign has 'n', 'rate'"),
    ],
)
def test_wrong_inputs(change, message):
    with pytest.raises(SignError, match=message):
        Train().execute(OPIO({**GOOD, **change}))


def test_missing_input():
    with pytest.raises(SignError, match=r"input 'files' of Train is declared .* and is missing; there are 'n', 'big'"):
        Train().execute(OPIO({"n": 1, "big": 1}))


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"m": [1]}, r"output 'tables' of Train is declared .*Return it"),
        ({"m": ["a"], "tables": {}}, r"output 'm' of Train, element \[0\]: expected int"),
        ({"m": [], "tables": {"a": Path("x")}}, r"output 'tables' of Train, element \['a'\]"),
        ([], r"Train.execute returned \[\]; its output sign has 'm', 'tables'"),
    ],
)
def test_wrong_outputs(result, message, monkeypatch):
    monkeypatch.setattr(Train, "result", result)
    with pytest.raises(SignError, match=message):
        Train().execute(OPIO(GOOD))


def op_class(inputs, outputs=None):
    methods = {
        "get_input_sign": classmethod(lambda cls: inputs),
        "get_output_sign": classmethod(lambda cls: OPIOSign() if outputs is None else outputs),
        "execute": OP.exec_sign_check(lambda self, op_in: None),
    }
    return type("Odd", (OP,), methods)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"a b": int}, "input sign of Odd has the key 'a b'"),
        ({3: int}, "has the key 3"),
        ({"a": 3}, "input 'a' of Odd is declared as 3; expected a type"),
        ({"a": "int"}, "declared as 'int'"),
        (None, r"Odd.get_input_sign\(\) returned None; expected OPIOSign"),
    ],
)
def test_wrong_signs_name_class_and_key(inputs, message):
    with pytest.raises(SignError, match=message):
        signs_of(op_class(inputs))


def test_signs_are_asked_for_once_a_class():
    calls = []
    made = op_class(OPIOSign({"n": int}))
    made.get_input_sign = classmethod(lambda cls: calls.append(cls) or OPIOSign({"n": int}))
    below = type("Below", (made,), {})
    for _ in range(3):
        assert made().execute({"n": 1}) == {}
        assert below().execute({"n": 1}) == {}
    assert calls == [made, below]


def test_an_op_must_be_complete():
    with pytest.raises(TypeError, match="abstract"):
        type("Half", (OP,), {"execute": lambda self, op_in: op_in})()


class Stateful(Train):
    def __init__(self, n):
        self.n = n  # without super().__init__()


def test_nothing_is_shared_between_instances():
    one, two = Stateful(1), Stateful(2)
    one.outputs["x"] = 1
    one.slices["y"] = 2
    one.task_kwargs["z"] = 3
    assert (two.outputs, two.slices, two.task_kwargs) == ({}, {}, {})
    assert (Train.outputs, Train.slices) == ({}, {})


def test_progress(tmp_path, monkeypatch):
    class Long(Train):
        progress_total = 10

    file = tmp_path / "progress"
    Long().progress_current = 1  # nowhere to report: no file appears
    monkeypatch.setenv("ARGO_PROGRESS_FILE", str(file))
    op = Long()
    op.progress_current = 3
    assert file.read_text() == "3/10"
    op.progress_total = 20
    assert file.read_text() == "3/20"


def test_set_output_outside_of_a_leaf():
    op = Train()
    op.set_output("m", [1])
    assert op.outputs == {"m": [1]}
    with pytest.raises(SignError, match="output 'z' of Train was set; its output sign has 'm', 'tables'"):
        op.set_output("z", 1)


def test_info():
    assert "Fits something." in Train.get_info()
    assert "n: int" in Train.get_opio_info()


def test_storage_keys(monkeypatch):
    monkeypatch.setenv("ARGO_TEMPLATE", '{"inputs": {"artifacts": [{"name": "files", "s3": {"key": "a/b.tgz"}}]}}')
    assert Train().get_input_artifact_storage_key("files") == "a/b.tgz"
