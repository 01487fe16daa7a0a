"""A private mount namespace for one program: its root is a directory in which parts of the host are bound.

Works as root and, where the kernel lets ordinary users have user namespaces, as an ordinary user, who keeps his own
uid in it. Only ``ctypes`` on the C library; nothing needs to be installed.

Not here: what is bound where (``views.py``).

Trap: all of this happens in a child that is about to execute a program. After ``change_root`` the process sees other
files under the old names, so nothing may be imported any more.
"""

from __future__ import annotations

import ctypes
import os
import platform
import traceback

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_REC, _MS_BIND, _MS_PRIVATE, _MS_UNBINDABLE = 0x4000, 0x1000, 0x40000, 0x20000
_MNT_DETACH = 2
# The C library has no wrapper; numbers from the kernel's tables.
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "ppc64le": 203, "riscv64": 41}

_libc = ctypes.CDLL(None, use_errno=True)


def _call(what: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, flags: int, kind: str = "none", options: str = "") -> None:
    words = [os.fsencode(word) for word in (source, target, kind)]
    arguments = (*words, ctypes.c_ulong(flags), os.fsencode(options))
    _call(f"mount {source} on {target}", _libc.mount(*arguments))


def unshare() -> None:
    """Give this process mounts of its own; as an ordinary user (or without the capability) in a user namespace.

    Raises:
        OSError: It is refused.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid != 0 or _libc.unshare(_CLONE_NEWNS) != 0:
        _call("unshare", _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS))
        _write("/proc/self/setgroups", "deny")  # Linux maps a gid only for those who cannot drop groups
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    _mount("none", "/", _MS_REC | _MS_PRIVATE)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def bind(source: str, target: str) -> None:
    """Let a file or directory, with all that is mounted in it, be seen at ``target`` too."""
    _mount(source, target, _MS_BIND | _MS_REC)


def mount_tmpfs(target: str) -> None:
    """Mount an empty file system in memory; it vanishes with the namespace."""
    _mount("tmpfs", target, 0, "tmpfs", "mode=755,size=16m")


def forbid_binding(target: str) -> None:
    """Leave a mount out when a directory that holds it is bound, or the view would hold itself."""
    _mount("none", target, _MS_UNBINDABLE)


def change_root(root: str) -> None:
    """Make a mount the root directory of this process.

    Raises:
        OSError: The kernel refuses; the process is then of no further use.
    """
    os.chdir(root)
    number = _SYS_PIVOT_ROOT.get(platform.machine())
    if number is None:
        os.chroot(".")
        return
    # Not chroot: it would keep the program from making user namespaces of its own.
    _call("pivot_root", _libc.syscall(ctypes.c_long(number), b".", b"."))
    _call("umount the old root", _libc.umount2(b".", _MNT_DETACH))


def refusal() -> str:
    """Try in a child whether this process may have namespaces; return why not, or nothing."""
    read, write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            unshare()
        except OSError as error:
            os.write(write, str(error).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        text = file.read().decode()
    os.waitpid(pid, 0)
    return text
