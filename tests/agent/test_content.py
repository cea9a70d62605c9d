"""One stored file against what the index has of it: every byte counts, and so does whose file it is."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from pacs_operator.agent.content import AlteredError, Expected, KeyMissingError, Keys, PlainContent, SealedContent
from tests.agent.scrubbing import KEY, seal
from tests.agent.support import LINEAGE


def read(content: PlainContent | SealedContent, data: bytes, part: int = 50) -> bool:
    try:
        for at in range(0, len(data), part):
            content.feed(data[at : at + part])
        content.end()
    except (AlteredError, KeyMissingError):
        return False
    return True


@pytest.mark.parametrize("sealed", [True, False])
def test_every_single_byte_counts(sealed: bool) -> None:
    image, uuid = b"image" * 20, "0a1b2c3d-0000-4000-8000-0000000000aa"
    expected = Expected(uuid, 1, len(image), hashlib.md5(image, usedforsecurity=False).hexdigest())
    stored = seal(uuid, image) if sealed else image

    def right(data: bytes) -> bool:
        return read(SealedContent(expected, Keys(LINEAGE, {1: KEY}, 1)) if sealed else PlainContent(expected), data)

    assert right(stored)
    assert not any(right(stored[:at] + bytes([stored[at] ^ 1]) + stored[at + 1 :]) for at in range(len(stored)))
    assert not any(right(stored[:at]) for at in range(len(stored)))
    assert not right(stored + b"x")


@pytest.mark.parametrize(
    "changed", [{"uuid": "0a1b2c3d-0000-4000-8000-0000000000bb"}, {"kind": 2}, {"size": 99}, {"md5": "0" * 32}]
)
def test_another_file_than_the_index_means_is_altered(changed: dict[str, Any]) -> None:
    """Sealed rightly, by the right key; and yet not what the index has under this name."""
    image, uuid = b"image" * 20, "0a1b2c3d-0000-4000-8000-0000000000aa"
    expected = Expected(uuid, 1, len(image), hashlib.md5(image, usedforsecurity=False).hexdigest())
    keys = Keys(LINEAGE, {1: KEY}, 1)
    assert read(SealedContent(expected, keys), seal(uuid, image))
    assert not read(SealedContent(replace(expected, **changed), keys), seal(uuid, image))
