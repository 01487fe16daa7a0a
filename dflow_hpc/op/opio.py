"""OPIO and OPIOSign: what goes into an OP and comes out of it, and what it declares to take and give.

Both are plain mappings that keep their order; neither checks anything (``op.py`` does, in ``OP.exec_sign_check``).

This module travels with the author's code: standard library only, valid Python 3.8.
"""

from typing import Any, Dict, Iterator, MutableMapping


class _Table(MutableMapping[str, Any]):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._data: Dict[str, Any] = dict(*args, **kwargs)

    def __getitem__(self, key: str) -> Any:
        try:
            return self._data[key]
        except KeyError:
            known = ", ".join(map(repr, self._data)) or "none"
            raise KeyError(f"{type(self).__name__} was asked for {key!r}; its keys are: {known}") from None

    def __setitem__(self, key: str, value: Any) -> None:
        self._data[key] = value

    def __delitem__(self, key: str) -> None:
        del self._data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        return repr(self._data)


class OPIO(_Table):
    """The values that go into an OP, or that come out of it, by name. Built like a ``dict``."""


class OPIOSign(_Table):
    """What an OP takes, or gives: for each name a type, an ``Artifact``, a ``Parameter`` or a ``BigParameter``."""
