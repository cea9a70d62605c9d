"""Runs a program of an unpacked image as a pod would: its own user, no privileges, read-only root.

Usage: enter.py ROOT UID [--mount HOST:INSIDE]... -- PROGRAM [ARGUMENT]...
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

CLONE_NEWNS = 0x00020000
PR_SET_NO_NEW_PRIVS = 38


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def main() -> None:
    split = sys.argv.index("--")
    root, uid, *mounts = sys.argv[1:split]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    mount("--make-rprivate", "/")
    mount("--bind", root, root)
    mount("-o", "remount,bind,ro", root)
    mount("-t", "proc", "proc", f"{root}/proc")
    mount("-t", "tmpfs", "-o", "mode=1777,size=64m", "shm", f"{root}/dev/shm")  # as every runtime does
    for pair in mounts:
        host, inside = pair.removeprefix("--mount=").split(":")
        mount("--bind", host, root + inside)
    os.chroot(root)
    os.chdir("/")
    os.setgroups([])
    os.setresgid(int(uid), int(uid), int(uid))
    os.setresuid(int(uid), int(uid), int(uid))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    program = sys.argv[split + 1 :]
    if not Path(program[0]).exists():
        raise FileNotFoundError(program[0])
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
