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
