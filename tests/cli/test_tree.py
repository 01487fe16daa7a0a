"""The tree as text: nesting, loops that are counted, durations."""

from datetime import UTC, datetime

from dflow_hpc.cli import tree


def node(name, type="Pod", phase="Succeeded", boundary=None, display=None, **more):
    return {
        "id": name,
        "name": name,
        "displayName": display or name.rpartition(".")[2],
        "type": type,
        "phase": phase,
        "boundaryID": boundary,
        "startedAt": "2026-01-01T00:00:00Z",
        "finishedAt": "2026-01-01T00:01:05Z",
        **more,
    }


def workflow(*nodes, **status):
    return {"metadata": {"name": "wf"}, "status": {"nodes": {n["id"]: n for n in nodes}, **status}}


def test_steps_lie_below_the_template_that_lists_them_and_groups_are_not_shown():
    lines = tree.rows(
        workflow(
            node("wf", "Steps"),
            node("wf[0]", "StepGroup", boundary="wf"),
            node("wf[0].a", boundary="wf"),
            node("wf[1]", "StepGroup", boundary="wf"),
            node("wf[1].inner", "DAG", boundary="wf"),
            node("wf[1].inner.t", boundary="wf[1].inner", phase="Failed", message="main: Error (exit code 3)"),
        )
    )
    assert [(row.lead, row.symbol, row.name) for row in lines] == [
        ("", "✔", "wf"),
        ("├─", "✔", "a"),
        ("└─", "✔", "inner"),
        ("  └─", "✖", "t"),
    ]
    assert lines[3].message == "main: Error (exit code 3)"
    assert lines[0].duration == "1m05s"


def test_attempts_lie_below_their_retry_node_and_members_below_their_loop():
    lines = tree.rows(
        workflow(
            node("wf", "DAG"),
            node("wf.loop", "TaskGroup", boundary="wf"),
            node("wf.loop(0:a)", "Retry", boundary="wf", display="loop(0:a)"),
            node("wf.loop(0:a)(0)", boundary="wf", display="loop(0:a)(0)", nodeFlag={"retried": True}, phase="Failed"),
            node("wf.loop(0:a)(1)", boundary="wf", display="loop(0:a)(1)", nodeFlag={"retried": True}),
        )
    )
    assert [row.lead + row.name for row in lines] == [
        "wf",
        "└─loop",
        "  └─loop(0:a)",
        "    ├─loop(0:a)(0)",
        "    └─loop(0:a)(1)",
    ]


def test_a_long_loop_shows_what_failed_and_counts_the_others():
    members = [node(f"wf[0].x({i}:{i})", boundary="wf", display=f"x({i}:{i})") for i in range(1000)]
    members[500]["phase"] = "Failed"
    lines = tree.rows(workflow(node("wf", "Steps"), *members), limit=3)
    assert [row.name for row in lines] == ["wf", "x(500:500)", "… 999 more Succeeded"]


def test_a_deep_chain_needs_no_deep_stack():
    nodes = [node("wf", "Steps")]
    for _ in range(3000):
        nodes.append(node(nodes[-1]["name"] + ".s", "Steps", boundary=nodes[-1]["id"]))
    assert len(tree.rows(workflow(*nodes))) == 3001


def test_what_runs_is_timed_up_to_now_and_what_was_skipped_is_not():
    running = node("wf", phase="Running", finishedAt=None)
    skipped = node("wf.b", "Skipped", phase="Skipped", boundary="wf")
    now = datetime(2026, 1, 1, 2, 3, 0, tzinfo=UTC)
    assert [row.duration for row in tree.rows(workflow(running, skipped), now=now)] == ["2h03m", ""]


def test_text_is_aligned_and_cuts_only_the_message():
    lines = tree.text(tree.rows(workflow(node("wf", message="m" * 200, templateName="main"))), width=60)
    assert lines[0].split() == ["STEP", "TEMPLATE", "TIME", "MESSAGE"]
    assert lines[1].startswith("✔ wf")
    assert lines[1].endswith("…")
    assert len(lines[1]) == 60
    assert lines[0].index("TIME") + 4 == lines[1].index("m" * 10) - 2


def test_a_narrow_terminal_does_without_templates():
    lines = tree.text(tree.rows(workflow(node("wf", message="m" * 200, templateName="t" * 20))), width=50)
    assert lines[0].split() == ["STEP", "TIME", "MESSAGE"]
    assert [len(line) <= 50 for line in lines] == [True, True]
