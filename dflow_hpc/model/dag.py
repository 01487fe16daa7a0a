"""DAG: templates made of tasks that run as soon as what they depend on has ended.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

from typing import Any, Dict, List, Optional

from dflow_hpc.model.io import Inputs, Outputs
from dflow_hpc.model.steps import Scope
from dflow_hpc.model.task import Task


class DAG(Scope):
    """A template made of tasks.

    Args:
        name: Its name; several DAGs may have one name, they are told apart by their content.
        inputs: What it takes.
        outputs: What it gives.
        tasks: Its first tasks.
        memoize_key: Key under which its outputs are kept and found again.
        annotations: Annotations.
        parallelism: How many of its tasks run at once.
    """

    member = Task

    def __init__(
        self,
        name: Optional[str] = None,
        inputs: Optional[Inputs] = None,
        outputs: Optional[Outputs] = None,
        tasks: Optional[List[Any]] = None,
        memoize_key: Optional[str] = None,
        annotations: Optional[Dict[str, str]] = None,
        parallelism: Optional[int] = None,
    ):
        super().__init__(name, inputs, outputs, memoize_key, annotations, parallelism)
        for task in tasks or []:
            self.add(task)

    @property
    def tasks(self) -> List[Any]:
        """Its tasks, in the order in which they were added."""
        return self._members

    def add(self, task: Any) -> None:
        """Add a task, or a list of tasks.

        Raises:
            ModelError: It is no Task, or its name is taken.
        """
        for one in task if isinstance(task, (list, tuple)) else [task]:
            self._members.append(self._check(one))

    def all_steps(self) -> List[Task]:
        """Return its tasks."""
        return list(self._members)
