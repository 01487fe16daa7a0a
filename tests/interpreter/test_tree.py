from dflow_hpc.engines.local.interpret.tree import NodeTree


def build(sink):
    tree = NodeTree("wf", sink, clock=lambda: 0.0)
    root = tree.create("wf", "Steps", "Running", None, templateName="main")
    group = tree.create("wf[0]", "StepGroup", "Running", root, nodeFlag={})
    tree.add_child(root["id"], group["id"])
    for name in ("a", "b"):
        node = tree.create(f"wf[0].{name}", "Pod", "Pending", root)
        tree.add_child(group["id"], node["id"])
        tree.add_child(group["id"], node["id"])
    tree.update(tree.id_of("wf[0].a"), phase="Succeeded", outputs={"exitCode": "0"})
    tree.update(root["id"], phase="Running", message=None)
    return tree


def test_each_change_is_told_once_and_folding_them_gives_the_tree():
    changes = []
    tree = build(changes.append)
    assert sum("child" in change for change in changes) == 3
    assert len(changes) == 8, "the update that changes nothing is not told"
    again = NodeTree("wf")
    for change in changes:
        again.apply(change)
    assert again.status() == tree.status()
    assert tree.nodes["wf"]["progress"] == tree.named("wf[0]")["progress"] == "1/2"
    assert (tree.done, tree.total) == (1, 2)


def test_names_as_argo_makes_them():
    tree = build(None)
    node = tree.named("wf[0].a")
    assert (node["displayName"], node["boundaryID"], node["startedAt"]) == ("a", "wf", "1970-01-01T00:00:00Z")


def test_outbound_follows_what_a_node_contains():
    tree = build(None)
    assert tree.outbound(tree.id_of("wf[0].a")) == [tree.id_of("wf[0].a")]
    tree.update("wf", outboundNodes=[tree.id_of("wf[0].a"), tree.id_of("wf[0].b")])
    assert tree.outbound("wf") == [tree.id_of("wf[0].a"), tree.id_of("wf[0].b")]
    retry = tree.create("wf.r", "Retry", "Running", tree.nodes["wf"])
    attempt = tree.create("wf.r(0)", "Steps", "Running", tree.nodes["wf"])
    tree.add_child(retry["id"], attempt["id"])
    assert tree.outbound(retry["id"]) == [attempt["id"]]
