"""HDF5Datasets: many small files and values in one HDF5 file, as an artifact.

An output of this type is a list or dict whose elements are paths (a file, or a directory, which is packed), None, or
anything that h5py stores; all of it goes into one ``<id>.h5``. An input is a list of ``HDF5Dataset``.

h5py is imported when a dataset is written or opened: it is not a dependency. The layout in the file is dflow's: each
dataset has the attributes ``type`` (file, dir, null, data), ``path`` and, for a file, ``dtype`` (utf-8, binary).

This module travels with the author's code: standard library only, valid Python 3.8.
"""

import contextlib
import io
import os
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Tuple, Union

from dflow_hpc.errors import StorageError


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise StorageError(
            "an HDF5Datasets artifact was used, and h5py is not installed in this Python. "
            "Install it: pip install h5py (or add it to the OP's image)."
        ) from error
    return h5py


class HDF5Datasets:
    """Names the artifact type: ``Artifact(HDF5Datasets)``."""


class HDF5Dataset:
    """One dataset of an HDF5 file, read when asked for.

    Args:
        file: The HDF5 file.
        key: The name of the dataset in it.
    """

    def __init__(self, file: Union[str, "os.PathLike[str]"], key: str) -> None:
        self.file = Path(file)
        self.key = key

    def __repr__(self) -> str:
        return f"HDF5Dataset({str(self.file)!r}, {self.key!r})"

    @property
    def dataset(self) -> Any:
        """The ``h5py.Dataset``; its file stays open as long as you hold it."""
        return _h5py().File(self.file, "r")[self.key]

    def _read(self) -> Tuple[Any, Dict[str, Any]]:
        with _h5py().File(self.file, "r") as opened:
            dataset = opened[self.key]
            return dataset[()], dict(dataset.attrs)

    def is_none(self) -> bool:
        """Say whether it stands for None."""
        return bool(self._read()[1].get("type") == "null")

    def get_data(self) -> Any:
        """Return the content: None, a file's text or bytes, a directory's packed bytes, or the stored value."""
        value, attributes = self._read()
        kind = attributes.get("type")
        if kind == "null":
            return None
        if kind == "dir" or (kind == "file" and attributes.get("dtype") == "binary"):
            return value.tobytes() if hasattr(value, "tobytes") else bytes(value)
        return value.decode("utf-8") if kind == "file" and isinstance(value, bytes) else value

    def recover(self) -> Path:
        """Write the file or directory again, below the current directory.

        Returns:
            Its relative path.

        Raises:
            StorageError: It stands for None or for a value, or its path leads out of the current directory.
        """
        kind, path = self._read()[1].get("type"), Path(str(self._read()[1].get("path", "")))
        if kind not in ("file", "dir"):
            raise StorageError(f"{self!r} was asked to recover a file; it holds {kind!r}. Use get_data().")
        if path.is_absolute() or ".." in path.parts:
            raise StorageError(f"{self!r} holds the path {str(path)!r}, which leads out of the current directory.")
        data = self.get_data()
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "file":
            path.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)
        else:
            from dflow_hpc.op.paths import extract_tar

            extract_tar(data, path)
        return path


def open_datasets(paths: Any) -> Any:
    """Return the datasets of HDF5 files, put together by their keys; paths of other files stay paths.

    Args:
        paths: A (nested) list of files; ``*.h5`` are opened.

    Returns:
        A list, or nested dicts where the keys are no numbers.
    """
    from dflow_hpc.op.catalog import Entry, assemble, expand, flatten

    found: Dict[str, Any] = {}
    others: Dict[str, Any] = {}
    for order, path in flatten(paths).items():
        if path is None or not str(path).endswith(".h5"):
            others[order] = path
            continue
        with _h5py().File(path, "r") as opened:
            found.update({key: HDF5Dataset(path, key) for key in opened})
    if not found:
        return expand(others) if others else []
    if all(key.isdecimal() for key in found) and not others:
        return assemble([Entry(found[key], int(key)) for key in found])
    return expand({**others, **found})


def write_datasets(items: Mapping[str, Any], directory: Path, relative: Callable[[Path], str]) -> Path:
    """Write the elements of an output into one new HDF5 file.

    Args:
        items: The elements, by the names of their datasets.
        directory: Where the file is made.
        relative: Gives the relative path under which a path is recorded.

    Returns:
        The file.
    """
    import uuid

    file = directory / f"{uuid.uuid4()}.h5"
    with _h5py().File(file, "w") as opened:
        for key, value in items.items():
            _write_one(opened, key, value, relative)
    return file


def _write_one(opened: Any, key: str, value: Any, relative: Callable[[Path], str]) -> None:
    import tarfile

    import numpy

    attributes: Dict[str, Any] = {}
    if isinstance(value, HDF5Dataset):
        data, attributes = value._read()
    elif value is None:
        data, attributes = 0, {"type": "null"}
    elif isinstance(value, os.PathLike):
        path = Path(value)
        attributes = {"type": "dir" if path.is_dir() else "file", "path": relative(path)}
        if path.is_dir():
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w:gz") as archive:
                archive.add(path, arcname=".")
            data = numpy.void(packed.getvalue())
        else:
            raw = path.read_bytes()
            data, attributes["dtype"] = numpy.void(raw), "binary"
            if b"\0" not in raw:  # HDF5's texts end at the first NUL
                with contextlib.suppress(UnicodeDecodeError):
                    data, attributes["dtype"] = raw.decode("utf-8"), "utf-8"
    else:
        data, attributes = value, {"type": "data"}
    dataset = opened.create_dataset(key, data=data)
    for name, attribute in attributes.items():
        dataset.attrs[name] = attribute
