"""Task: one use of a template in a DAG. What it depends on is read off its arguments, or said by the author.

Not here: how dependencies become Argo's ``depends`` (``compile/scopes.py``).

Trap: dflow drops what it inferred as soon as ``dependencies=`` is given, and Argo then refuses the manifest. Here the
given ones are added to the inferred ones.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

from typing import Any, List, Optional

from dflow_hpc.errors import ModelError
from dflow_hpc.model.checks import at
from dflow_hpc.model.step import Step


class Task(Step):
    """One task of a DAG.

    Args:
        name: Its name, unique in its DAG.
        template: What it runs.
        dependencies: Tasks, or Argo's texts such as ``"a.Failed"``, that must have ended before; tasks whose outputs it
            uses are added.
        **kwargs: As for ``Step``.
    """

    kind = "tasks"
    word = "task"

    def __init__(self, name: str, template: Any, dependencies: Optional[List[Any]] = None, **kwargs: Any):
        self.dependencies: List[Any] = list(dependencies or [])
        super().__init__(name, template, **kwargs)
        for dependency in self.dependencies:
            if not isinstance(dependency, (Task, str)):
                raise ModelError(
                    f"{self.title} was given the dependency {dependency!r}{at(self.where)}; it is a Task, or a text "
                    "such as 'a.Succeeded'."
                )
