"""Does a value fit a type annotation? Our own check, with the rules that dflow's users know.

An int fits ``float``, a bool fits ``int``, numpy's numbers fit the Python type that they stand for; containers are
checked element by element, and the message names the element. ``None`` for a whole value is the caller's business.

Not a type checker: generics of other libraries are checked by class only, a forward reference by the class's name.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import collections.abc
import numbers
import types
import typing
from typing import Any, Callable, Dict, Iterable, List, Tuple, Union

from dflow_hpc.errors import SignError

_UNIONS: Tuple[Any, ...] = (Union, getattr(types, "UnionType", Union))

_NUMBERS: Dict[Any, Tuple[type, ...]] = {
    int: (numbers.Integral,),
    float: (numbers.Real,),
    complex: (numbers.Complex,),
}


def is_type(annotation: Any) -> bool:
    """Say whether ``annotation`` can be used as a type: a class, or something from ``typing``."""
    return (
        annotation is None
        or isinstance(annotation, (type, typing.TypeVar, typing.ForwardRef))
        or annotation is Any
        or typing.get_origin(annotation) is not None
        or hasattr(annotation, "__supertype__")  # NewType is a function before Python 3.10
        or type(annotation).__module__ == "typing"
    )


def type_name(annotation: Any) -> str:
    """Return how an annotation is written, without the clutter of ``<class '...'>`` and ``typing.``."""
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        return annotation.__qualname__
    return repr(annotation).replace("typing.", "")


def check_type(name: str, value: Any, expected: Any) -> None:
    """Check that a value fits a type.

    Args:
        name: What the value is, for the message, such as ``"input 'n' of Train"``.
        value: The value.
        expected: A class or a ``typing`` construct.

    Raises:
        SignError: It does not fit. The message names the element, what was expected and what was found.
    """
    found = _mismatch(value, expected, "")
    if found is not None:
        path, element, wanted = found
        where = f", element {path}" if path else ""
        raise SignError(
            f"{name}{where}: expected {wanted}, found {_shown(element)} of type {type_name(type(element))}. "
            "Give a value of that type, or declare another."
        )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


_Found = typing.Optional[Tuple[str, Any, str]]


def _mismatch(value: Any, expected: Any, path: str) -> _Found:
    """Return None if it fits, else (path of the element, the element, what was expected)."""
    if expected is Any:  # a class since Python 3.11
        return None
    if isinstance(expected, type) and typing.get_origin(expected) is None:
        return _mismatch_class(value, expected, path)
    if expected is None:
        return None if value is None else (path, value, "None")
    origin, args = typing.get_origin(expected), typing.get_args(expected)
    if origin in _UNIONS:
        if any(_mismatch(value, arg, path) is None for arg in args):
            return None
        return (path, value, type_name(expected))
    if origin is not None:
        return _mismatch_generic(value, expected, origin, args, path)
    return _mismatch_special(value, expected, path)


def _mismatch_class(value: Any, expected: type, path: str) -> _Found:
    if expected is object or isinstance(value, _NUMBERS.get(expected, ())):
        return None
    if hasattr(expected, "__total__") and issubclass(expected, dict):  # a TypedDict refuses isinstance
        return _mismatch_typed_dict(value, expected, path)
    if getattr(expected, "_is_protocol", False) and not getattr(expected, "_is_runtime_protocol", False):
        return None
    if not isinstance(value, expected):
        if expected is bool and _is_numpy(value, "bool"):
            return None
        if expected is str and _is_numpy(value, "str"):
            return None
        return (path, value, type_name(expected))
    if issubclass(expected, tuple) and hasattr(expected, "_fields"):
        hints = typing.get_type_hints(expected)
        pairs = ((f"{path}.{field}", getattr(value, field), hint) for field, hint in hints.items())
        return _first(pairs)
    return None


def _is_numpy(value: Any, kind: str) -> bool:
    cls = type(value)
    return cls.__module__ == "numpy" and cls.__name__.startswith(kind)


def _mismatch_typed_dict(value: Any, expected: Any, path: str) -> _Found:
    hints = typing.get_type_hints(expected)
    required = getattr(expected, "__required_keys__", frozenset(hints) if expected.__total__ else frozenset())
    if not isinstance(value, dict):
        return (path, value, f"the typed dict {type_name(expected)}")
    for key in value:
        if key not in hints:
            return (path, value, f"the typed dict {type_name(expected)}, which has no key {key!r}")
    for key in sorted(required):
        if key not in value:
            return (path, value, f"the typed dict {type_name(expected)}, which has a key {key!r}")
    return _first((f"{path}[{key!r}]", item, hints[key]) for key, item in value.items())


def _first(parts: Iterable[Tuple[str, Any, Any]]) -> _Found:
    for path, value, expected in parts:
        found = _mismatch(value, expected, path)
        if found is not None:
            return found
    return None


def _mismatch_generic(value: Any, expected: Any, origin: Any, args: Tuple[Any, ...], path: str) -> _Found:
    rule = _RULES.get(origin)
    if rule is not None:
        return rule(value, expected, args, path)
    if not isinstance(origin, type):  # Literal, Annotated, Final and what later Pythons add
        name = str(getattr(origin, "_name", None) or origin)
        if origin is typing.Literal:
            fits = any(type(value) is type(arg) and value == arg for arg in args)
            return None if fits else (path, value, type_name(expected))
        return _mismatch(value, args[0], path) if args and ("Final" in name or "Required" in name) else None
    if hasattr(expected, "__metadata__"):  # Annotated[T, ...]
        return _mismatch(value, expected.__origin__, path)
    if not isinstance(value, origin):
        return (path, value, type_name(expected))
    if not args:
        return None
    elements: Any = value
    if issubclass(origin, collections.abc.Mapping) and len(args) == 2:
        return _first(
            part
            for key, item in elements.items()
            for part in ((f"{path} key {key!r}", key, args[0]), (f"{path}[{key!r}]", item, args[1]))
        )
    sized = issubclass(origin, (collections.abc.Sequence, collections.abc.Set, collections.deque))
    if len(args) == 1 and (sized or origin is collections.abc.Collection):
        if isinstance(value, (str, bytes)):
            return None
        return _first((f"{path}[{index}]", item, args[0]) for index, item in enumerate(elements))
    return None


def _mismatch_tuple(value: Any, expected: Any, args: Tuple[Any, ...], path: str) -> _Found:
    if not isinstance(value, tuple):
        return (path, value, type_name(expected))
    if len(args) == 2 and args[1] is Ellipsis:
        return _first((f"{path}[{index}]", item, args[0]) for index, item in enumerate(value))
    args = () if args == ((),) else args
    if not args and expected in (tuple, Tuple):
        return None
    if len(value) != len(args):
        return (path, value, f"{type_name(expected)}, with {len(args)} elements")
    return _first((f"{path}[{index}]", item, arg) for index, (item, arg) in enumerate(zip(value, args)))


def _mismatch_callable(value: Any, expected: Any, _args: Tuple[Any, ...], path: str) -> _Found:
    return None if callable(value) else (path, value, type_name(expected))


def _mismatch_type(value: Any, expected: Any, args: Tuple[Any, ...], path: str) -> _Found:
    fits = isinstance(value, type) and all(not isinstance(arg, type) or issubclass(value, arg) for arg in args)
    return None if fits else (path, value, type_name(expected))


_RULES: Dict[Any, Callable[[Any, Any, Tuple[Any, ...], str], _Found]] = {
    tuple: _mismatch_tuple,
    collections.abc.Callable: _mismatch_callable,
    type: _mismatch_type,
}


def _mismatch_special(value: Any, expected: Any, path: str) -> _Found:
    if isinstance(expected, typing.ForwardRef):
        names: List[str] = [cls.__name__ for cls in type(value).__mro__]
        wanted = expected.__forward_arg__
        fits = not wanted.replace(".", "").isidentifier() or wanted.rpartition(".")[2] in names
        return None if fits else (path, value, wanted)
    if isinstance(expected, typing.TypeVar):
        choices = expected.__constraints__ or ((expected.__bound__,) if expected.__bound__ is not None else ())
        if not choices or any(_mismatch(value, choice, path) is None for choice in choices):
            return None
        return (path, value, " or ".join(map(type_name, choices)))
    if hasattr(expected, "__supertype__"):
        return _mismatch(value, expected.__supertype__, path)
    return None
