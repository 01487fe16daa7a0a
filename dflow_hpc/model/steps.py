"""Steps: templates made of steps that run one after the other, or beside each other in groups.

Not here: DAG (``dag.py``), and the order of helper steps (``compile/scopes.py``).

Trap: a Steps may be the template of one of its own steps (recursion), so whatever walks templates must expect to meet
one that it has not finished.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

from typing import Any, Dict, Iterator, List, Optional

from dflow_hpc.errors import ModelError
from dflow_hpc.model import context
from dflow_hpc.model.checks import at, author_frame
from dflow_hpc.model.io import Inputs, Outputs
from dflow_hpc.model.step import Step, flat
from dflow_hpc.model.task import Task
from dflow_hpc.model.templates import OPTemplate


class Scope(OPTemplate):
    """What Steps and DAG share: members with unique names, and ``with``."""

    super_op = True
    member: Any = Step

    def __init__(
        self,
        name: Optional[str],
        inputs: Optional[Inputs],
        outputs: Optional[Outputs],
        memoize_key: Optional[str],
        annotations: Optional[Dict[str, str]],
        parallelism: Optional[int],
    ):
        super().__init__(name, inputs, outputs, memoize_key, None, annotations)
        self.parallelism = parallelism
        self._members: List[Any] = []
        self._names: Dict[str, Step] = {}

    def _check(self, step: Any) -> Any:
        if not isinstance(step, self.member) or (self.member is Step and isinstance(step, Task)):
            raise ModelError(
                f"{self.title} was given {step!r}{at(author_frame())}; it takes a {self.member.__name__}. A Steps is "
                "made of Step, a DAG of Task."
            )
        other = self._names.get(step.name)
        if other is not None and step is other:
            raise ModelError(f"{self.title} was given {step.title} twice{at(author_frame())}.")
        if other is not None:
            raise ModelError(
                f"{self.title} has two members named {step.name!r}: one made at {other.where[0]}:{other.where[1]}, "
                f"one at {step.where[0]}:{step.where[1]}. Names are unique in a scope; rename one."
            )
        self._names[step.name] = step
        return step

    def names(self) -> Dict[str, Step]:
        """Return its members by name."""
        return self._names

    def __iter__(self) -> Iterator[Any]:
        return iter(self._members)

    def __enter__(self) -> Any:
        context.enter(self)
        return self

    def __exit__(self, *_: Any) -> None:
        context.leave(self)


class Steps(Scope):
    """A template made of steps.

    Args:
        name: Its name; several Steps may have one name, they are told apart by their content.
        inputs: What it takes; ``InputParameter(value=...)`` has a default.
        outputs: What it gives: ``value_from_parameter``, ``value_from_expression``, ``_from``, ``from_expression``.
        steps: Its first steps; a list in the list is a parallel group.
        memoize_key: Key under which its outputs are kept and found again.
        annotations: Annotations.
        parallelism: How many of its steps run at once.
    """

    def __init__(
        self,
        name: Optional[str] = None,
        inputs: Optional[Inputs] = None,
        outputs: Optional[Outputs] = None,
        steps: Optional[List[Any]] = None,
        memoize_key: Optional[str] = None,
        annotations: Optional[Dict[str, str]] = None,
        parallelism: Optional[int] = None,
    ):
        super().__init__(name, inputs, outputs, memoize_key, annotations, parallelism)
        for step in steps or []:
            self.add(step)

    @property
    def steps(self) -> List[Any]:
        """Its steps; a list in the list is a parallel group."""
        return self._members

    def add(self, step: Any) -> None:
        """Add a step, or a list of steps that run beside each other.

        Raises:
            ModelError: It is a Task, or its name is taken.
        """
        if isinstance(step, (list, tuple)):
            if step:
                self._members.append([self._check(one) for one in step])
        else:
            self._members.append(self._check(step))

    def all_steps(self) -> List[Step]:
        """Return its steps as one list."""
        return flat(self._members)
