"""``PacsCatalog``: releases, as sets of image digests, and the patch floor."""

import re
from typing import Annotated, Self

from pydantic import Field, model_validator

from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.model import Model

_DIGEST_REF = re.compile(r"[a-z0-9]([a-z0-9._:/-]*[a-z0-9])?@sha256:[0-9a-f]{64}")
_COMPONENTS = ("archive", "gate", "database", "tools")


class Images(Model):
    """One image a component, by digest."""

    archive: str
    gate: str
    database: str
    tools: str

    @model_validator(mode="after")
    def _by_digest(self) -> Self:
        for component in _COMPONENTS:
            reference = getattr(self, component)
            if not _DIGEST_REF.fullmatch(reference):
                raise InvalidSpecError(
                    f"spec.releases[].images.{component}: {reference!r} does not name an image by digest",
                    action="write registry/name@sha256:<64 hex digits>; a tag can change under a running archive",
                    reason="ImageNotByDigest",
                )
        return self


class Release(Model):
    """A tested set of images."""

    version: Annotated[str, Field(min_length=1, max_length=63)]
    images: Images


class CatalogSpec(Model):
    """``PacsCatalog.spec``; ``floor`` is the oldest version that may still run."""

    floor: Annotated[str, Field(min_length=1, max_length=63)]
    releases: Annotated[list[Release], Field(min_length=1, max_length=64)]


def _order(version: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"[.\-+]", version))


def select_release(catalog: CatalogSpec, name: str, version: str) -> Release:
    """Return the release of a catalog that an archive names.

    Parameters
    ----------
    catalog
        The catalog's content.
    name
        The catalog's name, for the message.
    version
        ``spec.release.version`` of the archive; calendar versions compare number by number.

    Raises
    ------
    InvalidSpecError
        Unknown version, or one below the floor.
    """
    for release in catalog.releases:
        if release.version != version:
            continue
        if _order(version) < _order(catalog.floor):
            raise InvalidSpecError(
                f"spec.release.version: {version!r} is below the floor {catalog.floor!r} of catalog {name!r}",
                action=f"choose a release from {catalog.floor} on; older ones have known vulnerabilities",
                reason="ReleaseBelowFloor",
            )
        return release
    known = ", ".join(release.version for release in catalog.releases)
    raise InvalidSpecError(
        f"spec.release.version: catalog {name!r} has no release {version!r}",
        action=f"choose one of: {known}",
        reason="UnknownRelease",
    )
