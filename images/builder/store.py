"""The layer store: buildah's, but our own, beside whatever images the machine's user keeps."""

from __future__ import annotations

import shutil
from pathlib import Path

from builder.commands import run

LIMIT_GIB = 10
"""Old layers are dropped with the whole store beyond this; the next build takes minutes instead of seconds."""


class Store:
    """Images and layers under the cache folder.

    Parameters
    ----------
    cache
        Folder of the cache.
    """

    def __init__(self, cache: Path) -> None:
        self._layers = cache / "storage"
        self._state = cache / "run"

    def buildah(self, *arguments: str | Path, log: Path | None = None) -> str:
        """Run buildah on this store."""
        folders: list[str | Path] = ["--root", self._layers, "--runroot", self._state]
        return run(["buildah", *folders, "--storage-driver", "overlay", *arguments], log=log)

    def tidy(self) -> None:
        """Remove what failed or killed builds have left, and everything once it has grown beyond the limit."""
        if not self._layers.exists():
            return
        self.buildah("rm", "--all")
        used = int(run(["du", "-s", "--block-size=1G", self._layers]).split()[0])
        if used > LIMIT_GIB:
            print(f"  layers use {used} GiB: dropped", flush=True)
            self.drop()

    def drop(self) -> None:
        """Remove the store with its mounts."""
        mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for point in sorted((point for point in mounted if point.startswith(f"{self._layers}/")), reverse=True):
            run(["umount", point])
        shutil.rmtree(self._layers, ignore_errors=True)
        shutil.rmtree(self._state, ignore_errors=True)
