"""Run one OP as a leaf: inputs from files, outputs to files, an exit code.

``preload`` imports what leaves will need, once, before they fork; ``run`` runs one leaf in this process. The engine,
or the bootstrap in a pod, has put the files there and takes them away; nothing here knows either of them.

The op record, a JSON object (docs/architecture.md, section 1), has these keys; all but ``entry`` may be absent:

- ``bundle``: SHA-256 of the bundle. Not read here.
- ``entry``: where the OP class is; read by ``loader.py``.
- ``instance``: the state of an OP instance, as ``values.dump_state`` writes it.
- ``slices``: what ``Slices.record`` gives; ``slices.resolve`` says which input parameters it needs. With ``sub_path``
  the input parameter ``dflow_<artifact>_sub_path`` is where the needed part lies in that artifact.
- ``parts``: ``{artifact: n or [dotted keys]}``: the input was given as a list or dict of artifacts, which are staged
  as ``dflow_<artifact>_<i>``.
- ``prefix``: ``{artifact: part}``: the OP gets only this part of it, an index or a dotted path (``art["a"]``); the
  artifact may be one of ``parts``.
- ``success_tag``: write ``outputs/success_tag`` (1, or how many slices of a pool succeeded): ``continue_on_*``.
- ``create_slice_dir``: run each slice in ``workdir/<slice>``.
- ``writable``: names of input artifacts that the OP changes. Read where inputs are staged.

No string of it may contain ``{{``: Argo would take that for a tag.

A trap: SIGTERM raises in the OP only if nobody else has set a handler; the local engine has its own.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import copy
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, NoReturn, Optional, Tuple, Union

from dflow_hpc.config import config
from dflow_hpc.errors import DflowError, SignError
from dflow_hpc.op import evaluate, loader, values  # noqa: F401  (evaluate: loaded before the leaves fork)
from dflow_hpc.op.artifacts import Publisher, Returned, Staged, read_staged, receive, slice_directory
from dflow_hpc.op.catalog import pick
from dflow_hpc.op.op import OP, FatalError, Signs, as_outputs, signs_of
from dflow_hpc.op.opio import OPIO
from dflow_hpc.op.paths import mark_empty_directories, remove_marks
from dflow_hpc.op.pool import run_singly
from dflow_hpc.op.signs import Artifact
from dflow_hpc.op.slices import Slice, resolve

_MESSAGE_LIMIT = 1024
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_Where = Union[None, Slice, List[Slice]]

_code_dir: Optional[Path] = None
_classes: Dict[str, type] = {}


class Terminated(RuntimeError):
    """Raised in an OP whose leaf is asked to end (SIGTERM), so that it can clean up."""


class Done(NamedTuple):
    """What one call of ``execute`` gave: outputs by name, or an error; and for which slices."""

    outputs: Mapping[str, Any]
    where: _Where
    cwd: Path
    error: Optional[BaseException] = None


def preload(records: Iterable[Mapping[str, Any]], code_dir: Union[str, Path]) -> None:
    """Import the OPs of a run, so that forked leaves find them.

    Args:
        records: The run's op records.
        code_dir: The extracted bundle (with ``code/`` and ``lib/``).

    Raises:
        BundleError: The author's code cannot be loaded. A leaf of that OP would meet the same.
    """
    global _code_dir  # noqa: PLW0603  (one process serves one bundle, as the loader does)
    _code_dir = Path(code_dir)
    for record in records:
        signs_of(_op_class(record["entry"]))


def _op_class(entry: Mapping[str, str]) -> type:
    key = repr(sorted(entry.items()))
    found = _classes.get(key)
    if found is None:
        found = _classes[key] = loader.load(entry, _code_dir or Path.cwd())
    return found


def run(
    root: Path,
    record: Mapping[str, Any],
    *,
    pod: bool = False,
    code_dir: Optional[Path] = None,
    log: Optional[Path] = None,
) -> int:
    """Run one leaf.

    Args:
        root: Its directory, with ``inputs/parameters`` and ``inputs/artifacts``; ``outputs`` is made here.
        record: The op record.
        pod: It runs in a pod of its own: empty directories are marked, since object storage has none.
        code_dir: The extracted bundle, where nothing was preloaded.
        log: The file for the message of a failure; ``termination-log`` in its directory unless given.

    Returns:
        The exit code: 0, 2 after a ``FatalError``, 1 after any other exception. Its traceback is on stderr.

    Raises:
        SystemExit: The OP raised it, or whoever ended the leaf did.
    """
    global _code_dir  # noqa: PLW0603  (as in preload)
    _code_dir = code_dir or _code_dir
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
    try:
        _Leaf(Path(os.path.abspath(root)), record, pod).run()
    except SystemExit:
        raise
    except BaseException as error:  # the author's code: whatever it raises, a KeyboardInterrupt too, is the result
        _print(error)
        _leave_message(error, log or Path(root, "termination-log"))
        return 2 if isinstance(error, FatalError) else 1
    return 0


def _terminate(_number: int, _frame: object) -> NoReturn:
    raise Terminated("the leaf was asked to end (SIGTERM)")


def _print(error: BaseException) -> None:
    """Print an error from the author's first line on: what is above it is ours and tells them nothing."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        trace = trace.tb_next
    if trace is None and not isinstance(error, DflowError):
        trace = error.__traceback__  # ours altogether, and not raised on purpose: a bug of ours
    traceback.print_exception(type(error), error, trace)
    sys.stderr.flush()


def _leave_message(error: BaseException, log: Path) -> None:
    lines = "".join(traceback.format_exception_only(type(error), error)).strip().splitlines()
    text = (lines[-1] if isinstance(error, SyntaxError) else lines[0])[:_MESSAGE_LIMIT]
    try:
        log.write_text(text, encoding="utf-8", errors="replace")
    except OSError as problem:
        print(f"dflow: the message for the node could not be written: {problem}", file=sys.stderr)  # noqa: T201


class _Inputs:
    """The staged inputs of a leaf, each read once."""

    def __init__(self, root: Path, record: Mapping[str, Any]) -> None:
        self.root = root
        self.parts: Mapping[str, Any] = record.get("parts") or {}
        self.prefix: Mapping[str, Any] = record.get("prefix") or {}
        slices: Mapping[str, Any] = record.get("slices") or {}
        self.sliced = frozenset([*slices.get("input_parameter", ()), *slices.get("input_artifact", ())])
        self.sub_path = bool(slices.get("sub_path"))
        self._texts: Dict[str, Optional[str]] = {}
        self._staged: Dict[str, Optional[Staged]] = {}
        self._lists: Dict[str, Any] = {}

    def text(self, name: str) -> Optional[str]:
        """Return the text of an input parameter, or None."""
        if name not in self._texts:
            try:
                with open(f"{self.root}/inputs/parameters/{name}", encoding="utf-8", newline="") as file:
                    self._texts[name] = file.read()
            except FileNotFoundError:
                self._texts[name] = None
        return self._texts[name]

    def parameter(self, name: str, text: str, sign: Any, where: _Where) -> Any:
        """Return the value of an input parameter's text, cut where it is sliced."""
        declared, title = values.value_type(sign), f"input parameter {name!r}"
        if where is None or name not in self.sliced:
            return values.load(text, declared, name=title)
        if name not in self._lists:
            self._lists[name] = values.load(text, declared, sliced=True, name=title)
        return pick(self._lists[name], where, title)

    def artifact(self, name: str, sign: Artifact, where: _Where) -> Any:
        """Return the value of an input artifact, cut where it is sliced."""
        if name not in self._staged:
            self._staged[name] = read_staged(name, self.root, self.parts.get(name), self.prefix)
        staged = self._staged[name]
        if name not in self.sliced or where is None:
            return receive(name, sign, staged, [self.prefix.get(name)])
        if not self.sub_path:
            return receive(name, sign, staged, [self.prefix.get(name), where])
        below = self.text(f"dflow_{name}_sub_path")
        return receive(name, sign, Staged(staged.root, [below]) if staged and below else staged)


class _Leaf:
    """One leaf, from its inputs to its outputs."""

    def __init__(self, root: Path, record: Mapping[str, Any], pod: bool) -> None:
        self.root = root
        self.record = record
        self.pod = pod
        self.slices: Mapping[str, Any] = record.get("slices") or {}
        self.inputs = _Inputs(root, record)
        self.workdir = root / "workdir"

    def run(self) -> None:
        """Run the OP and save what it gives; saves what it published early even if it raises."""
        self._enter()
        op_class = _op_class(self.record["entry"])
        signs = signs_of(op_class)
        where = resolve(self.slices, self.inputs.text) if self.slices else None
        if self.slices.get("pool_size") is None:
            done = self._call(self._make_op(op_class, where, self._publish_early), signs, where)
            try:
                self._save(signs, [done])
            finally:
                if done.error is not None:  # what went wrong first; a problem of saving is told as its context
                    raise done.error
            self._tag(1)
        else:
            self._run_pool(op_class, signs, [*where] if isinstance(where, list) else [where])

    def _enter(self) -> None:
        outputs = f"{self.root}/outputs"
        for directory in (outputs, f"{outputs}/parameters", f"{outputs}/artifacts", str(self.workdir)):
            try:  # noqa: SIM105  (contextlib.suppress costs more than the call)
                os.mkdir(directory)
            except FileExistsError:
                pass
        os.chdir(self.workdir)
        if self.pod and config["detect_empty_dir"]:
            remove_marks(self.root / "inputs" / "artifacts")

    def _publish_early(self, sign: Any, where: _Where, name: str, value: Any, symlink: bool) -> None:
        self._save_one(name, sign, [Done({name: value}, where, Path.cwd())], early=symlink)

    def _make_op(self, op_class: Any, where: _Where, publish: Optional[Callable[..., None]] = None) -> OP:
        op: OP = op_class.__new__(op_class) if "instance" in self.record else op_class()
        if "instance" in self.record:
            values.load_state(op, self.record["instance"])
        op.tmp_root = str(self.root)
        op.key = self.inputs.text("dflow_key")
        op.workflow_name = os.environ.get("ARGO_WORKFLOW_NAME")
        op.pool_size = self.slices.get("pool_size")
        if self.record.get("create_slice_dir"):
            op.create_slice_dir = True
        if where is not None:
            names = [*self.inputs.sliced, *self.slices.get("output_parameter", ())]
            op.slices.update(dict.fromkeys([*names, *self.slices.get("output_artifact", ())], where))
        if publish is not None:
            outputs = signs_of(op_class).outputs
            vars(op)["publisher"] = lambda name, *rest: publish(outputs[name], where, name, *rest)
        return op

    def _call(self, op: OP, signs: Signs, where: _Where, position: Optional[int] = None) -> Done:
        """Call ``execute`` once, in the directory where it shall run."""
        cwd = self.workdir
        own = op.create_slice_dir or (self.slices.get("create_dir") and position is not None)
        if own and where is not None and not isinstance(where, list):
            cwd = self.workdir / slice_directory(where)
            cwd.mkdir(parents=True, exist_ok=True)
        if own or position is not None:
            os.chdir(cwd)
        try:
            outputs = as_outputs(op, op.execute(self._op_in(signs, where)))
            moved = any(isinstance(sign, Artifact) for sign in signs.outputs.values())
            return Done(outputs, where, Path.cwd() if moved else cwd)
        except SystemExit:
            self._save(signs, [Done(op.outputs, where, cwd, SystemExit())])
            raise
        except BaseException as error:  # raised again by the caller, when the outputs are safe
            return Done(op.outputs, where, cwd, error)

    def _op_in(self, signs: Signs, where: _Where) -> OPIO:
        found = OPIO()
        for name, sign in signs.inputs.items():
            if isinstance(sign, Artifact):
                found[name] = self.inputs.artifact(name, sign, where)
                continue
            text = self.inputs.text(name)
            if text is not None:
                found[name] = self.inputs.parameter(name, text, sign, where)
            elif hasattr(sign, "default"):
                found[name] = copy.deepcopy(sign.default)
        return found

    def _run_pool(self, op_class: type, signs: Signs, pieces: List[_Where]) -> None:
        def one(position: int) -> Done:
            return self._call(self._make_op(op_class, pieces[position]), signs, pieces[position], position)

        ended: List[Tuple[Optional[Done], Optional[BaseException]]]
        ended = run_singly(one, len(pieces), int(self.slices["pool_size"]), self.slices.get("pool_timeout"))
        done = [
            result if result is not None else Done({}, pieces[position], self.workdir, error)
            for position, (result, error) in enumerate(ended)
        ]
        os.chdir(self.workdir)
        self._save(signs, done)
        self._tag(sum(one.error is None for one in done))
        raise_it = self.slices.get("raise_for_group") or not self.record.get("success_tag")
        errors = [one.error for one in done if one.error is not None]
        if errors and raise_it:
            raise errors[0]

    def _tag(self, successes: int) -> None:
        if self.record.get("success_tag"):
            (self.root / "outputs" / "success_tag").write_text(str(successes), encoding="utf-8")

    def _save(self, signs: Signs, done: List[Done]) -> None:
        failed = all(one.error is not None for one in done)
        for name, sign in signs.outputs.items():
            if failed and not any(name in one.outputs for one in done):
                continue
            if not failed and len(done) == 1 and name not in done[0].outputs:
                raise SignError(
                    f"output {name!r} is declared and execute did not return it; it returned "
                    f"{', '.join(map(repr, done[0].outputs)) or 'nothing'}. Return it, or take it out of the sign."
                )
            self._save_one(name, sign, done)

    def _save_one(self, name: str, sign: Any, done: List[Done], early: bool = False) -> None:
        if isinstance(sign, Artifact):
            self._save_artifact(name, sign, done, early)
        else:
            declared = values.value_type(sign)
            stacked = done[0].where is not None and name in self.slices.get("output_parameter", ())
            self._write(name, self._stack(name, done) if stacked else values.dump(_first(name, done), declared))

    def _write(self, name: str, text: str) -> None:
        with open(f"{self.root}/outputs/parameters/{name}", "w", encoding="utf-8", newline="") as file:
            file.write(text)

    def _stack(self, name: str, done: List[Done]) -> str:
        found: List[Any] = []
        orders: List[Slice] = []
        for one in done:
            value = one.outputs.get(name)
            if not isinstance(one.where, list):
                found.append(value)
                orders.append(one.where)  # type: ignore[arg-type]
                continue
            if value is not None and (not isinstance(value, (list, tuple)) or len(value) != len(one.where)):
                raise SignError(
                    f"output parameter {name!r} belongs to {len(one.where)} slices, {one.where!r}; found {value!r}. "
                    "Return a list with one value for each, or use Slices(pool_size=1)."
                )
            found.extend([None] * len(one.where) if value is None else value)
            orders.extend(one.where)
        return values.stack(found, orders)

    def _save_artifact(self, name: str, sign: Artifact, done: List[Done], early: bool) -> None:
        sliced = name in self.slices.get("output_artifact", ())
        if not sliced:
            done = [one for one in done if name in one.outputs][:1] or done[:1]
        returned = [Returned(one.outputs.get(name), one.where if sliced else None, one.cwd) for one in done]
        publisher = Publisher(name, sign, self.root, bool(self.slices.get("create_dir")), early)
        publisher.publish(returned)
        if self.pod and config["detect_empty_dir"] and not early:
            mark_empty_directories(publisher.target)


def _first(name: str, done: List[Done]) -> Any:
    """Return an output that is not sliced: of a pool, what its first success gave."""
    for one in done:
        if name in one.outputs:
            return one.outputs[name]
    return None
