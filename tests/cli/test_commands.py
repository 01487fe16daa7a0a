"""The commands as a user gives them, each a real process: what they print, where, and their exit codes."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

SQUARES = """
import time
from dflow_hpc import OP, OPIO, OPIOSign, PythonOPTemplate, Slices, Step, Workflow


class Square(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"n": int})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"m": int})

    @OP.exec_sign_check
    def execute(self, op_in):
        print("square of", op_in["n"], flush=True)
        __BODY__
        return OPIO({"m": op_in["n"] ** 2})


print("this goes to stdout")
wf = Workflow("squares", parameters={"who": "me"})
wf.add(Step("square", PythonOPTemplate(Square, slices=Slices(input_parameter=["n"])), parameters={"n": [1, 2]}))
__END__
"""

MANIFEST = """
apiVersion: argoproj.io/v1alpha1
kind: Workflow
metadata: {generateName: echo-}
spec:
  entrypoint: main
  arguments: {parameters: [{name: text, value: hello}]}
  templates:
    - name: main
      inputs: {parameters: [{name: text}]}
      container: {image: busybox, command: [echo], args: ["{{inputs.parameters.text}}"]}
"""


@pytest.fixture
def place(tmp_path):
    """A directory to run in, with a state directory of its own."""
    return tmp_path


def environment(place):
    return {**os.environ, "HOME": str(place), "XDG_STATE_HOME": str(place / "state"), "COLUMNS": "140"}


def start(place, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "dflow_hpc.cli.main", *arguments],
        cwd=place,
        env=environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def command(place, *arguments):
    process = start(place, *arguments)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def program(place, body="pass", end="wf.submit()", name="squares.py"):
    path = place / name
    path.write_text(SQUARES.replace("__BODY__", body).replace("__END__", end))
    return str(path)


def test_run_takes_the_engine_and_the_image_that_the_user_names(place, monkeypatch):
    monkeypatch.setenv("DFLOW_MODE", "argo")
    monkeypatch.setenv("DFLOW_PYTHON_IMAGE", "mine:1")
    code, out, err = command(place, "run", "--engine", "local", program(place), "-o", "json")
    assert code == 0, err
    images = [template["script"]["image"] for template in json.loads(out)["spec"]["templates"] if "script" in template]
    assert "mine:1" in images


def test_run_shows_the_tree_and_json_goes_to_stdout_alone(place):
    code, out, err = command(place, "run", program(place), "-o", "json")
    assert code == 0, err
    workflow = json.loads(out)
    assert workflow["kind"] == "Workflow"
    assert workflow["status"]["phase"] == "Succeeded"
    assert "this goes to stdout" in err
    name = workflow["metadata"]["name"]
    code, out, _ = command(place, "get", name)
    assert code == 0
    assert "✔ square(1:1)" in out
    code, out, _ = command(place, "logs", name, "square")
    assert (code, out) == (0, "square(0:0): square of 1\nsquare(1:1): square of 2\n")
    code, out, _ = command(place, "list", "-o", "json")
    assert [item["metadata"]["name"] for item in json.loads(out)["items"]] == [name]


def test_a_program_that_submits_nothing_has_its_workflow_run_with_the_parameters_of_the_command_line(place):
    code, out, err = command(place, "run", program(place, end=""), "-p", "who=you", "-o", "json")
    assert code == 0, err
    assert json.loads(out)["spec"]["arguments"]["parameters"] == [{"name": "who", "value": "you"}]
    code, _, err = command(place, "run", program(place), "-p", "whom=you")
    assert code == 2
    assert "parameter 'whom' was set by -p; this workflow has who" in err


def test_a_program_may_delete_its_run(place):
    path = program(place, end="wf.submit()\nwf.delete()\nwf.id = None\nwf.submit()")
    code, out, err = command(place, "run", path, "-o", "json")
    assert code == 0, err
    assert json.loads(out)["kind"] == "Workflow"  # only the second one is left


def test_a_failed_step_is_shown_with_its_last_lines_and_a_mended_program_is_retried(place):
    path = program(place, body="1 / (op_in['n'] - 2)")
    code, out, err = command(place, "run", path)
    assert code == 1
    assert "ZeroDivisionError: division by zero" in err
    assert "| square of 2" in err
    name = next(line.split()[1] for line in out.splitlines() if line.startswith("Name:"))
    assert f"dflow-hpc retry {name}" in err
    code, out, err = command(place, "explain", name)
    assert code == 0, err
    assert "ZeroDivisionError" in out
    assert "square(0:1)" not in out  # it is well
    program(place)
    for number in range(7):
        (place / f"aside-{number}.txt").touch()
    code, out, err = command(place, "retry", name)
    assert code == 0, err
    assert "1 finished steps are taken over" in err
    assert "changed since: code/squares.py, code/aside-0.txt, code/aside-1.txt, code/aside-2.txt and 4 more" in err
    assert json.loads(command(place, "get", name, "-o", "json")[1])["status"]["phase"] == "Succeeded"


def test_a_manifest_needs_a_runtime_and_says_what_the_host_does_with_images(place):
    (place / "echo.yaml").write_text(MANIFEST)
    code, _, err = command(place, "run", "echo.yaml")
    assert code == 2
    assert "--runtime host" in err
    code, out, err = command(place, "run", "echo.yaml", "--runtime", "host", "-p", "text=bye", "-o", "json")
    assert code == 0, err
    assert "images are ignored" in err
    name = json.loads(out)["metadata"]["name"]
    assert command(place, "logs", name)[1] == "bye\n"


def test_what_cannot_be_interpreted_is_refused_by_name_before_anything_runs(place):
    container = MANIFEST[MANIFEST.index("      container:") :]
    (place / "r.yaml").write_text(MANIFEST.replace(container, "      resource: {action: get, flags: [pods]}\n"))
    code, _, err = command(place, "run", "r.yaml", "--runtime", "host")
    assert code == 2
    assert "'main' is of kind 'resource'" in err
    assert command(place, "list")[1].startswith("no runs yet")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rnu", "x.py"), "Did you mean 'run'?"),
        (("run", "nothing.py"), "nothing.py was to be run; it cannot be read"),
        (("run", "nothing.yaml"), "nothing.yaml was to be read; it cannot be: "),
        (("get", "nothing"), "the run 'nothing' was asked for; none of the 0 known runs"),
        (("gc", "--older-than", "soon"), "'soon' is none"),
        (("resume", "x", "-p", "value"), "what is needed is -p NAME=VALUE"),
    ],
)
def test_a_wish_that_cannot_be_met_says_what_was_asked_and_what_to_do(place, arguments, message):
    code, _, err = command(place, *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_lint_compiles_a_program_and_says_what_looks_wrong_with_file_and_line(place):
    path = program(place)
    code, out, _ = command(place, "lint", path)
    assert code == 0
    assert f"{path}: nothing looks wrong" in out
    script = place / "squares.py"
    script.write_text(script.read_text().replace('"n": [1, 2]}', '"n": [1, 2]}, key="one"'))
    code, out, _ = command(place, "lint", path)
    assert code == 1
    assert "squares.py:24: step 'square'" in out
    assert "key" in out
    assert command(place, "list")[1].startswith("no runs yet")


def test_lint_judges_a_manifest_by_argos_rules(place):
    spec = """
  entrypoint: main
  arguments: {parameters: [{name: x}]}
  templates:
  - name: main
    container: {image: i, args: ["{{workflow.parameters.x}}"]}
"""
    (place / "flow.yaml").write_text(f"kind: Workflow\nmetadata: {{name: w}}\nspec:{spec}")
    code, out, _ = command(place, "lint", "flow.yaml")
    assert (code, out) == (0, "flow.yaml: nothing looks wrong\n")
    library = f"kind: WorkflowTemplate\nmetadata: {{name: lib}}\nspec:{spec}".replace("image: i,", "")
    (place / "flow.yaml").write_text(library.replace("entrypoint: main", ""))
    code, out, _ = command(place, "lint", "flow.yaml")
    problem = "invalid spec: templates.main templates.main.container.image may not be empty"
    assert (code, out) == (1, f"flow.yaml: WorkflowTemplate lib: {problem}\n")


def test_an_error_in_the_program_shows_its_own_lines(place):
    (place / "bad.py").write_text("import dflow_hpc\n\n\ndef f():\n    return 1 / 0\n\n\nf()\n")
    code, _, err = command(place, "run", "bad.py")
    assert code == 2
    assert "line 8" in err
    assert "line 5" in err
    assert "cli/" not in err


def wait_for(place, name, phase):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        nodes = json.loads(command(place, "get", name, "-o", "json")[1])["status"].get("nodes") or {}
        if any(node["type"] == "Pod" and node["phase"] == phase for node in nodes.values()):
            return
    raise AssertionError(f"no step became {phase}")


@pytest.mark.slow
def test_a_run_in_the_background_is_followed_stopped_and_deleted(place):
    code, out, err = command(place, "submit", program(place, body="time.sleep(30)"))
    assert code == 0, err
    name = out.split()[-1]
    wait_for(place, name, "Running")
    follower = start(place, "logs", "-f", name)
    assert command(place, "stop", name)[0] == 0
    assert command(place, "wait", name, "--timeout", "30")[0] == 1
    assert "square of 1" in follower.communicate(timeout=30)[0]
    assert json.loads(command(place, "get", name, "-o", "json")[1])["status"]["phase"] == "Failed"
    assert command(place, "delete", name)[0] == 0
    assert command(place, "list")[1].startswith("no runs yet")


def test_ctrl_c_leaves_a_run_that_can_be_resumed(place):
    flag = place / "go"
    path = program(
        place, body=f"import os; [time.sleep(0.05) for _ in iter(lambda: os.path.exists({str(flag)!r}), True)]"
    )
    process = start(place, "run", path, start_new_session=True)
    name = ""
    for line in process.stderr:
        if ": runs in " in line:
            name = line.partition(":")[0]
        if "Running" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"dflow-hpc resume {name}" in err
    flag.touch()
    code, _, err = command(place, "resume", name)
    assert code == 0, err
    assert json.loads(command(place, "get", name, "-o", "json")[1])["status"]["phase"] == "Succeeded"


def test_doctor_runs_a_workflow_and_config_tells_the_layers(place):
    code, out, err = command(place, "doctor")
    assert code == 0, out + err
    assert "a workflow of one step ran and gave 42" in out
    (place / "dflow.toml").write_text('namespace = "mine"\n[s3]\nsecret_key = "hush"\n')
    code, out, _ = command(place, "config")
    assert "namespace" in out
    assert "file dflow.toml" in out
    assert "hush" not in out
