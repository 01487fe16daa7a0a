"""The root directory of a container image, made of what this machine has: busybox, a Python of its own, nothing else.

It is what a site would unpack from an image of a registry, as small as it can be. Nothing of ours is in it.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

_LEFT_OUT = ("test", "tests", "idlelib", "lib2to3", "tkinter", "turtledemo", "ensurepip", "site-packages", "config-*")
PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
_NEEDED = ("bin", "dev", "etc", "lib64", "proc", "root", "run", "sys", "tmp", "usr/local/bin", "usr/local/lib")


def pythons():
    """Return the Pythons (3.8 or later) that are installed beside each other here, by version: ``"3.8"``."""
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": Path(sys.base_prefix)}
    for path in PYENV.glob("versions/*/bin/python3"):
        version = re.match(r"3\.\d+", path.parents[1].name)
        if version and int(version[0][2:]) >= 8:
            found.setdefault(version[0], path.parents[1])
    return found


def build(root, version="3.8"):
    """Make an image below ``root`` with the Python of a version; return ``root``, or None where that is not here."""
    prefix = pythons().get(version)
    if prefix is None or shutil.which("busybox") is None:
        return None
    for name in _NEEDED:
        (root / name).mkdir(parents=True, exist_ok=True)
    _busybox(root)
    shutil.copy2((prefix / "bin" / f"python{version}").resolve(), root / "usr/local/bin/python3")
    library = f"lib/python{version}"
    shutil.copytree(
        prefix / library, root / "usr/local" / library, ignore=shutil.ignore_patterns(*_LEFT_OUT, "__pycache__")
    )
    for program in [root / "usr/local/bin/python3", *(root / "usr/local" / library / "lib-dynload").glob("*.so")]:
        copy_libraries(program, root)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/image").write_text(f"an image with Python {version}\n")
    return root


def _busybox(root):
    busybox = shutil.which("busybox")
    shutil.copy2(busybox, root / "bin/busybox")
    copy_libraries(root / "bin/busybox", root)
    for name in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if not (root / "bin" / name).exists():
            (root / "bin" / name).symlink_to("busybox")


def copy_libraries(program, root):
    """Copy the libraries that a program loads to where it looks for them."""
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    for path in map(Path, re.findall(r"(/\S+) \(0x", told)):
        target = root / str(path).lstrip("/")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
