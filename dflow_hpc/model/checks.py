"""What every class of the model needs: checked names, error texts with close matches, the author's file and line.

Not here: rules about one class only; they stand beside the class.

Trap: ``author_frame`` is called once for each step, so it walks frames and never builds a traceback or reads a file.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import re
import sys
from typing import Any, Dict, Iterable, Optional, Tuple

from dflow_hpc.errors import ModelError

Where = Tuple[str, int]
"""A file and a line of the author's."""

TEMPLATE_NAME = re.compile(r"[a-zA-Z0-9][-a-zA-Z0-9]*\Z")
IO_NAME = re.compile(r"[-a-zA-Z0-9_]+\Z")
WORKFLOW_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
KEY = re.compile(r"[a-z0-9][-a-z0-9]*\Z")
TAG = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)

MAX_TEMPLATE_NAME = 128


class UnknownName(ModelError, KeyError):
    """A parameter, artifact or option was named that is not declared."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the repr of the text


def author_frame() -> Where:
    """Return the file and line of the innermost caller that is not part of this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith("dflow_hpc."):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def at(where: Optional[Where]) -> str:
    """Return ``" (file.py:12)"`` for an error text, or nothing when the place is not known."""
    return "" if where is None else f" ({where[0]}:{where[1]})"


def close(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` when one of ``known`` is close to ``name``."""
    import difflib  # only for a message: 4 ms that no working program pays

    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def listed(names: Iterable[str]) -> str:
    """Return names for an error text: sorted, quoted, at most 30 of them."""
    ordered = sorted(names)
    text = ", ".join(repr(name) for name in ordered[:30]) or "none"
    return text + (f", ... ({len(ordered)} in all)" if len(ordered) > 30 else "")


def check_step_name(name: Any, what: str, where: Optional[Where] = None) -> str:
    """Return ``name`` if it can name a step, task or template.

    Args:
        name: The name asked for.
        what: What it names, for the message.
        where: The author's file and line.

    Raises:
        ModelError: Argo refuses it.
    """
    if not isinstance(name, str) or not TEMPLATE_NAME.match(name) or len(name) > MAX_TEMPLATE_NAME:
        raise ModelError(
            f"{what} was named {name!r}{at(where)}; a name is letters, digits and `-`, starts with a letter or digit "
            f"and has at most {MAX_TEMPLATE_NAME} characters. {_suggestion(name)}"
        )
    return name


def _suggestion(name: Any) -> str:
    if not isinstance(name, str):
        return "Give a text."
    better = re.sub(r"[^-a-zA-Z0-9]+", "-", name).strip("-")[:MAX_TEMPLATE_NAME]
    return f"Use {better!r}." if better else "Give another name."


def check_workflow_name(name: Any) -> str:
    """Return ``name`` if it can name a workflow.

    Raises:
        ModelError: Kubernetes refuses it, or it leaves no room for what Argo adds.
    """
    if not isinstance(name, str) or not WORKFLOW_NAME.match(name) or len(name) > 63:
        better = re.sub(r"[^-a-z0-9.]+", "-", str(name).lower()).strip("-.")[:52]
        raise ModelError(
            "a workflow was named {!r}; its name is lower-case letters, digits, `-` and `.`, and at most 63 "
            "characters. "
            "Use {!r}.".format(name, better or "workflow")
        )
    return name


def check_io_name(name: Any, what: str) -> str:
    """Return ``name`` if it can name a parameter or an artifact.

    Raises:
        ModelError: Argo refuses it.
    """
    if not isinstance(name, str) or not IO_NAME.match(name):
        raise ModelError(
            f"{what} was named {name!r}; such a name is letters, digits, `-` and `_`. Rename it in the sign or the "
            "template."
        )
    return name


def check_key(key: str, owner: str, where: Optional[Where]) -> None:
    """Check the text of a step's key, with each ``{{...}}`` standing for some letters.

    Raises:
        ModelError: The key holds what neither a ConfigMap's name nor a directory's may.
    """
    if not KEY.match(TAG.sub("a", key)):
        raise ModelError(
            f"{owner} has the key {key!r}{at(where)}; a key is lower-case letters, digits and `-` around references, "
            "because it names a ConfigMap under Argo and a directory here. Replace what is not, such as `.` and `_`, "
            "by `-`."
        )


def check_options(given: Dict[str, Any], refused: Dict[str, str], owner: str, where: Optional[Where]) -> None:
    """Refuse options that dflow has and this package has not, by name.

    Args:
        given: Options as the author gave them; those that are None or empty count as not given.
        refused: Name of a refused option -> what to do instead.
        owner: What was constructed, for the message.
        where: The author's file and line.

    Raises:
        ModelError: One of them was given.
    """
    for name, advice in refused.items():
        if given.get(name) not in (None, False, "", [], {}, ()):
            raise ModelError(f"{owner} was given {name}={given[name]!r}{at(where)}, which is not supported. {advice}")
