"""Fails when a module that travels imports, at import time, anything but the standard library and what travels."""

import ast
import sys
from pathlib import Path


def imported_at_import_time(tree: ast.Module):
    """Yield (line, module) of the imports outside functions and outside ``if TYPE_CHECKING``."""
    stack = list(tree.body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            stack += node.orelse
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            stack += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


def main(arguments):
    """Check the files and folders given."""
    files = []
    for name in arguments:
        files += [Path(name)] if name.endswith(".py") else Path(name).rglob("*.py")
    travelling = {str(file.with_suffix("")).replace("/", ".").removesuffix(".__init__") for file in files}
    bad = []
    for file in files:
        for line, module in imported_at_import_time(ast.parse(file.read_text())):
            top = module.split(".")[0]
            fine = module in travelling if top == "dflow_hpc" else top in sys.stdlib_module_names
            if not fine:
                bad.append(f"{file}:{line}: imports {module} at import time, which does not travel")
    print("\n".join(bad) or f"{len(files)} modules travel: standard library only")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
