"""What has no steps of its own: leaves, which a ``LeafHost`` runs, and suspended nodes, which wait.

Trap: a leaf that an earlier life of this run has finished is never run again. Its recorded node is taken as it is, so
the tree and all that is computed from it come out the same.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from dflow_hpc.engines.local.interpret.call import Work
from dflow_hpc.engines.local.interpret.errors import TemplateError
from dflow_hpc.engines.local.interpret.inputs import has_tags
from dflow_hpc.engines.local.interpret.tree import seconds_of, timestamp
from dflow_hpc.errors import DflowError, ExpressionError
from dflow_hpc.executors.leaf import LeafRequest, Outcome
from dflow_hpc.expr import golang
from dflow_hpc.manifest.view import Json, Node, text_of

if TYPE_CHECKING:
    from dflow_hpc.engines.local.interpret.execute import Executor

_POD_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_RECORDED = ("phase", "message", "outputs", "progress", "startedAt", "finishedAt")


async def run(executor: Executor, work: Work, node: Node) -> None:
    """Run a leaf to its end, or take what an earlier life recorded of it.

    Raises:
        TemplateError: It could not be started.
    """
    containers = _containers(executor, work, node)
    if _take_recorded(executor, node):
        for container in containers.values():
            _take_recorded(executor, container)
        return
    request = _request(executor, work, node, containers)
    if not _may_run(executor, work, node):
        return
    outcome: Outcome | None = None
    with executor.until_stopped(node["id"], work.call.on_exit):
        try:
            outcome = await executor.host.run(request)
        except DflowError as error:
            raise TemplateError(str(error)) from error
    if outcome is None:  # it was stopped; the two blanks are Argo's
        outcome = Outcome("Failed", f"workflow shutdown with strategy:  {executor.shutdown}")
    _finish(executor, node, containers, outcome)


def _take_recorded(executor: Executor, node: Node) -> bool:
    before = executor.recorded.get(node["id"])
    if before is None:
        return False
    if node["id"] in executor.watchers:
        executor.update(node["id"], phase="Running")  # a hook may have seen it run, and must see it again
    executor.update(node["id"], **{key: before[key] for key in _RECORDED if before.get(key) is not None})
    return True


def _may_run(executor: Executor, work: Work, node: Node) -> bool:
    if executor.is_stopped(work.call.on_exit):
        executor.update(node["id"], phase="Failed", message=f"workflow shutdown with strategy: {executor.shutdown}")
        return False
    if executor.deadline is not None and not work.call.on_exit and executor.clock() > executor.deadline:
        executor.update(node["id"], phase="Failed", message="Step exceeded its deadline")
        return False
    return True


def _request(executor: Executor, work: Work, node: Node, containers: dict[str, Node]) -> LeafRequest:
    body = work.body
    if has_tags(body):  # what only an attempt knows, and tags that values brought in
        body = work.known.substitute(body)
    if executor.archive_logs is not None:
        place = {"archiveLogs": executor.archive_logs, **(body.get("archiveLocation") or {})}
        body = {**body, "archiveLocation": place}
    _check_volumes(body, executor.templates.claims)
    name = executor.pod_name(node["name"], work.template)
    if not _POD_NAME.match(name):
        raise TemplateError(
            f'Pod "{name}" is invalid: metadata.name: Invalid value: "{name}": a lowercase RFC 1123 subdomain must '
            "consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric "
            "character (e.g. 'example.com', regex used for validation is "
            "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        )
    boundary = work.call.boundary
    reports = _Reports(executor, node, containers)
    limits = [work.deadline, None if work.call.on_exit else executor.deadline]
    return LeafRequest(
        node_id=node["id"],
        node_name=node["name"],
        template={**body, "inputs": work.inputs} if work.inputs else body,
        inputs=work.inputs,
        pod_name=name,
        workflow_name=executor.name,
        workflow_uid=executor.uid,
        capture_result=boundary is not None and work.call.plain_name in boundary.template.results_used,
        on_running=reports.running,
        on_progress=reports.progress,
        deadline=min((limit for limit in limits if limit is not None), default=None),
        timeout=_timeout(body),
        retry_id=executor.tree.id_of(node["name"].rpartition("(")[0]) if _is_attempt(node) else None,
    )


def _check_volumes(body: Json, claims: Collection[str]) -> None:
    group = body.get("containerSet") or {}
    mounting = [body.get("container"), body.get("script"), group, *(group.get("containers") or ())]
    mounting += [*(body.get("initContainers") or ()), *(body.get("sidecars") or ())]
    known = {volume["name"] for volume in body.get("volumes") or ()}
    for container in mounting:
        for mount in (container or {}).get("volumeMounts") or ():
            if mount.get("name") not in known and mount.get("name") not in claims:
                raise TemplateError(f"volume '{mount.get('name') or ''}' not found in workflow spec")


class _Reports:
    """Takes into the tree what is heard of a leaf before it ends."""

    __slots__ = ("_containers", "_executor", "_node")

    def __init__(self, executor: Executor, node: Node, containers: dict[str, Node]):
        self._executor, self._node, self._containers = executor, node, containers

    def running(self) -> None:
        for node in (self._node, *self._containers.values()):
            self._executor.update(node["id"], phase="Running")

    def progress(self, text: str) -> None:
        self._executor.update(self._node["id"], progress=text)


def _is_attempt(node: Node) -> bool:
    return bool((node.get("nodeFlag") or {}).get("retried"))


def _timeout(body: Json) -> float | None:
    limits = []
    try:
        if body.get("timeout"):
            limits.append(golang.parse_duration(body["timeout"]) / 1e9)
        if body.get("activeDeadlineSeconds") is not None:
            limits.append(float(golang.atoi(text_of(body["activeDeadlineSeconds"]))))
    except ExpressionError as error:
        raise TemplateError(f"invalid timeout format. {error}") from error
    return min(limits, default=None)


def _finish(executor: Executor, node: Node, containers: dict[str, Node], outcome: Outcome) -> None:
    for member in outcome.members:
        own = containers.get(member["name"])
        if own is not None:
            times = _times(member.get("started"), member.get("finished"))
            executor.update(own["id"], phase=member["phase"], message=member.get("message") or None, **times)
    executor.update(
        node["id"],
        phase=outcome.phase,
        message=outcome.message or None,
        outputs=outcome.outputs or None,
        **_times(outcome.started, outcome.finished),
    )


def _times(started: float | None, finished: float | None) -> dict[str, str]:
    known = {"startedAt": started, "finishedAt": finished}
    return {key: timestamp(value) for key, value in known.items() if value}


def _containers(executor: Executor, work: Work, node: Node) -> dict[str, Node]:
    """Make the nodes of a containerSet's members, each below those that it depends on."""
    made: dict[str, Node] = {}
    if work.template.kind != "containerSet":
        return made
    members = work.body["containerSet"].get("containers") or []
    for member in members:
        name = f"{node['name']}.{member['name']}"
        made[member["name"]] = executor.tree.create(
            name,
            "Container",
            "Pending",
            node,
            templateName=node.get("templateName"),
            templateRef=node.get("templateRef"),
            templateScope=node.get("templateScope"),
            nodeFlag=node.get("nodeFlag"),
        )
    for member in members:
        above = [made[name] for name in member.get("dependencies") or () if name in made] or [node]
        for parent in above:
            executor.tree.add_child(parent["id"], made[member["name"]]["id"])
    return made


async def suspend(executor: Executor, work: Work, node: Node) -> None:
    """Wait until the node is resumed, or its duration is over.

    Raises:
        TemplateError: An output that somebody should have supplied has neither value nor default.
    """
    if _take_recorded(executor, node):
        return
    _open_inputs(executor, work, node)
    executor.update(node["id"], phase="Running")
    until = _until(executor, work, node)
    resumed = asyncio.Event()
    executor.suspended[node["id"]] = resumed
    waiting = [executor.spawn(resumed.wait())]
    if until is not None:
        waiting.append(executor.spawn(executor.sleep_until(until)))
    try:
        with executor.until_stopped(node["id"], work.call.on_exit):
            if not executor.is_stopped(work.call.on_exit):
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        del executor.suspended[node["id"]]
        for part in waiting:
            part.cancel()
    if node["phase"] != "Running":
        return  # whoever resumed it has said how it ended
    if executor.is_stopped(work.call.on_exit) or (
        executor.deadline is not None and executor.clock() >= executor.deadline
    ):
        _end_suspended(executor, node)
        return
    executor.update(node["id"], phase="Succeeded", outputs=supplied(node.get("outputs"), {}))


def _until(executor: Executor, work: Work, node: Node) -> float | None:
    limits = [executor.deadline] if executor.deadline is not None and not work.call.on_exit else []
    duration = (work.body.get("suspend") or {}).get("duration")
    if duration:
        try:
            limits.append(seconds_of(node["startedAt"]) + golang.parse_seconds_or_duration(text_of(duration)) / 1e9)
        except ExpressionError as error:
            raise TemplateError(str(error)) from error
    return min(limits, default=None)


def _end_suspended(executor: Executor, node: Node) -> None:
    stopped = f"Stopped with strategy '{executor.shutdown}'" if executor.shutdown else "Step exceeded its deadline"
    executor.update(node["id"], phase="Failed", message=stopped)


def _open_inputs(executor: Executor, work: Work, node: Node) -> None:
    """Show what may be supplied: outputs without a value, and the choices that an input's JSON offers."""
    declared = (work.body.get("outputs") or {}).get("parameters") or ()
    wanted = [p for p in declared if (p.get("valueFrom") or {}).get("supplied") is not None]
    if wanted:
        executor.update(node["id"], outputs={"parameters": wanted})
    parameters = []
    for parameter in work.inputs.get("parameters") or ():
        try:
            offered = json.loads(parameter["value"])
        except ValueError:
            offered = None
        choices = offered.get("enum") if isinstance(offered, dict) else None
        if isinstance(choices, list) and choices:
            default = parameter.get("default", text_of(choices[0]))
            parameters.append({**parameter, "enum": choices, "default": default})
        else:
            parameters.append(parameter)
    if parameters:
        executor.update(node["id"], inputs={**work.inputs, "parameters": parameters})


def supplied(outputs: Json | None, values: dict[str, str]) -> Json | None:
    """Return the outputs of a suspended node that goes on, with what was supplied, else with the defaults.

    Raises:
        TemplateError: There is neither for one.
    """
    if not outputs:
        return outputs
    made = []
    for parameter in outputs.get("parameters") or ():
        source = parameter.get("valueFrom") or {}
        value = values.get(parameter["name"], parameter.get("value", source.get("default")))
        if value is None:
            raise TemplateError(
                f"raw output parameter '{parameter['name']}' has not been set and does not have a default value"
            )
        made.append({**{k: v for k, v in parameter.items() if k != "valueFrom"}, "value": text_of(value)})
    return {**outputs, "parameters": made}
