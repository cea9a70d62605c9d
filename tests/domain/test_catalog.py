"""Releases: by digest, known, and not below the floor."""

import pytest

from pacs_operator.domain.catalog import CatalogSpec, Images, select_release
from pacs_operator.domain.errors import InvalidSpecError

DIGEST = "registry.example/pacs/image@sha256:" + "0" * 64
IMAGES = {"archive": DIGEST, "gate": DIGEST, "database": DIGEST, "tools": DIGEST}


def catalog(floor: str, *versions: str) -> CatalogSpec:
    return CatalogSpec.model_validate(
        {"floor": floor, "releases": [{"version": version, "images": IMAGES} for version in versions]}
    )


def test_versions_compare_number_by_number() -> None:
    chosen = select_release(catalog("2026.9.0", "2026.10.0", "2026.9.0"), "stable", "2026.10.0")
    assert chosen.version == "2026.10.0"


@pytest.mark.parametrize(
    ("version", "reason", "words"),
    [
        (
            "2026.8.1",
            "ReleaseBelowFloor",
            ["'2026.8.1' is below the floor '2026.9.0' of catalog 'stable'", "2026.9.0 on"],
        ),
        ("2026.11.0", "UnknownRelease", ["catalog 'stable' has no release '2026.11.0'", "2026.10.0, 2026.8.1"]),
    ],
)
def test_refusals(version: str, reason: str, words: list[str]) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        select_release(catalog("2026.9.0", "2026.10.0", "2026.8.1"), "stable", version)
    assert caught.value.reason == reason
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "reference", ["registry.example/pacs/gate:latest", "gate", "x@sha256:0", "a@sha256:" + "G" * 64]
)
def test_an_image_by_tag_is_refused(reference: str) -> None:
    with pytest.raises(InvalidSpecError, match="does not name an image by digest") as caught:
        Images.model_validate({**IMAGES, "gate": reference})
    assert reference in caught.value.message
    assert "images.gate" in caught.value.message


@pytest.mark.parametrize(
    ("version", "floor", "accepted"),
    [
        ("2026.11.0", "2026.11.0", True),
        ("2026.11", "2026.11.0", True),
        ("2026.11.0", "2026.11", True),
        ("2026.11.0-rc1", "2026.11.0", False),
        ("2026.11.1-rc1", "2026.11.0", True),
        ("2026.11.0-rc.2", "2026.11.0-rc.10", False),
        ("2026.11.0-rc.10", "2026.11.0-rc.2", True),
        ("2026.11.0-rc", "2026.11.0-9", True),
        ("2026.11.0", "2026.11.0-rc.2", True),
        ("2026.11.0-rc", "2026.11.0-rc.1", False),
        ("2026.11.0+build.7", "2026.11.0", True),
        ("9", "10", False),
    ],
)
def test_the_floor_follows_semantic_versioning(version: str, floor: str, accepted: bool) -> None:
    if accepted:
        assert select_release(catalog(floor, version), "stable", version).version == version
        return
    with pytest.raises(InvalidSpecError) as caught:
        select_release(catalog(floor, version), "stable", version)
    assert caught.value.reason == "ReleaseBelowFloor"


@pytest.mark.parametrize(
    "word", ["2026.\u00b2", "2026.\u0665.0", "stable", "v2026.11.0", "2026..1", "2026.11.0-", "9" * 60]
)
def test_what_cannot_be_compared_is_refused_with_the_field(word: str) -> None:
    for version, floor, field in ((word, "2026.1.0", "spec.release.version"), ("2026.1.0", word, "spec.floor")):
        with pytest.raises(InvalidSpecError, match="cannot be compared") as caught:
            select_release(catalog(floor, version), "stable", version)
        assert field in caught.value.message
        assert repr(word) in caught.value.message
        assert "2026.11.0" in caught.value.action
