"""Building, caching and pushing the images."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from builder.base import SUITES, base
from builder.commands import run
from builder.errors import BuildError
from builder.oci import digest_of
from builder.recipes import EPOCH, RECIPES, Recipe
from builder.store import Store

# This machine decides what it builds and pushes; signatures are the registry's and the cluster's matter.
POLICY = {"default": [{"type": "insecureAcceptAnything"}]}
KEPT = 3  # versions of one image that stay in the cache


@dataclass(frozen=True)
class Built:
    """A finished image in the cache."""

    name: str
    archive: Path
    digest: str
    seconds: float
    """0 when it came from the cache."""


class Builder:
    """Builds images into a cache folder.

    Parameters
    ----------
    cache
        Folder for bases, layers and finished images.
    refresh
        Make everything again with the packages of today.
    """

    def __init__(self, cache: Path, refresh: bool) -> None:
        self._cache = cache
        self._refresh = refresh
        self._unpinned = os.environ.get("PACS_IMAGES_UNPINNED") == "1"
        self._policy = cache / "policy.json"
        self._policy.write_text(json.dumps(POLICY))
        self._bases: dict[str, tuple[Path, str]] = {}
        self._imported: set[str] = set()
        self._store = Store(cache)
        self._tidy = False

    def build(self, recipe: Recipe) -> Built:
        """Return an image, made only when its recipe has changed.

        Raises
        ------
        BuildError
            A step failed; the message holds the end of its output.
        """
        base_archive, base_digest = self._base(recipe.suite)
        key = recipe.key(base_digest, self._unpinned)
        folder = self._cache / "images" / recipe.name / key
        archive, digest = folder / "image.oci.tar", folder / "digest"
        if digest.exists() and not self._refresh:
            os.utime(folder)
            return Built(recipe.name, archive, digest.read_text(), 0.0)
        start = time.monotonic()
        if not self._tidy:
            self._store.tidy()
            self._tidy = True
        with tempfile.TemporaryDirectory(dir=self._cache) as scratch:
            made = self._make(recipe, self._import(recipe.suite, base_archive, base_digest), Path(scratch))
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            made.rename(folder)
        self._forget_old(folder.parent)
        return Built(recipe.name, archive, digest.read_text(), time.monotonic() - start)

    def push(self, image: Built, registry: str) -> str:
        """Push an image and return the reference by digest that pods pull.

        Raises
        ------
        BuildError
            The registry refused it or is unreachable.
        """
        target = f"{registry}/{image.name}"
        # Containers' own rule: a registry on this host speaks plain HTTP.
        verify = "false" if registry.startswith(("localhost:", "127.0.0.1:")) else "true"
        prefix = shlex.split(os.environ.get("PACS_PUSH_PREFIX", ""))
        run(
            [*prefix, "skopeo", "--policy", self._policy, "copy", "--quiet", "--preserve-digests",
             f"--dest-tls-verify={verify}", f"oci-archive:{image.archive}", f"docker://{target}:{image.digest[7:19]}"]
        )  # fmt: skip
        return f"{target}@{image.digest}"

    def _base(self, suite: str) -> tuple[Path, str]:
        if suite not in self._bases:
            self._bases[suite] = base(SUITES[suite], self._cache, self._refresh)
        return self._bases[suite]

    def _bud(self, *arguments: str | Path, log: Path) -> None:
        fixed = ["bud", "--isolation", "chroot", "--layers", "--timestamp", str(EPOCH), "--pull-never"]
        self._store.buildah(*fixed, "--signature-policy", self._policy, *arguments, log=log)

    def _import(self, suite: str, archive: Path, digest: str) -> str:
        name = f"localhost/pacs-base:{suite}-{digest[:16]}"
        if name not in self._imported:
            self._bud("-t", name, archive.parent, log=self._log("base"))
            self._imported.add(name)
        return name

    def _make(self, recipe: Recipe, base_name: str, scratch: Path) -> Path:
        context, result = scratch / "context", scratch / "result"
        context.mkdir()
        result.mkdir()
        recipe.stage(context)
        name = f"localhost/pacs-{recipe.name}"
        self._bud(
            "--build-arg", f"BASE={base_name}", *self._arguments(), "-t", name,
            "-f", context / f"images/{recipe.name}/Containerfile", context, log=self._log(recipe.name),
        )  # fmt: skip
        archive = result / "image.oci.tar"
        self._store.buildah(
            "push",
            "--quiet",
            "--format",
            "oci",
            "--signature-policy",
            self._policy,
            name,
            f"oci-archive:{archive}",
        )
        (result / "digest").write_text(digest_of(archive))
        return result

    def _arguments(self) -> list[str]:
        arguments = ["--no-cache"] if self._refresh else []
        if self._unpinned:
            arguments += ["--build-arg", "PACS_IMAGES_UNPINNED=1"]
        if index := os.environ.get("PIP_INDEX_URL"):
            arguments += ["--build-arg", f"PIP_INDEX_URL={index}"]
        if authority := os.environ.get("PIP_CERT"):
            arguments += ["--secret", f"id=pip-ca,src={authority}"]
        return arguments

    def _log(self, name: str) -> Path:
        folder = self._cache / "log"
        folder.mkdir(exist_ok=True)
        return folder / f"{name}.log"

    @staticmethod
    def _forget_old(folder: Path) -> None:
        for old in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)[KEPT:]:
            shutil.rmtree(old)


def chosen(names: list[str]) -> list[Recipe]:
    """Return the recipes of these names, all of them for none.

    Raises
    ------
    BuildError
        ``UnknownImage``.
    """
    unknown = [name for name in names if name not in RECIPES]
    if unknown:
        raise BuildError("UnknownImage", f"there is no image {unknown[0]!r}", f"Choose from: {', '.join(RECIPES)}.")
    return [RECIPES[name] for name in names or RECIPES]
