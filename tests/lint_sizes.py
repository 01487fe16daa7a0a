"""Fails when a module or a function has outgrown its room: a split is due (CONTRIBUTING.md)."""

import ast
import sys
from pathlib import Path

MODULE, FUNCTION = 560, 60  # lines; the aims are 500 and 40, this is where an aim becomes a rule


def main():
    """Look at every module of the package."""
    bad = []
    for root in ("dflow_hpc", "executors", "virtual_node"):
        for file in sorted(Path(root).rglob("*.py")):
            if file.is_relative_to("dflow_hpc/executors") or file.is_relative_to("dflow_hpc/virtual_node"):
                continue
            text = file.read_text()
            if (lines := text.count("\n")) > MODULE:
                bad.append(f"{file}: {lines} lines (at most {MODULE})")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    # The body: how many arguments there are is often dflow's choice, not ours.
                    length = (node.end_lineno or node.lineno) - node.body[0].lineno + 1
                    if length > FUNCTION:
                        bad.append(f"{file}:{node.lineno}: {node.name} has {length} lines (at most {FUNCTION})")
    print("\n".join(bad) or "no module and no function has outgrown its room")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
