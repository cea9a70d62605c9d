"""Runs a program with ``/tls`` and other folders where a pod has them: a mount namespace of its own.

Usage: pod_root.py SCRATCH [HOST:INSIDE]... -- PROGRAM [ARGUMENT]...
"""

import os
import subprocess
import sys
from pathlib import Path


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def main() -> None:
    split = sys.argv.index("--")
    scratch, *pairs = sys.argv[1:split]
    root = Path(scratch)
    mount("--make-rprivate", "/")
    mount("-t", "tmpfs", "tmpfs", scratch)
    for entry in Path("/").iterdir():
        if entry.is_symlink():
            (root / entry.name).symlink_to(entry.readlink())
        elif entry.is_dir():
            (root / entry.name).mkdir()
            mount("--rbind", str(entry), str(root / entry.name))
    for pair in pairs:
        host, inside = pair.split(":")
        target = root / inside.lstrip("/")
        target.mkdir(parents=True, exist_ok=True)
        mount("--bind", host, str(target))
    folder = Path.cwd()
    os.chroot(root)
    os.chdir(folder)
    program = sys.argv[split + 1 :]
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
