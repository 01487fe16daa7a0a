"""Call a function for each slice of a leaf, singly: one after the other, or each in a process of its own.

A process a slice, forked, rather than a pool of workers that are fed: what kills one (a segmentation fault,
``os._exit``, the memory killer) is that slice's failure and nobody else's. Results come back through pipes, whose end
tells that a process is over.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import os
import pickle
import select
import signal
import sys
import traceback
from typing import Any, Callable, Dict, List, NamedTuple, NoReturn, Optional, Tuple, TypeVar

_T = TypeVar("_T")
Ended = Tuple[Optional[_T], Optional[BaseException]]
"""What a call returned, or why it did not."""


class SliceDied(RuntimeError):
    """The process of one slice ended without a result."""


def run_singly(call: Callable[[int], _T], count: int, size: int, timeout: Optional[float] = None) -> "List[Ended[_T]]":
    """Call ``call(0)`` to ``call(count - 1)``.

    Args:
        call: The function; its errors are caught.
        count: How many calls.
        size: 1: one after the other in this process; more: so many processes at once; -1: all at once.
        timeout: Seconds after which a call is ended with ``TimeoutError``.

    Returns:
        For each call what it returned, or its error.
    """
    if size == 1 or count == 1:
        return [_attempt(call, index, timeout) for index in range(count)]
    return _Forks(call, count if size == -1 else min(size, count), timeout).run(count)


def _attempt(call: Callable[[int], _T], index: int, timeout: Optional[float]) -> "Ended[_T]":
    try:
        result = call(index) if timeout is None else _bounded(call, index, timeout)
    except Exception as error:  # one slice's failure must not take the others' results
        return None, error
    told = _error((result, None))
    if told is not None:
        traceback.print_exception(type(told), told, told.__traceback__)
        sys.stderr.flush()
    return result, None


def _bounded(call: Callable[[int], _T], index: int, timeout: float) -> _T:
    def expire(_number: int, _frame: object) -> NoReturn:
        raise TimeoutError(f"slice {index} of the pool took longer than pool_timeout, {timeout} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, timeout)
    try:
        return call(index)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Fork(NamedTuple):
    """One slice's process, and the pipe through which its result comes."""

    slice: int
    pid: int
    received: bytearray


class _Forks:
    """The processes of one pool."""

    def __init__(self, call: Callable[[int], Any], size: int, timeout: Optional[float]) -> None:
        self.call = call
        self.size = size
        self.timeout = timeout
        self.running: Dict[int, _Fork] = {}  # the pipe's end -> its process

    def run(self, count: int) -> List[Any]:
        ended: List[Any] = [None] * count
        waiting = list(reversed(range(count)))
        try:
            while waiting or self.running:
                while waiting and len(self.running) < self.size:
                    self._start(waiting.pop())
                for pipe in select.select(list(self.running), [], [])[0]:
                    data = os.read(pipe, 1 << 16)
                    if data:
                        self.running[pipe].received.extend(data)
                        continue
                    fork = self.running.pop(pipe)
                    os.close(pipe)
                    ended[fork.slice] = _result(fork, os.waitpid(fork.pid, 0)[1])
        finally:
            self._end()
        return ended

    def _start(self, index: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid:
            os.close(theirs)
            self.running[ours] = _Fork(index, pid, bytearray())
            return
        code = 1
        try:
            with open(theirs, "wb") as pipe:
                pipe.write(_pickled(index, _attempt(self.call, index, self.timeout)))
            code = 0
        except BaseException:  # nothing is above this frame but the parent's copy
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _end(self) -> None:
        for fork in self.running.values():
            os.kill(fork.pid, signal.SIGTERM)
        for pipe, fork in self.running.items():
            os.waitpid(fork.pid, 0)
            os.close(pipe)
        self.running.clear()


def _pickled(index: int, ended: Any) -> bytes:
    try:
        pickle.loads(pickle.dumps(_error(ended)))  # noqa: S301  (an exception may be written, and not be read again)
        return pickle.dumps(ended)
    except Exception as error:  # whatever an author's object raises when it is pickled
        what = repr(_error(ended) or "its outputs")
        return pickle.dumps((None, SliceDied(f"slice {index} of the pool: {what}, which cannot be pickled: {error}")))


def _error(ended: Any) -> Any:
    """Return the error of a call: what it raised, or what it returned in an attribute ``error``."""
    result, raised = ended
    return raised if raised is not None else getattr(result, "error", None)


def _result(fork: _Fork, status: int) -> Any:
    if status == 0 and fork.received:
        return pickle.loads(bytes(fork.received))  # noqa: S301  (our own child wrote it)
    how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {os.WEXITSTATUS(status)}"
    return None, SliceDied(f"the process of slice {fork.slice} of the pool ended without a result ({how})")
