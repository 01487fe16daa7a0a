"""OPs of our own that the compiler puts beside a sliced step: what comes before its loop, and what judges it after.

They travel as part of this package and are loaded by module name, so a bundle needs no code of the author's for them.

Trap: ``InitArtifactForSlices`` reads and writes below the leaf's root itself. Which artifacts it has differs from step
to step, and signs belong to the class.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import os
import shutil
from pathlib import Path
from typing import Any, Dict, List

from dflow_hpc.op import catalog
from dflow_hpc.op.artifacts import slice_directory
from dflow_hpc.op.op import OP, FatalError
from dflow_hpc.op.opio import OPIO, OPIOSign
from dflow_hpc.op.paths import link_or_copy
from dflow_hpc.op.signs import Parameter


class InitArtifactForSlices(OP):
    """Seed the artifacts that a loop's slices will fill, and count what they will cut.

    An artifact that no slice ever writes (an empty loop) is then an empty list, not a missing object.
    """

    @classmethod
    def get_input_sign(cls) -> OPIOSign:
        """Return what it takes: names of artifacts to seed, and of staged artifacts to count."""
        return OPIOSign({"dflow_outputs": List[str], "dflow_counted": List[str], "dflow_sub_path": bool})

    @classmethod
    def get_output_sign(cls) -> OPIOSign:
        """Return what it gives: how many elements there are, and where each lies."""
        return OPIOSign({"dflow_nslices": int, "dflow_slices_path": List[Dict[str, Any]]})

    @OP.exec_sign_check
    def execute(self, op_in: OPIO) -> OPIO:
        """Write empty catalogues, and read those of the inputs."""
        root = Path(self.tmp_root)
        for name in op_in["dflow_outputs"]:
            target = root / "outputs" / "artifacts" / name
            target.mkdir(parents=True, exist_ok=True)
            catalog.write(target, [])
        elements = {name: _elements(root / "inputs" / "artifacts" / name) for name in op_in["dflow_counted"]}
        lengths = {name: len(found) for name, found in elements.items()}
        if len(set(lengths.values())) > 1:
            raise FatalError(
                "the sliced input artifacts differ in length: "
                + ", ".join(f"{name} has {length}" for name, length in sorted(lengths.items()))
            )
        count = next(iter(lengths.values()), 0)
        paths: List[Dict[str, Any]] = []
        if op_in["dflow_sub_path"]:
            paths = [
                {"order": order, **{name: found[order] for name, found in elements.items()}} for order in range(count)
            ]
        return OPIO({"dflow_nslices": count, "dflow_slices_path": paths})


def _elements(artifact: Path) -> List[Any]:
    value = catalog.assemble(catalog.read(artifact))
    if isinstance(value, list):
        return value
    return list(value.values()) if isinstance(value, dict) else [value]


class JoinSlice(OP):
    """Put an artifact of one slice beside those that the other slices of a scope give.

    As where a single OP gives a list in a slice, the joined list is flat; what is a dict keeps its keys.
    """

    @classmethod
    def get_input_sign(cls) -> OPIOSign:
        """Return what it takes: the slice. The artifact lies beside it as ``dflow_joined``, or is left out."""
        return OPIOSign({"dflow_slice": int, "dflow_create_dir": bool})

    @classmethod
    def get_output_sign(cls) -> OPIOSign:
        """Return that nothing but the artifact, which is written here, is given."""
        return OPIOSign()

    @OP.exec_sign_check
    def execute(self, op_in: OPIO) -> OPIO:
        """Link its files, and write their places.

        What has no catalogue has no name of its own, so it always gets a directory named by the slice.
        """
        root, piece = Path(self.tmp_root), op_in["dflow_slice"]
        source, target = (root / side / "artifacts" / "dflow_joined" for side in ("inputs", "outputs"))
        target.mkdir(parents=True)
        entries = catalog.read(source)
        bare = source.exists() and not (source / catalog.directory_name()).is_dir()
        if bare:
            entries = [catalog.Entry(".", piece)]
        directory = slice_directory(piece) if bare or op_in["dflow_create_dir"] else "."
        keyed = isinstance(catalog.assemble(entries), dict)
        found = []
        for path, order in entries:
            place = None if path is None else os.path.normpath(os.path.join(directory, path))
            if place is not None:
                link_or_copy(source / str(path), target / place, own=root)
            if path == ".":  # the catalogue of a whole directory is not of this artifact
                shutil.rmtree(target / str(place) / catalog.directory_name(), ignore_errors=True)
            found.append(catalog.Entry(place, order if keyed else piece))
        catalog.write(target, found)
        return OPIO()


class CheckNumSuccess(OP):
    """Fail unless enough items of a loop succeeded."""

    @classmethod
    def get_input_sign(cls) -> OPIOSign:
        """Return what it takes: the tags that successful items left, and how many are needed."""
        return OPIOSign({"success": Parameter(str), "threshold": Parameter(int)})

    @classmethod
    def get_output_sign(cls) -> OPIOSign:
        """Return that it gives nothing."""
        return OPIOSign()

    @OP.exec_sign_check
    def execute(self, op_in: OPIO) -> OPIO:
        """Compare."""
        found = _successes(op_in["success"])
        if found < op_in["threshold"]:
            raise FatalError(f"{found} items succeeded; {op_in['threshold']} must (continue_on_num_success)")
        return OPIO()


class CheckSuccessRatio(OP):
    """Fail unless a large enough part of a loop's items succeeded."""

    @classmethod
    def get_input_sign(cls) -> OPIOSign:
        """Return what it takes: the tags that successful items left, the number of items, and the needed part."""
        return OPIOSign({"success": Parameter(str), "total": Parameter(int), "threshold": Parameter(float)})

    @classmethod
    def get_output_sign(cls) -> OPIOSign:
        """Return that it gives nothing."""
        return OPIOSign()

    @OP.exec_sign_check
    def execute(self, op_in: OPIO) -> OPIO:
        """Compare."""
        found, total = _successes(op_in["success"]), op_in["total"]
        if found < op_in["threshold"] * total:
            raise FatalError(
                f"{found} of {total} items succeeded; a part of {op_in['threshold']} must (continue_on_success_ratio)"
            )
        return OPIO()


def _successes(text: str) -> int:
    """Add up the tags; a text that is still a reference means that no item succeeded, so Argo had nothing to give."""
    import json

    if text.startswith("{{"):
        return 0
    return sum(int(tag) for tag in json.loads(text))
