from dflow_hpc.manifest.ids import display_name, node_id, pod_name
from dflow_hpc.manifest.view import float_text, text_of


def test_node_ids_are_those_of_argo():  # one that the real controller gave
    run = "g-retry-conditional-tjjcq"
    assert node_id(run, f"{run}[1].retry(0)") == f"{run}-174448407"
    assert node_id(run, run) == run


def test_pod_names():
    assert pod_name("w", "w", "main") == "w"
    assert pod_name("w", "w[0].a", "echo") == "w-echo-2078810217"
    assert pod_name("w", "w[0].a", "") == "w-2078810217"
    assert len(pod_name("w", "w.a", "t" * 300)) <= 253


def test_display_names():
    assert display_name("w[0].a(0:x)", "w") == "a(0:x)"
    assert display_name("w[0]", "w") == "[0]"
    assert display_name("w.a(1)", "w") == "a(1)"
    assert display_name("w.onExit", None) == "w.onExit"


def test_texts_of_values_are_gos():
    assert [text_of(v) for v in (1.0, 1e3, 1.50, True, None, [1], 7, "x")] == [
        "1", "1000", "1.5", "true", "", "", "7", "x",
    ]  # fmt: skip
    assert [float_text(v) for v in (1e21, 1e-7, 1e-6, 1e20, 1.2345678901234568e20)] == [
        "1e+21", "1e-7", "0.000001", "100000000000000000000", "123456789012345680000",
    ]  # fmt: skip
