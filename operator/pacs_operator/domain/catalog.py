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


#: Numbers, then perhaps a pre-release and a build, as in Semantic Versioning 2.0.0; how many numbers is left open.
_VERSION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9}){0,5})(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")
_Order = tuple[tuple[int, ...], bool, tuple[tuple[bool, int, str], ...]]


def _order(version: str, field: str) -> _Order:
    """Return what sorts versions by Semantic Versioning, clause 11: a pre-release comes before its release."""
    found = _VERSION.fullmatch(version)
    if found is None:
        raise InvalidSpecError(
            f"{field}: {version!r} cannot be compared with other versions: it is not numbers with dots between",
            action="name releases like 2026.11.0, a candidate like 2026.11.0-rc.1",
        )
    numbers = [int(part) for part in found[1].split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:  # 2026.11 and 2026.11.0 are the same
        numbers.pop()
    before = tuple(
        (False, int(part), "") if part.isdecimal() else (True, 0, part) for part in (found[2] or "").split(".") if part
    )
    return tuple(numbers), found[2] is None, before


def select_release(catalog: CatalogSpec, name: str, version: str) -> Release:
    """Return the release of a catalog that an archive names.

    Parameters
    ----------
    catalog
        The catalog's content.
    name
        The catalog's name, for the message.
    version
        ``spec.release.version`` of the archive; calendar versions compare number by number, pre-releases come before.

    Raises
    ------
    InvalidSpecError
        Unknown version, one below the floor, or one that cannot be compared with it.
    """
    for release in catalog.releases:
        if release.version != version:
            continue
        floor = _order(catalog.floor, f"PacsCatalog {name}: spec.floor")
        if _order(version, "spec.release.version") < floor:
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
