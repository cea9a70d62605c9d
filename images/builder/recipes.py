"""What each image is made of, and the hash that tells whether it has to be made again."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
# Every file's time in every layer: equal content, equal digest. Not 1970: wheels know no time before 1980.
EPOCH = 1735689600
IGNORED = ("__pycache__", "*.pyc", "*.egg-info")


@dataclass(frozen=True)
class Recipe:
    """One image."""

    name: str
    suite: str
    inputs: tuple[str, ...] = ()
    """Files and folders beside ``images/common`` and ``images/<name>``, relative to the repository."""

    def paths(self) -> Iterator[Path]:
        """Yield every file the build may see, sorted, relative to the repository."""
        for top in sorted(("images/common", f"images/{self.name}", *self.inputs)):
            start = REPOSITORY / top
            found = [start] if start.is_file() else start.rglob("*")
            for path in sorted(found):
                relative = path.relative_to(REPOSITORY)
                ignored = any(Path(part).match(pattern) for part in relative.parts for pattern in IGNORED)
                if path.is_file() and not ignored:
                    yield relative

    def key(self, base_digest: str, unpinned: bool) -> str:
        """Return the hash of everything the image depends on."""
        total = hashlib.sha256(f"{base_digest} {EPOCH} {unpinned}".encode())
        for path in self.paths():
            source = REPOSITORY / path
            executable = bool(source.stat().st_mode & 0o100)
            content = hashlib.sha256(source.read_bytes()).hexdigest()
            total.update(f"\0{path}\0{executable}\0{content}".encode())
        return total.hexdigest()[:24]

    def stage(self, context: Path) -> None:
        """Copy exactly those files into a build context, with modes that do not depend on the umask."""
        for path in self.paths():
            target = context / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / path, target)
            target.chmod(0o755 if (REPOSITORY / path).stat().st_mode & 0o100 else 0o644)
        for folder in context.rglob("*"):
            if folder.is_dir():
                folder.chmod(0o755)


PACKAGE = ("pyproject.toml", "operator/pacs_operator")
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("archive", "forky"),
        Recipe("gate", "forky"),
        Recipe("database", "trixie"),
        Recipe("operator", "trixie", ("requirements/operator.txt", *PACKAGE)),
        Recipe("tools", "trixie", ("requirements/tools.txt", *PACKAGE)),
    )
}
