"""A host that runs nothing, a clock that nobody waits for, and a short way to write manifests."""

from __future__ import annotations

import asyncio

import pytest

from dflow_hpc.engines.local.interpret.interpreter import Interpreter
from dflow_hpc.engines.local.interpret.tree import NodeTree
from dflow_hpc.executors.leaf import Outcome


class Clock:
    """A clock whose sleeps end at once and move it on."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds
        await asyncio.sleep(0)


class Host:
    """Ends leaves as their script says: ``fail 3``, ``error text``, ``print text``, ``set name=value``, ``hang``."""

    def __init__(self, clock):
        self.clock = clock
        self.requests = []
        self.active = self.most = 0

    @property
    def ran(self):
        return [request.node_name for request in self.requests]

    async def run(self, request):
        self.requests.append(request)
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            await asyncio.sleep(0)
            request.on_running()
            await asyncio.sleep(0)
            return await self.outcome(request)
        finally:
            self.active -= 1

    async def outcome(self, request):
        phase, message, outputs = "Succeeded", "", {"exitCode": "0"}
        for line in request.template["script"]["source"].splitlines():
            word, _, rest = line.partition(" ")
            if word == "fail":
                outputs["exitCode"] = rest or "1"
                phase, message = "Failed", f"main: Error (exit code {outputs['exitCode']})"
            elif word == "error":
                phase, message = "Error", rest
            elif word == "print" and request.capture_result:
                outputs["result"] = rest
            elif word == "set":
                name, _, value = rest.partition("=")
                outputs.setdefault("parameters", []).append({"name": name, "value": value})
            elif word == "hang":
                await asyncio.Event().wait()
        for artifact in (request.template.get("outputs") or {}).get("artifacts") or ():
            key = f"{request.workflow_name}/{request.pod_name}/{artifact['name']}.tgz"
            outputs.setdefault("artifacts", []).append({**artifact, "s3": {"key": key}})
        return Outcome(phase, message, outputs)


class Run:
    """One interpretation: its tree, its host, its interpreter."""

    def __init__(self, templates, spec=None, metadata=None, resources=(), **options):
        self.clock = Clock()
        self.changes = []
        self.tree = NodeTree("w", self.changes.append, self.clock)
        self.host = options.pop("host", None) or Host(self.clock)
        self.workflow = {
            "metadata": {"name": "w", "uid": "u", "creationTimestamp": "2026-01-02T03:04:05Z", **(metadata or {})},
            "spec": {"entrypoint": "main", "templates": templates, **(spec or {})},
        }
        self.interpreter = Interpreter(
            self.workflow,
            self.tree,
            self.host,
            resources=resources,
            clock=self.clock,
            sleep=self.clock.sleep,
            **options,
        )

    def __call__(self, during=None):
        async def both():
            running = asyncio.ensure_future(self.interpreter.run())
            if during is not None:
                await during(self)
            return await running

        self.phase = asyncio.run(asyncio.wait_for(both(), 20))
        return self

    @property
    def message(self):
        return self.tree.head.get("message")

    def node(self, name):
        return self.tree.named("w" + name)

    def phases(self):
        return {node["name"].removeprefix("w"): node["phase"] for node in self.tree.nodes.values()}

    def children(self, name):
        return [self.tree.nodes[child]["name"].removeprefix("w") for child in self.node(name).get("children", ())]


@pytest.fixture
def run():
    """Interpret templates with a host that does what the scripts say."""

    def make(*templates, during=None, **options):
        return Run(list(templates), **options)(during)

    return make


def leaf(name, source="", **fields):
    """Return a script template."""
    return {"name": name, "script": {"image": "i", "command": ["sh"], "source": source}, **fields}


def steps(name, *groups, **fields):
    """Return a Steps template; a group is a step or a list of steps."""
    return {"name": name, "steps": [group if isinstance(group, list) else [group] for group in groups], **fields}


def dag(name, *tasks, **fields):
    """Return a DAG template."""
    return {"name": name, "dag": {"tasks": list(tasks), **fields.pop("dag", {})}, **fields}


def step(name, template, **fields):
    """Return a step or task; ``parameters`` and ``artifacts`` become its arguments."""
    arguments = {}
    if "parameters" in fields:
        arguments["parameters"] = [{"name": key, "value": value} for key, value in fields.pop("parameters").items()]
    if "artifacts" in fields:
        arguments["artifacts"] = [{"name": key, **value} for key, value in fields.pop("artifacts").items()]
    return {"name": name, "template": template, **({"arguments": arguments} if arguments else {}), **fields}
