"""Memory and the largest object: what cannot hold is refused by the API server itself."""

from typing import Any

import pytest
from kubernetes.client import CustomObjectsApi

from tests.apiserver.test_bad_input import changed, put, refusal


def with_memory(archive: dict[str, Any], memory: int | None) -> dict[str, Any]:
    """Return an archive for two senders of 500 MiB, and so much memory."""
    body = changed(changed(archive, "spec.storage.maxObjectMi", 500), "spec.storage.maxObjectSenders", 2)
    return body if memory is None else changed(body, "spec.scheduling.orthanc.memoryMi", memory)


def test_memory_that_holds_the_largest_objects_is_accepted(crds: CustomObjectsApi, archive: dict) -> None:
    put(crds, with_memory(archive, None))
    put(crds, with_memory(archive, 4164))


def test_memory_that_cannot_is_refused(crds: CustomObjectsApi, archive: dict) -> None:
    message = refusal(crds, with_memory(archive, 4163))
    for word in ("spec.scheduling.orthanc.memoryMi", "4 x spec.storage.maxObjectMi", "leave it out"):
        assert word in message


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("spec.storage.maxObjectMi", 0, ["spec.storage.maxObjectMi", "greater than"]),
        ("spec.storage.maxObjectMi", 65537, ["spec.storage.maxObjectMi", "less than"]),
        ("spec.storage.maxObjectSenders", 2, ["spec.storage.maxObjectSenders", "leave it out"]),
    ],
)
def test_refused(crds: CustomObjectsApi, archive: dict, path: str, value: Any, words: list[str]) -> None:
    message = refusal(crds, changed(archive, path, value))
    for word in words:
        assert word in message
