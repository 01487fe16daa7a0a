"""Memoized outputs, under the name of a cache and a key. It lives as long as its owner; Argo's lives in a ConfigMap."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from dflow_hpc.engines.local.interpret.errors import TemplateError
from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import golang
from dflow_hpc.manifest.view import Json, Node

_KEY = re.compile(r"^[a-zA-Z0-9][-a-zA-Z0-9]*$")


@dataclass(frozen=True)
class Hit:
    """What a cache holds under a key."""

    outputs: Json | None
    created: float
    """Seconds since the epoch."""


class Cache(Protocol):
    """Something that keeps outputs by a template's ``memoize``."""

    def load(self, memoize: Json, now: float) -> Hit | None:
        """Return what is kept and not too old."""
        ...

    def save(self, memoize: Json, node: Node, now: float) -> None:
        """Keep the outputs of a node that succeeded."""
        ...


class MemoryCache:
    """A cache in this process."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Hit] = {}

    def load(self, memoize: Json, now: float) -> Hit | None:
        """Return what is kept and not older than ``maxAge``.

        Raises:
            TemplateError: The key or the age is not one.
        """
        key = memoize.get("key") or ""
        if not _KEY.match(key):
            raise TemplateError(f"invalid cache key: {key}")
        hit = self._kept.get((memoize["cache"]["configMap"]["name"], key))
        if hit is None or not memoize.get("maxAge"):
            return hit
        try:
            age = golang.parse_duration(memoize["maxAge"]) / 1e9
        except ExpressionError as error:
            raise TemplateError(f"invalid maxAge: {error}") from error
        return hit if now - hit.created <= age else None

    def save(self, memoize: Json, node: Node, now: float) -> None:
        """Keep the outputs of a node that succeeded."""
        self._kept[memoize["cache"]["configMap"]["name"], memoize["key"]] = Hit(node.get("outputs"), now)
