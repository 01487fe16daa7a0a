"""What goes wrong while a manifest is interpreted, as the interpreter's parts tell each other.

None of these leaves the interpreter: each ends as a phase and a message of a node, or of the workflow.
"""


class TemplateError(Exception):
    """A template could not be executed, by no fault of a leaf: a bad reference, a missing input, a bad expression."""


class DepthExceeded(TemplateError):
    """Templates are nested too deeply."""

    def __init__(self) -> None:
        super().__init__(
            "Maximum recursion depth exceeded. See "
            "https://argo-workflows.readthedocs.io/en/release-3.7/scaling/#maximum-recursion-depth"
        )


class HookError(TemplateError):
    """A hook of a step or task could not be evaluated or executed."""


class HandlerError(HookError):
    """An exit handler of a step or task could not be executed: one of the root's ends the workflow in Argo."""


class Abandoned(Exception):
    """A node that waited for its turn will never be made, because a sibling failed and the template fails fast."""
