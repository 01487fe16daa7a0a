"""The one image of the Kubernetes rig, under many names: there is no registry to pull from.

A small Debian (Python 3, busybox, curl, jq, git, argoexec, and what ``files/`` has) is packed as an archive that
containerd imports. Its names are those of Argo's and dflow's examples; what they do with ``argosay`` and ``cowsay`` is
done by small scripts. Building it takes 45 s.

Trap: ``python:3.8`` is Debian's Python 3.11 here: what must run on 3.8 is tried elsewhere (``tests/old_python.py``).
"""

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

from processes import RigError

FILES = Path(__file__).parent / "files"
PACKAGES = "python3-minimal,python3,busybox-static,curl,ca-certificates,jq,procps,git"
SECONDS = 1800
PAUSE = "registry.k8s.io/pause:3.10"
ARGOEXEC = "quay.io/argoproj/argoexec:v{}"
COMMANDS = {
    ("Cmd", "sh"): (
        *("busybox:latest", "alpine:latest", "alpine:3.23", "alpine:3.7", "alpine/git:v2.26.2"),
        *("debian:latest", "debian:9.1", "debian:9.5", "ubuntu:latest", "golang:1.18"),
        *("python:3.8", "python:3.11", "python:alpine3.6", "python:alpine3.23"),
        *("curlimages/curl:latest", "stedolan/jq:latest"),
    ),
    ("Entrypoint", "argosay"): ("argoproj/argosay:v1", "argoproj/argosay:v2"),
    ("Entrypoint", "cowsay"): ("docker/whalesay:latest",),
    ("Entrypoint", "argoexec"): (ARGOEXEC,),
    ("Entrypoint", "/bin/busybox", "sleep", "infinity"): (PAUSE,),
}


def make(room, argo, say):
    """Make ``room/images.tar``, unless it is there and up to date; its digest.

    Args:
        room: The rig's directory, with ``bin/argoexec``.
        argo: Argo's version.
        say: Called with a line about what takes long.
    """
    text = [argo, *(file.read_text() for file in [Path(__file__), *sorted(FILES.iterdir())])]
    digest = hashlib.sha256("\0".join(text).encode()).hexdigest()
    stamp = room / "images.stamp"
    if stamp.exists() and stamp.read_text() == digest:
        return digest
    base, ours, layer = room / "debian", room / "image", room / "layer.tar"
    if not (base / ".complete").exists():
        say("making a small Debian: a minute, once a machine")
        shutil.rmtree(base, ignore_errors=True)
        run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", base)
        for left in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(base / left)
        (base / ".complete").touch()
    shutil.rmtree(ours, ignore_errors=True)
    for place in ("usr/bin", "usr/local/bin"):
        (ours / place).mkdir(parents=True)
    for file in [*FILES.iterdir(), room / "bin/argoexec"]:
        target = ours / "usr/local/bin" / file.name
        shutil.copy(file, target)
        target.chmod(0o755)
    (ours / "usr/bin/nc").symlink_to("busybox")
    (ours / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    ordered = ("--sort=name", "--numeric-owner")
    run("tar", "-C", base, *ordered, "-cf", layer, ".")
    run("tar", "-C", ours, *ordered, "-rf", layer, "usr")
    names = {kind: [name.format(argo) for name in some] for kind, some in COMMANDS.items()}
    pack(room / "images.tar", [layer], names)
    shutil.rmtree(ours)
    layer.unlink()
    stamp.write_text(digest)
    return digest


def run(*words):
    """Run a program that may take long.

    Raises:
        RigError: Its exit code is not 0.
    """
    command = ["nice", *map(str, words)]
    answer = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS, check=False
    )
    if answer.returncode:
        raise RigError(f"`{' '.join(command)}` gave {answer.returncode}: {answer.stdout[-3000:]}")


def pack(target, layers, commands):
    """Write an archive as ``docker save`` does: layers, and a configuration for each way to start what is in them.

    Args:
        target: The archive.
        layers: Tar files, lowest first.
        commands: A field of the configuration and the words in it; the names that images started so have.
    """
    digests, manifest = [], []
    for layer in layers:
        with layer.open("rb") as file:
            digests.append(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")
    with tarfile.open(target, "w") as archive:
        for layer in layers:
            archive.add(layer, arcname=layer.name)
        for (field, *command), names in commands.items():
            config = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], field: command}
            image = {
                "architecture": "amd64",
                "os": "linux",
                "config": config,
                "rootfs": {"type": "layers", "diff_ids": digests},
                "history": [{"created_by": "rig"}] * len(layers),
            }
            text = json.dumps(image, sort_keys=True).encode()
            file = hashlib.sha256(text).hexdigest() + ".json"
            _add(archive, file, text)
            tags = [full_name(name) for name in names]
            manifest.append({"Config": file, "RepoTags": tags, "Layers": [layer.name for layer in layers]})
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def _add(archive, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def full_name(name):
    """Return an image's name as containerd has it."""
    first = name.split("/")[0]
    if "." in first and "/" in name:
        return name
    return "docker.io/" + (name if "/" in name else f"library/{name}")
