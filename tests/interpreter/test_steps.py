from tests.interpreter.conftest import leaf, step, steps


def test_groups_run_one_after_the_other_and_hang_on_each_others_ends(run):
    done = run(steps("main", step("a", "l"), [step("b", "l"), step("c", "l")], step("d", "l")), leaf("l"))
    assert done.phase == "Succeeded"
    assert done.host.ran == ["w[0].a", "w[1].b", "w[1].c", "w[2].d"]
    assert done.children("") == ["[0]"]
    assert done.children("[0].a") == ["[1]"]
    assert done.children("[1]") == ["[1].b", "[1].c"]
    assert done.children("[1].b") == done.children("[1].c") == ["[2]"]
    assert done.node("")["outboundNodes"] == [done.tree.id_of("w[2].d")]
