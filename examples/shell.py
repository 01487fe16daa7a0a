"""A shell script as a step: parameters are filled in, files are read and written at their paths."""

from dflow_hpc import (
    InputParameter,
    Inputs,
    OutputArtifact,
    OutputParameter,
    Outputs,
    ShellOPTemplate,
    Step,
    Workflow,
    download_artifact,
)

template = ShellOPTemplate(
    "word-count",
    image="alpine:3.20",
    script="""
    echo "{{inputs.parameters.text}}" > /tmp/text.txt
    wc -w < /tmp/text.txt | tr -d ' ' > /tmp/words.txt
    """,
    inputs=Inputs(parameters={"text": InputParameter()}),
    outputs=Outputs(
        parameters={"words": OutputParameter(value_from_path="/tmp/words.txt", type=int)},
        artifacts={"text": OutputArtifact(path="/tmp/text.txt")},
    ),
)

workflow = Workflow(name="shell")
workflow.add(Step("count", template, parameters={"text": "a shell is a fine place to count words"}))

if __name__ == "__main__":
    workflow.run()
    outputs = workflow.query_step(name="count")[0].outputs
    print("words:", outputs.parameters["words"].value)
    print("file:", *download_artifact(outputs.artifacts["text"], path="shell-output"))
