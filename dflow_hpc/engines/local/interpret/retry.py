"""Retries: the attempts ``N(0)``, ``N(1)``, ... under the Retry node ``N``, and what comes after one that failed.

Argo asks in this order: shut down? too late? wait (backoff)? does the policy match? is there one left? does the
expression hold? The first answer that ends it gives the message.

Trap: the backoff's wait is observed only where there is a ``limit``. It is Argo's, and so it is here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dflow_hpc.engines.local.interpret.call import Work
from dflow_hpc.engines.local.interpret.errors import TemplateError
from dflow_hpc.engines.local.interpret.names import Known
from dflow_hpc.engines.local.interpret.tree import seconds_of, timestamp
from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import golang
from dflow_hpc.manifest.view import UNSUCCESSFUL, Json, Node, text_of

if TYPE_CHECKING:
    from dflow_hpc.engines.local.interpret.execute import Executor

_TRANSIENT = re.compile(
    r"(i/o timeout|connection (refused|reset|timed out)|network is unreachable|TLS handshake timeout|EOF$"
    r"|too many requests|server is currently unable|etcdserver|exceeded quota|try again)",
    re.IGNORECASE,
)
"""Texts of failures that look as if they would pass by themselves."""


class _Over(Exception):
    """There will be no further attempt; the argument is the Retry node's message."""


async def run(executor: Executor, work: Work, node: Node) -> None:
    """Run attempts until one succeeds or there may be no more; the Retry node ends as its last attempt did."""
    strategy: Json = work.body["retryStrategy"]
    attempts: list[Node] = []
    try:
        while True:
            if attempts:
                await executor.slots.again(work.call.boundary, work.pod)
                work.has_slot = True
            attempt = await _attempt(executor, work, node, attempts)
            attempts.append(attempt)
            if attempt["phase"] not in UNSUCCESSFUL:
                executor.update(node["id"], phase="Succeeded", message=None, outputs=attempt.get("outputs"))
                return
            await _consider(executor, work, node, strategy, attempts)
    except _Over as over:
        message = str(over) or None
        executor.update(node["id"], phase=attempts[-1]["phase"], message=message, outputs=attempts[-1].get("outputs"))
    except TemplateError as error:
        executor.update(node["id"], phase="Error", message=str(error))
        raise


async def _attempt(executor: Executor, work: Work, node: Node, before: list[Node]) -> Node:
    """Run one attempt.

    Raises:
        TemplateError: It could not be executed, and the policy does not retry that.
    """
    name = f"{node['name']}({len(before)})"
    known = work.known.over(_variables(executor, work, name, before))
    mine = Work(work.call, work.template, work.scope, work.inputs, known, work.body, work.has_slot, work.deadline)
    work.has_slot = False
    flag = {"hooked": True, "retried": True} if work.call.hooked else {"retried": True}
    phase = "Running" if work.template.kind in ("steps", "dag") else "Pending"
    made = executor.create(
        work.call, work.template.node_type, phase, name=name, inputs=work.inputs or None, nodeFlag=flag
    )
    executor.tree.add_child(node["id"], made["id"])
    try:
        await executor.attempt(mine, made)
    except TemplateError:
        if _policy(work.body["retryStrategy"]) not in ("Always", "OnError", "OnTransientError"):
            raise
    return made


def _variables(executor: Executor, work: Work, name: str, before: list[Node]) -> dict[str, str]:
    found = {"retries": str(len(before))}
    if work.pod:
        found["pod.name"] = executor.pod_name(name, work.template)
    last = _last(before[-1]) if before else {"exitCode": "0", "duration": "0", "status": "", "message": ""}
    found.update({f"lastRetry.{key}": value for key, value in last.items()})
    return found


def _last(attempt: Node) -> dict[str, str]:
    duration = seconds_of(attempt["finishedAt"]) - seconds_of(attempt["startedAt"])
    return {
        "exitCode": text_of((attempt.get("outputs") or {}).get("exitCode") or "-1"),
        "duration": str(duration),
        "status": attempt["phase"],
        "message": attempt.get("message") or "",
    }


def _policy(strategy: Json) -> str:
    return str(strategy.get("retryPolicy") or ("Always" if strategy.get("expression") else "OnFailure"))


async def _consider(executor: Executor, work: Work, node: Node, strategy: Json, attempts: list[Node]) -> None:
    """Return when the next attempt may start.

    Raises:
        _Over: There is none.
        TemplateError: The strategy cannot be read.
    """
    last = attempts[-1]
    if executor.shutdown:
        raise _Over(f"Stopped with strategy '{executor.shutdown}'")
    if executor.deadline is not None and executor.clock() > executor.deadline:
        raise _Over(f"retry exceeded workflow deadline {timestamp(executor.deadline)}")
    limit = _number(strategy.get("limit"))
    if strategy.get("backoff"):
        await _back_off(executor, work, node, strategy["backoff"], limit, attempts)
    if not _matches(_policy(strategy), last):
        raise _Over(last.get("message") or "")
    if limit is not None and len(attempts) > limit:
        raise _Over("No more retries left")
    if strategy.get("expression"):
        known = Known(
            {"retries": str(len(attempts) - 1), **{f"lastRetry.{key}": value for key, value in _last(last).items()}},
            functions=work.known.functions,
        )
        if not known.condition(strategy["expression"]):
            raise _Over("retryStrategy.expression evaluated to false")


def _matches(policy: str, last: Node) -> bool:
    if policy == "OnTransientError":
        return bool(_TRANSIENT.search(last.get("message") or ""))
    try:
        return last["phase"] in {"Always": UNSUCCESSFUL, "OnError": ("Error",), "OnFailure": ("Failed",)}[policy]
    except KeyError:
        raise TemplateError(f"{policy} is not a valid RetryPolicy") from None


async def _back_off(
    executor: Executor, work: Work, node: Node, backoff: Json, limit: int | None, attempts: list[Node]
) -> None:
    now = executor.clock()
    latest: float | None = None
    if backoff.get("maxDuration"):
        latest = seconds_of(attempts[0]["startedAt"]) + _seconds(backoff["maxDuration"])
        if now > latest:
            raise _Over("Max duration limit exceeded")
    if not backoff.get("duration"):
        raise TemplateError("no base duration specified for retryStrategy")
    wait = _seconds(backoff["duration"])
    factor = _number(backoff.get("factor"))
    if factor is not None and factor > 0:
        wait *= factor ** (len(attempts) - 1)
    if backoff.get("cap"):
        wait = min(wait, _seconds(backoff["cap"]))
    until = seconds_of(attempts[-1]["finishedAt"]) + wait
    if latest is not None and until > latest:
        raise _Over("Backoff would exceed max duration limit")
    work.deadline = latest
    if now < until and limit is not None and len(attempts) <= limit:
        executor.update(node["id"], message=f"Backoff for {golang.humanize_duration(int(wait * 1e9))}")
        await executor.sleep_until(until)
        executor.update(node["id"], message=None)


def _number(value: object) -> int | None:
    if value is None:
        return None
    try:
        return golang.atoi(text_of(value))
    except ExpressionError:
        raise TemplateError(f"value '{text_of(value)}' cannot be resolved to an int") from None


def _seconds(value: object) -> float:
    try:
        return golang.parse_seconds_or_duration(text_of(value)) / 1e9
    except ExpressionError as error:
        raise TemplateError(str(error)) from error
