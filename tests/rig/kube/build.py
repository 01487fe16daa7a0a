"""Builds, with the ordinary Go client from public Go modules, the programs that the Kubernetes rig runs.

Kubernetes' apiserver, controller-manager, scheduler, kubelet and kubectl; etcd; Argo's controller and argoexec.
Two idle cores need about 12 minutes for all of it, once a machine and version; with Go's cache warm about 3.

Three things that a plain ``go install`` cannot do:
- ``k8s.io/kubernetes`` names its own staging modules by path: each needs a replacement by its released version;
- the zip of Argo's module lacks what is a symbolic link in its repository: a copy of the module, completed, is built;
- Debian's etcd 3.4 cannot report the progress of a watch: informers would see changes up to a minute late.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from processes import RigError

KUBERNETES, ETCD, ARGO = "1.34.4", "3.6.13", "3.7.4"
SECONDS = 7200  # for one command, on a machine that does other things too
KUBERNETES_PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")
ARGO_PROGRAMS = ("workflow-controller", "argoexec")


def build(room, say):
    """Build what is missing or of another version.

    Args:
        room: The rig's directory; programs go to ``bin``, Argo's resource definitions to ``crds``.
        say: Called with a line about what takes long.
    """
    for name, version, make in (
        ("etcd", ETCD, _etcd),
        ("kubernetes", KUBERNETES, _kubernetes),
        ("argo", ARGO, _argo),
    ):
        _build(room, say, name, version, make)


def build_cli(room, say):
    """Build Argo's command line, which is its server too, if it is missing; the program.

    It takes some minutes more, and few tests need it.
    """
    _build(room, say, "cli", ARGO, _cli)
    return room / "bin/argo"


def _build(room, say, name, version, make):
    (room / "bin").mkdir(parents=True, exist_ok=True)
    stamp = room / "bin" / f".{name}"
    if stamp.exists() and stamp.read_text() == version:
        return
    say(f"building {name} {version}: minutes, once a machine")
    work = room / "build" / name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    make(room, work)
    shutil.rmtree(work)
    stamp.write_text(version)


def _go(where, *words):
    """Run the Go client; what it wrote on stdout."""
    environment = {**os.environ, "GOFLAGS": "-mod=mod -buildvcs=false"}
    try:
        answer = subprocess.run(
            ["nice", "go", *words],
            cwd=where,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except FileNotFoundError:
        answer = None
    if answer is None or shutil.which("go") is None:
        raise RigError("the rig builds Kubernetes and Argo; `go` was not found on PATH: install Go 1.24 or later")
    if answer.returncode:
        raise RigError(f"`go {' '.join(words)}` in {where} gave {answer.returncode}: {answer.stderr[-3000:]}")
    return answer.stdout


def _module(where, name):
    """Fetch a module into Go's own cache; what Go says of it."""
    return json.loads(_go(where, "mod", "download", "-json", name))


def _compile(where, target, package, *variables):
    flags = " ".join(["-s", "-w", *(f"-X {name}" for name in variables)])
    _go(where, "build", "-trimpath", f"-ldflags={flags}", "-o", str(target), package)


def _etcd(room, work):
    _go(work, "mod", "init", "rig/etcd")
    _go(work, "get", f"go.etcd.io/etcd/server/v3@v{ETCD}")
    _compile(work, room / "bin/etcd", "go.etcd.io/etcd/server/v3")


def _kubernetes(room, work):
    found = _module(work, f"k8s.io/kubernetes@v{KUBERNETES}")
    staged = re.findall(r"^\s*(k8s\.io/[a-z-]+) => \./staging", Path(found["GoMod"]).read_text(), re.MULTILINE)
    released = "v0." + KUBERNETES.partition(".")[2]
    replacements = "".join(f"\t{name} => {name} {released}\n" for name in staged)
    (work / "go.mod").write_text(f"module rig/kubernetes\n\ngo 1.24.0\n\nreplace (\n{replacements})\n")
    for name in KUBERNETES_PROGRAMS:
        _go(work, "get", f"k8s.io/kubernetes/cmd/{name}@v{KUBERNETES}")
    major, minor, _ = KUBERNETES.split(".")
    version = "k8s.io/component-base/version"
    facts = (f"{version}.gitVersion=v{KUBERNETES}", f"{version}.gitMajor={major}", f"{version}.gitMinor={minor}")
    for name in KUBERNETES_PROGRAMS:
        _compile(work, room / "bin" / name, f"k8s.io/kubernetes/cmd/{name}", *facts)


def _argo_source(work):
    """Return a copy of Argo's module, completed."""
    found = _module(work, f"github.com/argoproj/argo-workflows/v3@v{ARGO}")
    source = work / "source"
    shutil.copytree(found["Dir"], source)
    subprocess.run(["chmod", "-R", "u+w", source], check=True)  # Go's cache is read-only
    special = source / "workflow/executor/osspecific"
    shutil.copy(special / "signal_darwin.go", special / "signal_linux.go")
    return source


def _argo(room, work):
    source = _argo_source(work)
    for name in ARGO_PROGRAMS:
        _compile(source, room / "bin" / name, f"./cmd/{name}")
    shutil.rmtree(room / "crds", ignore_errors=True)
    shutil.copytree(source / "manifests/base/crds/minimal", room / "crds")


def _cli(room, work):
    source = _argo_source(work)
    page = source / "ui/dist/app/index.html"  # the server's pages are made by a JavaScript build, and not wanted here
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("no pages here")
    _compile(source, room / "bin/argo", "./cmd/argo")
