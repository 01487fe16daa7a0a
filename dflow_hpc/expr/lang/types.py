"""Types as the checker of expr-lang knows them.

A type is a Go type by its name, or unknown (anything may come), or nil. Beside the name it may know more: what an
array holds although Go calls it ``[]interface {}``, the fields of the environment, the signature of a function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dflow_hpc.expr import golang

_INTEGERS = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in ("", "8", "16", "32", "64"))


@dataclass(frozen=True)
class Type:
    """A type.

    Attributes:
        name: Go's name of it; empty when unknown or nil.
        nil: Whether it is the type of nil.
        items: What an array holds, if more is known than the name says.
        fields: Fields of a struct.
        function: The function, of a function's type.
        body: The type that a predicate gives.
    """

    name: str = ""
    nil: bool = False
    items: Type | None = None
    fields: Mapping[str, Type] | None = None
    function: golang.Function | None = None
    body: Type | None = None

    def __str__(self) -> str:
        return self.name or "unknown"

    @property
    def unknown(self) -> bool:
        """Whether anything may come."""
        return (not self.name and not self.nil) or self.name == "interface {}"

    @property
    def kind(self) -> str:
        """Go's ``reflect.Kind``; empty for unknown and nil."""
        return golang.kind_of_type(self.name) if self.name else ""

    @property
    def integer(self) -> bool:
        """Whether it is one of Go's own integer types."""
        return self.name in _INTEGERS

    @property
    def number(self) -> bool:
        """Whether it is an integer or a float."""
        return self.integer or self.name in ("float64", "float32")

    @property
    def array(self) -> bool:
        """Whether it is a slice or an array."""
        return self.name.startswith("[")

    def key(self) -> Type:
        """Return the type of a map's keys."""
        return Type(self.name[4 : self.name.index("]")]) if self.name.startswith("map[") else UNKNOWN

    def element(self) -> Type:
        """Return the type of what an array or a map holds."""
        if self.items is not None and self.array:
            return self.items
        if self.array or self.name.startswith("map["):
            return Type(self.name[self.name.index("]") + 1 :])
        return UNKNOWN

    def assignable(self, to: Type) -> bool:
        """Say whether Go can assign a value of it to the other type."""
        if self.nil:
            return to.name == "interface {}"
        return bool(self.name and to.name) and (to.name in (self.name, "interface {}"))

    def comparable(self, other: Type) -> bool:
        """Say whether ``==`` may compare the two."""
        return (
            self.unknown or other.unknown or self.nil or other.nil
            or (self.number and other.number) or (self.array and other.array)
            or self.assignable(other)
        )  # fmt: skip


UNKNOWN = Type()
ANY = Type("interface {}")
"""Unknown as well, but shown by this name."""
NIL = Type(nil=True)
BOOL, INT, FLOAT, STRING = Type("bool"), Type("int"), Type("float64"), Type("string")
ARRAY, MAP, ANY_MAP = Type("[]interface {}"), Type("map[string]interface {}"), Type("map[interface {}]interface {}")
TIME, DURATION, LOCATION = Type("time.Time"), Type("time.Duration"), Type("*time.Location")


def array_of(items: Type) -> Type:
    """Return the type of an array whose items are known better than ``interface {}``."""
    return Type("[]interface {}", items=items)


def type_of(value: Any) -> Type:
    """Return the type of a value of the environment."""
    if value is None:
        return NIL
    name = golang.type_name(value)
    if isinstance(value, golang.Function):
        return Type(name, function=value)
    if isinstance(value, golang.TypedMap) and value.is_struct:
        return Type(name, fields={field: type_of(item) for field, item in value.items()})
    return Type(name)
