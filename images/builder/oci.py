"""OCI archive files: digest, and unpacking into a root file system."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import IO, Any

from builder.commands import run

DEVICES = {"null": (1, 3), "zero": (1, 5), "random": (1, 8), "urandom": (1, 9)}


def digest_of(archive: Path) -> str:
    """Return the digest of the image's manifest: ``sha256:...``."""
    with tarfile.open(archive) as image:
        index = read_json(image, "index.json")
    return str(index["manifests"][0]["digest"])


def configuration_of(archive: Path) -> dict[str, Any]:
    """Return the image's configuration (user, entry point, environment) as OCI names it."""
    with tarfile.open(archive) as image:
        manifest = read_blob(image, read_json(image, "index.json")["manifests"][0]["digest"])
        return dict(read_blob(image, manifest["config"]["digest"])["config"])


def unpack(archive: Path, root: Path) -> None:
    """Unpack an image into a folder, with the few devices a program needs in a chroot.

    Parameters
    ----------
    archive
        OCI archive file whose layers only add (each recipe ends with ``FROM scratch`` and copies).
    root
        Folder to make; one that exists is replaced.

    Raises
    ------
    ValueError
        A layer removes files of an earlier one.
    """
    fresh = root.with_name(f"{root.name}.fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    with tarfile.open(archive) as image, tempfile.TemporaryDirectory(dir=root.parent) as scratch:
        manifest = read_blob(image, read_json(image, "index.json")["manifests"][0]["digest"])
        for number, layer in enumerate(manifest["layers"]):
            part = Path(scratch) / str(number)
            with part.open("wb") as target:
                shutil.copyfileobj(open_member(image, blob_path(layer["digest"])), target)
            run(["tar", "-xpf", part, "--numeric-owner", "--xattrs", "-C", fresh])
    whiteouts = [str(path) for path in fresh.rglob(".wh.*")]
    if whiteouts:
        raise ValueError(f"{archive}: a layer removes files of an earlier one: {whiteouts[:3]}")
    add_devices(fresh / "dev")
    shutil.rmtree(root, ignore_errors=True)
    fresh.rename(root)


def add_devices(folder: Path) -> None:
    """Make the devices that every container runtime provides."""
    folder.mkdir(exist_ok=True)
    for name, (major, minor) in DEVICES.items():
        os.mknod(folder / name, 0o020666, os.makedev(major, minor))
        (folder / name).chmod(0o666)
    (folder / "shm").mkdir(exist_ok=True)
    (folder / "shm").chmod(0o1777)


def blob_path(digest: str) -> str:
    """Return where an OCI layout keeps a blob."""
    return f"blobs/{digest.replace(':', '/')}"


def read_blob(image: tarfile.TarFile, digest: str) -> dict[str, Any]:
    """Read a JSON blob by its digest."""
    return read_json(image, blob_path(digest))


def read_json(image: tarfile.TarFile, path: str) -> dict[str, Any]:
    """Read a JSON file of the archive."""
    return dict(json.load(open_member(image, path)))


def open_member(image: tarfile.TarFile, path: str) -> IO[bytes]:
    """Open a file of the archive."""
    member = image.extractfile(path)
    if member is None:
        raise ValueError(f"{path} is not a file in {image.name!s}")
    return member
