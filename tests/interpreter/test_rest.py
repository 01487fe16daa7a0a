"""Locks, caches, global outputs, references to other documents, container sets."""

import asyncio

import pytest

from dflow_hpc.engines.local.interpret.cache import MemoryCache
from dflow_hpc.engines.local.interpret.locks import Locks
from dflow_hpc.executors.leaf import Outcome
from tests.interpreter.conftest import Clock, Host, dag, leaf, step, steps


def document(kind, name, spec=None, **fields):
    return {"kind": kind, "metadata": {"name": name}, **({"spec": spec} if spec else {}), **fields}


def test_a_mutex_lets_one_run_at_a_time(run):
    locked = leaf("l", synchronization={"mutexes": [{"name": "m-{{workflow.name}}"}]})
    done = run(steps("main", step("a", "l", withItems=[1, 2, 3])), locked)
    assert (done.phase, done.host.most) == ("Succeeded", 1)
    waiting = [c["set"] for c in done.changes if "synchronizationStatus" in c.get("set", {}) and "id" in c["set"]]
    assert [node["message"] for node in waiting] == ["Waiting for default/Mutex/m-w lock. Lock status: 0/1"] * 2
    assert waiting[0]["synchronizationStatus"] == {"waiting": "default/Mutex/m-w"}
    assert waiting[0]["phase"] == "Pending"
    assert not any("message" in node for node in done.tree.nodes.values())


def test_a_semaphore_of_a_config_map(run):
    wanted = {"semaphores": [{"configMapKeyRef": {"name": "c", "key": "k"}}]}
    loop = steps("main", step("a", "l", withItems=[1, 2, 3, 4]))
    limits = document("ConfigMap", "c", data={"k": "2"})
    done = run(loop, leaf("l", synchronization=wanted), resources=[limits])
    assert (done.phase, done.host.most) == ("Succeeded", 2)
    done = run(loop, leaf("l", synchronization=wanted))
    complaint = "failed to initialize semaphore default/ConfigMap/c/k with limit"
    assert (done.phases()["[0].a(0:1)"], done.node("[0].a(0:1)")["message"]) == ("Error", complaint)
    done = run(loop, leaf("l"), spec={"synchronization": wanted})
    assert (done.phase, done.message) == ("Failed", f"Failed to acquire the synchronization lock. {complaint}")


def test_locks_are_granted_all_or_none_by_priority():
    async def take(locks, order, name, wanted, priority):
        await locks.acquire(
            {"mutexes": [{"name": n} for n in wanted]}, name,
            namespace="n", resources=(), priority=priority, on_wait=lambda *_: None,
        )  # fmt: skip
        order.append(name)

    async def scenario():
        locks, order = Locks(), []
        await take(locks, order, "first", "ab", 0)
        tasks = [asyncio.ensure_future(take(locks, order, *what)) for what in (("low", "a", 0), ("high", "ab", 5))]
        await asyncio.sleep(0)
        locks.release("first")
        await asyncio.sleep(0)
        assert order == ["first", "high"]
        locks.release("high")
        await asyncio.gather(*tasks)
        assert order == ["first", "high", "low"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("wanted", "lock"),
    [
        ({"mutexes": [{"name": "m", "database": True}]}, "mutex default/Database/m"),
        ({"semaphores": [{"database": {"key": "k"}, "namespace": "n"}]}, "semaphore n/Database/k"),
    ],
)
def test_a_lock_in_a_database_cannot_be_had(run, wanted, lock):
    complaint = f"database session is not available for {lock}"
    done = run(leaf("main"), spec={"synchronization": wanted})
    assert (done.phase, done.message) == ("Failed", f"Failed to acquire the synchronization lock. {complaint}")
    done = run(steps("main", [step("a", "l", withItems=[1, 2]), step("b", "l")]), leaf("l", synchronization=wanted))
    assert done.message == f"step group deemed errored due to child w[0].a(0:1) error: {complaint}"
    assert [node["name"] for node in done.tree.nodes.values()] == ["w", "w[0]", "w[0].a(0:1)"]
    assert done.host.ran == []


def test_memoized_outputs_are_taken_from_the_cache(run):
    memoize = {"key": "{{inputs.parameters.k}}", "maxAge": "1h", "cache": {"configMap": {"name": "c"}}}
    template = leaf(
        "main", "set o=1", inputs={"parameters": [{"name": "k", "default": "key"}]}, memoize=memoize,
        outputs={"parameters": [{"name": "o", "valueFrom": {"path": "/o"}}]},
    )  # fmt: skip
    cache = MemoryCache()
    first, second = run(template, cache=cache), run(template, cache=cache)
    assert (len(first.host.ran), len(second.host.ran)) == (1, 0)
    assert first.node("")["memoizationStatus"] == {"hit": False, "key": "key", "cacheName": "c"}
    assert second.node("")["memoizationStatus"]["hit"] is True
    assert second.node("")["outputs"] == first.node("")["outputs"]
    template["inputs"]["parameters"][0]["default"] = "not a key"
    assert run(template, cache=cache).message == "error in entry template execution: invalid cache key: not a key"


def test_global_names(run):
    outputs = {
        "parameters": [{"name": "o", "valueFrom": {"path": "/o"}, "globalName": "all"}],
        "artifacts": [{"name": "f", "path": "/f", "globalName": "file"}],
    }

    class Exporting(Host):
        async def outcome(self, request):
            made = await super().outcome(request)
            for parameter in made.outputs.get("parameters", ()):
                parameter["globalName"] = "all"
            return made

    take = leaf(
        "take",
        "{{inputs.parameters.x}}",
        inputs={"parameters": [{"name": "x"}], "artifacts": [{"name": "f", "path": "/f"}]},
    )
    done = run(
        steps("main", step("a", "give"), step("b", "take", parameters={"x": "{{workflow.outputs.parameters.all}}"},
                                              artifacts={"f": {"from": "{{workflow.outputs.artifacts.file}}"}})),
        leaf("give", "set o=5", outputs=outputs), take, host=Exporting(Clock()),
    )  # fmt: skip
    key = f"w/{done.host.requests[0].pod_name}/f.tgz"
    assert done.tree.head["outputs"] == {
        "parameters": [{"name": "all", "value": "5"}], "artifacts": [{"name": "file", "s3": {"key": key}}],
    }  # fmt: skip
    assert done.host.requests[1].template["script"]["source"] == "5"
    assert done.host.requests[1].inputs["artifacts"] == [{"name": "f", "s3": {"key": key}, "path": "/f"}]


def test_template_references(run):
    other = document("WorkflowTemplate", "lib", {"templates": [steps("outer", step("x", "l")), leaf("l")]})
    cluster = document("ClusterWorkflowTemplate", "lib", {"templates": [leaf("l")]})
    reference = {"name": "lib", "template": "outer"}
    done = run(
        steps(
            "main",
            {"name": "a", "templateRef": reference},
            {"name": "b", "templateRef": {"name": "lib", "template": "l", "clusterScope": True}},
        ),
        resources=[other, cluster],
    )
    assert done.phase == "Succeeded"
    node = done.node("[0].a")
    assert (node["templateRef"], node["templateScope"], "templateName" in node) == (reference, "local/w", False)
    assert done.node("[0].a[0].x")["templateScope"] == "namespaced/lib"
    assert sorted(done.tree.head["storedTemplates"]) == ["cluster/lib/l", "namespaced/lib/l", "namespaced/lib/outer"]
    done = run(steps("main", {"name": "a", "templateRef": reference}))
    assert done.message == "invalid spec: templates.main.steps[0].a template reference lib.outer not found"


def test_a_workflow_that_is_all_a_reference(run):
    spec = {
        "entrypoint": "main",
        "arguments": {"parameters": [{"name": "x", "value": "low"}, {"name": "y", "value": "low"}]},
        "templates": [leaf("main", "{{workflow.parameters.x}} {{workflow.parameters.y}}")],
    }
    lib = document("WorkflowTemplate", "lib", spec)
    mine = {"workflowTemplateRef": {"name": "lib"}, "arguments": {"parameters": [{"name": "x", "value": "high"}]}}
    done = run(spec={**mine, "templates": None, "entrypoint": None}, resources=[lib])
    assert done.phase == "Succeeded", done.message
    assert done.host.requests[0].template["script"]["source"] == "high low"
    done = run(spec={**mine, "templates": None, "entrypoint": None})
    assert (done.phase, done.message) == ("Error", 'workflowtemplates.argoproj.io "lib" not found')


def test_labels_and_annotations_that_a_workflow_gives_itself(run):
    more = {
        "labels": {"a": "{{workflow.name}}"},
        "labelsFrom": {"b": {"expression": "workflow.labels.mine + '-b'"}},
        "annotations": {"c": "1"},
    }
    done = run(leaf("main"), spec={"workflowMetadata": more}, metadata={"labels": {"mine": "x"}})
    assert done.tree.metadata == {"labels": {"a": "w", "b": "x-b"}, "annotations": {"c": "1"}}
    assert {"metadata": done.tree.metadata} in done.changes
    assert run(leaf("main")).tree.metadata == {}


def test_parameters_of_a_config_map(run):
    labels = {"workflows.argoproj.io/configmap-type": "Parameter"}
    values = {"kind": "ConfigMap", "metadata": {"name": "c", "labels": labels}, "data": {"k": "v"}}
    source = {"configMapKeyRef": {"name": "c", "key": "k"}}
    template = leaf("main", "{{inputs.parameters.x}}", inputs={"parameters": [{"name": "x", "valueFrom": source}]})
    done = run(template, resources=[values])
    assert done.node("")["inputs"]["parameters"] == [{"name": "x", "valueFrom": source, "value": "v"}]
    del values["metadata"]["labels"]
    assert "needs to have the label" in run(template, resources=[values]).message
    assert run(template).message.endswith("inputs.parameters.x was not supplied")


def test_an_argument_counts_more_than_a_config_map(run):
    labels = {"workflows.argoproj.io/configmap-type": "Parameter"}
    values = {"kind": "ConfigMap", "metadata": {"name": "c", "labels": labels}, "data": {"k": "v"}}
    source = {"configMapKeyRef": {"name": "{{ workflow.parameters.map }}", "key": "k"}}
    template = leaf("main", inputs={"parameters": [{"name": "x", "valueFrom": source}]})
    given = [{"name": "map", "value": "c"}]
    shown = [
        run(template, spec={"arguments": {"parameters": parameters}}, resources=[values]).node("")["inputs"]
        for parameters in (given, [*given, {"name": "x", "value": "own"}])
    ]
    assert [each["parameters"] for each in shown] == [
        [{"name": "x", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}, "value": "v"}],
        [{"name": "x", "value": "own"}],
    ]


def test_members_of_a_container_set_have_nodes(run):
    class Set(Host):
        async def outcome(self, request):
            members = [
                {"name": "a", "phase": "Succeeded", "message": ""},
                {"name": "b", "phase": "Failed", "message": "b: x"},
            ]
            return Outcome("Failed", "b: x", members=members)

    containers = [{"name": "a", "image": "i"}, {"name": "b", "image": "i", "dependencies": ["a"]}]
    template = {"name": "set", "containerSet": {"containers": containers}}
    done = run(dag("main", step("t", "set"), step("u", "set", depends="t.Failed")), template, host=Set(Clock()))
    assert done.phases()[".t.a"] == "Succeeded"
    node = done.node(".t.b")
    assert (node["type"], node["phase"], node["boundaryID"]) == ("Container", "Failed", done.tree.id_of("w.t"))
    assert done.children(".t") == [".t.a"]
    assert done.children(".t.a") == [".t.b"]
    assert done.children(".t.b") == [".u"]


def test_the_display_name_that_a_template_asks_for(run):
    annotations = {"workflows.argoproj.io/display-name": "nice-{{inputs.parameters.x}}"}
    template = leaf("l", inputs={"parameters": [{"name": "x"}]}, metadata={"annotations": annotations})
    done = run(steps("main", step("a", "l", parameters={"x": "1"})), template)
    assert done.node("[0].a")["displayName"] == "nice-1"
    done = run(steps("main", step("a", "l", parameters={"x": "!"})), template)
    assert (done.phases()["[0].a"], done.phase) == ("Error", "Failed")


def test_a_tag_without_an_end(run):
    done = run(steps("main", step("a", "l", when="{{x")), leaf("l"))
    assert (done.phase, done.phases()) == ("Error", {"": "Error"})
    assert "Cannot find end tag" in done.message


def test_volumes_of_the_workflow_reach_the_leaf(run):
    volumes = [{"name": "work", "emptyDir": {}}]
    done = run(leaf("main"), spec={"volumes": volumes})
    assert done.host.requests[0].template["volumes"] == volumes


@pytest.mark.parametrize("place", ["container", "sidecars", "containerSet"])
def test_a_mount_of_a_volume_that_is_not_declared_is_an_error(run, place):
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("own", "shared", "claimed", "nowhere")]
    container = {"name": "c", "image": "i", "volumeMounts": mounts}
    part = {"container": container, "sidecars": [container], "containerSet": {"containers": [container]}}[place]
    template = {"name": "l", "volumes": [{"name": "own", "emptyDir": {}}], place: part}
    if place == "sidecars":
        template["container"] = {"image": "i"}
    spec = {
        "volumes": [{"name": "shared", "emptyDir": {}}],
        "volumeClaimTemplates": [{"metadata": {"name": "claimed"}, "spec": {}}],
    }
    done = run(steps("main", step("a", "l")), template, spec=spec)
    assert not done.host.requests
    assert done.phase == "Failed"
    assert done.node("[0].a")["message"] == "volume 'nowhere' not found in workflow spec"


@pytest.mark.parametrize(("whole", "own", "kept"), [(True, None, True), (True, False, False), (False, True, True)])
def test_logs_are_archived_as_the_template_says_else_as_the_workflow(run, whole, own, kept):
    place = {} if own is None else {"archiveLocation": {"archiveLogs": own}}
    done = run(leaf("main", **place), spec={"archiveLogs": whole})
    assert done.host.requests[0].template["archiveLocation"] == {"archiveLogs": kept}
