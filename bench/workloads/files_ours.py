"""COUNT files of SIZE bytes through two steps: made by one OP, counted by the next."""

import sys
from pathlib import Path

from dflow_hpc import OP, OPIO, Artifact, OPIOSign, PythonOPTemplate, Step, Workflow


class Make(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"count": int, "size": int})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"data": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        folder = Path("data")
        folder.mkdir()
        block = b"x" * min(op_in["size"], 1 << 20)
        for i in range(op_in["count"]):
            with open(folder / f"{i:06d}", "wb") as file:
                for _ in range(max(1, op_in["size"] // len(block))):
                    file.write(block)
        return OPIO({"data": folder})


class Count(OP):
    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"data": Artifact(Path)})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"count": int, "bytes": int})

    @OP.exec_sign_check
    def execute(self, op_in):
        files = [path for path in Path(op_in["data"]).rglob("*") if path.is_file() and ".dflow" not in path.parts]
        return OPIO({"count": len(files), "bytes": sum(path.stat().st_size for path in files)})


if __name__ == "__main__":
    count, size = map(int, sys.argv[1:3])
    workflow = Workflow("files")
    make = Step("make", PythonOPTemplate(Make), parameters={"count": count, "size": size})
    look = Step("count", PythonOPTemplate(Count), artifacts={"data": make.outputs.artifacts["data"]})
    workflow.add(make)
    workflow.add(look)
    workflow.submit()
    assert workflow.query_step("count")[0].outputs.parameters["count"].value == count
