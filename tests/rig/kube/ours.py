"""The rig's stand-in for the project's image: the small Debian, and this checkout with what it depends on.

``docs/deploy/Dockerfile`` makes the real one, which takes minutes and a network.
Here the packages are those of the environment that runs the tests, its Python being Debian's 3.11 too, the optional
ones of the examples among them; OpenSSH's client is this machine's. All of it is one layer.
"""

import hashlib
import shutil
import sys
from importlib import metadata
from pathlib import Path

import pictures
from image import copy_libraries
from processes import RigError

CHECKOUT = Path(__file__).resolve().parents[3]
NAME = "docker.io/library/dflow-hpc:latest"
PACKAGES = "usr/lib/python3/dist-packages"
EXTRA = "examples"
SCRIPT = "#!/usr/bin/python3\nimport sys\nfrom dflow_hpc.cli.main import main\nsys.exit(main())\n"
USER = "dflow-hpc:x:65532:65532::/tmp:/bin/sh\n"
SOURCES = ("dflow_hpc", "executors", "virtual_node")


def make(room, say):
    """Make ``room/ours.tar``, unless it is there and up to date; its digest.

    Args:
        room: The rig's directory, with the small Debian of ``pictures.py``.
        say: Called with a line about what takes long.
    """
    digest, stamp = _digest(room), room / "ours.stamp"
    if stamp.exists() and stamp.read_text() == digest:
        return digest
    if sys.version_info[:2] != (3, 11):
        raise RigError(f"the image takes this environment's packages for Debian's Python 3.11; this is {sys.version}")
    say("making an image of this checkout")
    tree, layers = room / "ours", [room / "base-layer.tar", room / "ours-layer.tar"]
    shutil.rmtree(tree, ignore_errors=True)
    for name, file in sorted(_files()):
        target = tree / PACKAGES / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)
    for name in SOURCES:
        place = f"dflow_hpc/{name}" if name != "dflow_hpc" else name
        left_out = shutil.ignore_patterns("__pycache__", "executors", "virtual_node")
        shutil.copytree(CHECKOUT / name, tree / PACKAGES / place, ignore=left_out, dirs_exist_ok=True)
    for place in ("usr/local/bin", "etc", "usr/bin"):
        (tree / place).mkdir(parents=True, exist_ok=True)
    (tree / "usr/local/bin/dflow-hpc").write_text(SCRIPT)
    (tree / "usr/local/bin/dflow-hpc").chmod(0o755)
    (tree / "etc/passwd").write_text((room / "debian/etc/passwd").read_text() + USER)
    shutil.copy2("/usr/bin/ssh", tree / "usr/bin/ssh")
    copy_libraries("/usr/bin/ssh", tree)
    ordered = ("--sort=name", "--numeric-owner", "--owner=0", "--group=0")
    pictures.run("tar", "-C", room / "debian", "--sort=name", "--numeric-owner", "-cf", layers[0], ".")
    pictures.run("tar", "-C", tree, *ordered, "-cf", layers[1], *sorted(path.name for path in tree.iterdir()))
    pictures.pack(room / "ours.tar", layers, {("Cmd", "dflow-hpc", "--help"): (NAME,)})
    shutil.rmtree(tree)
    for layer in layers:
        layer.unlink()
    stamp.write_text(digest)
    return digest


def _files():
    """Yield what the project depends on: each file's name below site-packages, and where it lies."""
    from packaging.requirements import Requirement

    wanted, seen = [("dflow-hpc", {EXTRA})], set()
    while wanted:
        name, extras = wanted.pop()
        found = metadata.distribution(name)
        if found.metadata["Name"] in seen:
            continue
        seen.add(found.metadata["Name"])
        for text in found.requires or ():
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ["", *extras]):
                wanted.append((needed.name, needed.extras))
        if name != "dflow-hpc":
            for file in found.files or ():
                if file.parts[0] != ".." and (path := Path(found.locate_file(file))).is_file():
                    yield str(file), path


def _digest(room):
    known = [Path(__file__), room / "images.stamp"]
    known += [path for name in SOURCES for path in sorted((CHECKOUT / name).rglob("*.*")) if path.suffix != ".pyc"]
    found = hashlib.sha256()
    for path in known:
        if path.is_file():
            found.update(f"{path.name}\0".encode() + path.read_bytes())
    return found.hexdigest()
