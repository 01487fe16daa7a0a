"""Check a manifest offline against Argo's own schema, through the models that hera generates from it."""

from __future__ import annotations

from typing import Any

from hera.workflows.models import Workflow
from pydantic import ValidationError


def check(manifest: dict[str, Any]) -> None:
    """Fail unless ``manifest`` is a Workflow as Argo's schema has it; a field that Argo does not know is a failure too.

    Raises:
        AssertionError: With every offence and its place.
    """
    try:
        parsed = Workflow.model_validate(manifest)
    except ValidationError as error:
        raise AssertionError(f"not an Argo Workflow: {error}") from error
    unknown = list(_unknown(manifest, parsed.model_dump(by_alias=True, exclude_none=True, exclude_unset=True), ""))
    assert not unknown, f"fields that Argo does not know: {unknown}"


def _unknown(given: Any, known: Any, place: str) -> Any:
    """Yield the places of ``given`` that did not survive the models."""
    if isinstance(given, dict) and isinstance(known, dict):
        for key, value in given.items():
            if key not in known:
                if value is not None:
                    yield f"{place}.{key}"
            else:
                yield from _unknown(value, known[key], f"{place}.{key}")
    elif isinstance(given, list) and isinstance(known, list):
        for index, (one, other) in enumerate(zip(given, known, strict=True)):
            yield from _unknown(one, other, f"{place}[{index}]")
