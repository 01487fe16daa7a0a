"""Taking over slices of an earlier run: their files are gathered under a key of the new run.

The slices of a loop fill one artifact together. If some of them are taken over and others run again, the artifact must
be whole: this module copies what the taken-over slices left, and lets the new loop fill up the copy. The earlier run's
own artifact stays as it is (dflow writes into it).

Not here: taking over outputs as such, which the engine does by key.

Trap: which files a slice left is known by their order in the catalogue. Entries of dicts have keys of their own, so all
of them are taken over.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import json
import tempfile
import uuid
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Set, Tuple

from dflow_hpc.errors import EngineError

PREFIX = "dflow_artifact_key"
"""Input parameter of a slice: the key under which the slices of its loop leave their artifacts."""
GROUP = "dflow_group_key"
"""Input parameter of a slice: the key of the helper step before its loop, which hands out that key."""


def whole(steps: List[Any], manifest_of: Callable[[str], Mapping[str, Any]]) -> List[Any]:
    """Return steps to take over, with the helper steps of their loops.

    Args:
        steps: Steps of earlier runs (``ArgoStep``) that have keys.
        manifest_of: Gives the Workflow object of an earlier run, by its id.

    Raises:
        EngineError: The earlier run is gone, so that nobody knows which files a slice left.
    """
    loops: Dict[Tuple[str, str, str], List[Any]] = {}
    for step in steps:
        given = step.inputs.parameters
        if GROUP in given and PREFIX in given:
            found = (step.workflow, given[GROUP]["value"], given[PREFIX]["value"])
            loops.setdefault(found, []).append(step)
    if not loops:
        return steps
    helpers = {key for _, key, _ in loops}
    kept = [step for step in steps if step.key not in helpers]
    return kept + [_helper(key, prefix, members, manifest_of(run)) for (run, key, prefix), members in loops.items()]


def _helper(key: str, prefix: str, members: List[Any], run: Mapping[str, Any]) -> Any:
    """Return the helper step of a loop as if it had named a new key, under which the slices' files lie."""
    from dflow_hpc.manifest.result import ArgoStep, ArgoWorkflow

    records = {item["name"]: _slices(item) for item in run["spec"]["templates"]}
    new_prefix = f"upload/{uuid.uuid4()}"
    names = [name for name, artifact in members[0].outputs.artifacts.items() if _key(artifact).startswith(prefix + "/")]
    for name in names:
        _gather(name, prefix, new_prefix, [(member, _orders(member, records)) for member in members])
    parameters = [{"name": PREFIX, "value": new_prefix}]
    for old in ArgoWorkflow(run).get_step(key=key):
        parameters += [dict(item) for name, item in old.outputs.parameters.items() if name != PREFIX]
    artifacts = [{"name": name, "archive": {"none": {}}, "s3": {"key": f"{new_prefix}/{name}"}} for name in names]
    return ArgoStep(
        {
            "displayName": key,
            "phase": "Succeeded",
            "inputs": {"parameters": [{"name": "dflow_key", "value": key}]},
            "outputs": {"parameters": parameters, "artifacts": artifacts},
        },
        members[0].workflow,
    )


def _key(artifact: Mapping[str, Any]) -> str:
    return str((artifact.get("s3") or {}).get("key") or "")


def _slices(template: Mapping[str, Any]) -> Any:
    text = ((template.get("metadata") or {}).get("annotations") or {}).get("dflow-hpc/op")
    return json.loads(text).get("slices") if text else None


def _orders(member: Any, records: Mapping[str, Any]) -> List[Any]:
    from dflow_hpc.op.slices import resolve

    record = records.get(member.get("templateName", ""))
    if record is None:
        raise EngineError(
            f"the step {member.key!r} of {member.workflow} was to be reused; the manifest of that run says nothing of "
            "its slices. Reuse none of the loop's steps, so that it runs anew."
        )
    texts = {name: item.get("value") for name, item in member.inputs.parameters.items()}
    found = resolve(record, texts.get)
    return found if isinstance(found, list) else [found]


def _gather(name: str, prefix: str, new_prefix: str, members: List[Tuple[Any, List[Any]]]) -> None:
    """Copy the files of some slices of an artifact to its new key, with a catalogue of them."""
    from dflow_hpc.op import catalog
    from dflow_hpc.storage.store import store_for
    from dflow_hpc.storage.transfer import bring_uploads, catalog_of_artifact

    store = store_for()
    found: Dict[Tuple[str, Any], str] = {}
    for member, orders in members:
        key = _key(member.outputs.artifacts[name])
        bring_uploads(store, key)
        own = key == f"{prefix}/{name}"  # otherwise the author has given it another artifact
        wanted: Set[Any] = set(orders)
        for item in catalog_of_artifact({"s3": {"key": key}}):
            path, order = item["dflow_list_item"], item["order"] if own else orders[0]
            if path is not None and (order in wanted or not isinstance(order, int)):
                found[path, order] = key
    with tempfile.TemporaryDirectory() as room:
        tree = Path(room) / name
        tree.mkdir()
        catalog.write(tree, [catalog.Entry(path, order) for path, order in found])
        store.put(tree, f"{new_prefix}/{name}", archive="none")
    for path, key in {path: key for (path, _), key in found.items()}.items():
        store.copy(f"{key}/{path}", f"{new_prefix}/{name}/{path}")
