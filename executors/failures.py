"""Why a leaf did not succeed: one set of classes for everything that runs leaves.

The class decides what happens next (HPC failure classes in docs/architecture.md); the text that a user reads is the
outcome's message, in Argo's words.
"""

from enum import Enum


class FailureClass(Enum):
    """The reason class of a failure."""

    APP = "APP"
    """The program itself exited with a code other than 0: the step's own retry policy decides (Argo: Failed)."""
    OOM = "OOM"
    """It was killed for memory."""
    WALLTIME = "WALLTIME"
    """It ran into its time limit."""
    PREEMPTED = "PREEMPTED"
    """It had to make room for another job."""
    INFRA = "INFRA"
    """The host, the node or the network failed, not the program (Argo: Error)."""
    THROTTLED = "THROTTLED"
    """The scheduler takes no more for now: it waits in our own queue, which is no failure."""
    CONFIG = "CONFIG"
    """The request can never be met: fatal at once, with the scheduler's words."""
    STAGE_IN = "STAGE_IN"
    """An input could not be brought to the leaf (Argo: Error of ``init``)."""
    STAGE_OUT = "STAGE_OUT"
    """An output is missing or could not be taken (Argo: Error of ``wait``)."""
    LOST = "LOST"
    """There is no record of what became of it."""
    CANCELLED = "CANCELLED"
    """A user or a failed sibling ended it."""
