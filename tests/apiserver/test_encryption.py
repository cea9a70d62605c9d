"""How images lie at rest: accepted and refused by the API server itself."""

from typing import Any

import pytest
from kubernetes.client import CustomObjectsApi

from tests.apiserver.test_bad_input import changed, put, refusal


def test_keys_and_rates_are_accepted(crds: CustomObjectsApi, archive: dict) -> None:
    """The twins of what is refused below."""
    transit = {"mode": "Transit", "dataKeyMaxAgeDays": 3650, "dataKeyMaxChunks": 2**32, "reencryptMiPerSecond": 10_000}
    put(crds, changed(archive, "spec.encryption", transit))
    least = {"mode": "Transit", "dataKeyMaxAgeDays": 1, "dataKeyMaxChunks": 2**20, "reencryptMiPerSecond": 1}
    put(crds, changed(archive, "spec.encryption", least))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("spec.encryption", {"mode": "None"}, ["spec.encryption.reason", "say why images are not encrypted"]),
        ("spec.encryption", {"mode": "None", "reason": "why not"}, ["spec.encryption.reason", "at least 10 chars"]),
        ("spec.encryption", {"mode": "Transit", "reason": "0123456789"}, ["spec.encryption.reason", "leave it out"]),
        ("spec.encryption", {"mode": "transit"}, ["spec.encryption.mode", "transit", "supported values"]),
        (
            "spec.encryption",
            {"mode": "None", "reason": "0123456789", "dataKeyMaxAgeDays": 9},
            ["spec.encryption.dataKeyMaxAgeDays", "leave it out"],
        ),
        ("spec.encryption", {"mode": "Transit", "index": {"mode": "None"}}, ["index.reason", "say why the index"]),
        (
            "spec.encryption",
            {"mode": "Transit", "index": {"mode": "StorageClass", "reason": "0123456789"}},
            ["index.reason", "leave it out"],
        ),
        ("spec.encryption", {"mode": "Transit", "index": {"mode": "Transit"}}, ["encryption.index.mode", "Transit"]),
        *(
            (
                "spec.encryption",
                {"mode": "None", "reason": "0123456789", field: 2**20 if "Chunks" in field else 9},
                [f"spec.encryption.{field}", "leave it out"],
            )
            for field in ("dataKeyMaxChunks", "reencryptMiPerSecond")
        ),
        ("spec.encryption", {"mode": "Transit", "dataKeyMaxChunks": 2**20 - 1}, ["dataKeyMaxChunks", "greater than"]),
        ("spec.encryption", {"mode": "Transit", "dataKeyMaxChunks": 2**32 + 1}, ["dataKeyMaxChunks", "less than"]),
        ("spec.encryption", {"mode": "Transit", "reencryptMiPerSecond": 0}, ["reencryptMiPerSecond", "greater than"]),
        ("spec.encryption", {"mode": "Transit", "reencryptMiPerSecond": 10001}, ["reencryptMiPerSecond", "less than"]),
        ("spec.encryption", {"mode": "Transit", "dataKeyMaxAgeDays": 0}, ["dataKeyMaxAgeDays", "greater than"]),
        ("spec.encryption", {"mode": "Transit", "dataKeyMaxAgeDays": 3651}, ["dataKeyMaxAgeDays", "less than"]),
    ],
)
def test_refused(crds: CustomObjectsApi, archive: dict, path: str, value: Any, words: list[str]) -> None:
    message = refusal(crds, changed(archive, path, value))
    for word in words:
        assert word in message
