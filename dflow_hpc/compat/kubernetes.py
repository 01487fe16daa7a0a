"""Answers for ``argo.workflows.client``: the objects of Kubernetes that programs give to templates.

pydflow brings that package (argo-workflows 5), and ``from argo.workflows.client import V1Volume`` is how its users
mount volumes, set tolerations and the like. Such an object keeps what it was given, and the compiler asks it for that.

Not here: what may be given. The compiler checks the manifest as a whole.

Trap: the import stands at the head of a program, which is loaded wherever its OPs run, so the package ``kubernetes``,
whose classes these resemble, is not used.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import re
from functools import lru_cache
from typing import Any, Dict, Type


class KubernetesObject:
    """A part of a pod, by Kubernetes' names in Python's spelling.

    Args:
        **given: Its fields, such as ``claim_name``; each becomes an attribute.
    """

    def __init__(self, **given: Any):
        vars(self).update(given)

    def to_dict(self) -> Dict[str, Any]:
        """Return the fields; the compiler writes their names as a manifest has them."""
        return dict(vars(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


@lru_cache
def kubernetes_class(name: str) -> Type[KubernetesObject]:
    """Return the class of a kind of object.

    Args:
        name: Its name, such as ``V1Volume``.

    Raises:
        AttributeError: It is no name of such a kind.
    """
    if not re.fullmatch(r"V1[A-Z]\w*|V1alpha1UserContainer", name):
        raise AttributeError(
            f"{name} was asked of argo.workflows.client; dflow_hpc knows the objects that a template takes (V1Volume, "
            "V1Toleration, ...). Install argo-workflows==5.0.0 for the others."
        )
    return type(name, (KubernetesObject,), {"__module__": __name__, "__doc__": f"Kubernetes' {name}."})
