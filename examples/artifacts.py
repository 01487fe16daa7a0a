"""Files: uploaded, read by a step of its own each, merged to a list, and downloaded."""

import tempfile
from pathlib import Path
from typing import List

from dflow_hpc import OP, Artifact, PythonOPTemplate, Slices, Step, Workflow, download_artifact, upload_artifact


@OP.function
def count_words(text: Artifact(Path)) -> {"report": Artifact(Path)}:
    report = Path(f"{text.stem}.count")
    report.write_text(f"{text.stem} {len(text.read_text().split())}\n")
    return {"report": report}


@OP.function
def join(reports: Artifact(List[Path])) -> {"table": Artifact(Path)}:
    table = Path("table.txt")
    table.write_text("".join(report.read_text() for report in reports))
    return {"table": table}


def make_workflow(texts):
    workflow = Workflow(name="artifacts")
    count = Step(
        "count",
        PythonOPTemplate(count_words, slices=Slices(input_artifact=["text"], output_artifact=["report"])),
        artifacts={"text": texts},
        with_param=[0, 1, 2],
    )
    workflow.add(count)
    workflow.add(Step("join", PythonOPTemplate(join), artifacts={"reports": count.outputs.artifacts["report"]}))
    return workflow


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as room:
        for number, text in enumerate(["one", "one two", "one two three"]):
            Path(room, f"text-{number}.txt").write_text(text)
        workflow = make_workflow(upload_artifact(sorted(Path(room).iterdir())))
    workflow.run()
    [table] = download_artifact(workflow.query_step(name="join")[0].outputs.artifacts["table"], path="counted")
    print(Path(table).read_text(), end="")
