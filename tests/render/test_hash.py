"""What restarts pods, and what must not."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pacs_operator.domain.catalog import Images, Release
from pacs_operator.domain.facts import Desired
from pacs_operator.domain.gatepeers import LivePeers
from pacs_operator.render import config_hash, render_archive

from .archives import RELEASE, SPEC, desired, image, live_peer, pod_templates, with_vault

BASE = desired()
SOMEBODY = LivePeers(revision="other", peers=[live_peer("imaging/ct1", ["198.18.10.11/32"])])


def templates(of: Desired) -> dict[str, Any]:
    return {workload["metadata"]["name"]: template for workload, template in pod_templates(render_archive(of))}


def changed(before: Desired, after: Desired) -> set[str]:
    old, new = templates(before), templates(after)
    assert old.keys() == new.keys()
    return {name for name in old if old[name] != new[name]}


def gate(**fields: Any) -> dict[str, Any]:
    return {"gate": SPEC["gate"] | fields}


def release(**images: str) -> Release:
    return RELEASE.model_copy(update={"images": Images.model_validate(RELEASE.images.model_dump() | images)})


RESTARTS: dict[str, tuple[Callable[[], Desired], set[str]]] = {
    "first alias": (lambda: desired({"dicom": {"aeTitle": "RADIOLOGY", "aliases": ["OLDPACS"]}}), {"gate", "orthanc"}),
    "AE title": (lambda: desired({"dicom": {"aeTitle": "OTHER"}}), {"gate", "orthanc", "postgres"}),
    "database memory": (lambda: desired({"scheduling": {"database": {"memoryMi": 1024}}}), {"postgres"}),
    "associations": (lambda: desired(gate(maxAssociations=65)), {"gate", "orthanc"}),
    "archive image": (lambda: replace(BASE, release=release(archive=image("archive", "b"))), {"orthanc"}),
    "gate image": (lambda: replace(BASE, release=release(gate=image("gate", "b"))), {"gate"}),
    "database image": (lambda: replace(BASE, release=release(database=image("database", "b"))), {"postgres"}),
    "tools image": (lambda: replace(BASE, release=release(tools=image("tools", "b"))), {"gate", "orthanc", "postgres"}),
    "Vault's address": (
        lambda: with_vault(BASE, address="https://other.example"),
        {"gate", "orthanc", "postgres"},
    ),
    "priority": (
        lambda: desired({"scheduling": {"priorityClassName": "patient-care"}}),
        {"gate", "orthanc", "postgres"},
    ),
}

LIVE: dict[str, Callable[[], Desired]] = {
    "peers": lambda: desired(peers=SOMEBODY),
    "conformance run": lambda: desired(run="r1"),
    "service": lambda: desired(gate(service={"type": "LoadBalancer", "annotations": {"a": "b"}})),
    "larger volume": lambda: desired({"storage": {"sizeGi": 21, "storageClassName": "hostpath"}}),
    "new object that adopts": lambda: replace(BASE, archive=BASE.archive.model_copy(update={"uid": "another"})),
    "generation": lambda: replace(BASE, archive=BASE.archive.model_copy(update={"generation": 2})),
    "release name alone": lambda: replace(BASE, release=RELEASE.model_copy(update={"version": "2026.12.0"})),
    "Vault's addresses": lambda: with_vault(BASE, cidrs=("198.18.0.11/32",)),
    "schedule": lambda: desired({"conformance": {"schedule": "0 0 * * *"}}),
    "deletion policy": lambda: desired({"deletionPolicy": "Retain"}),
}


@pytest.mark.parametrize("what", RESTARTS)
def test_restarts_exactly(what: str) -> None:
    after, expected = RESTARTS[what]
    assert changed(BASE, after()) == expected
    assert config_hash(BASE) != config_hash(after())


@pytest.mark.parametrize("what", LIVE)
def test_restarts_nothing(what: str) -> None:
    after = LIVE[what]()
    old, new = templates(BASE), templates(after)
    assert all(new[name] == template for name, template in old.items())
    assert config_hash(BASE) == config_hash(after)


@pytest.mark.parametrize(("replicas", "restarted"), [(1, set()), (3, set()), (4, {"orthanc"})])
def test_another_gate_restarts_no_gate_and_orthanc_only_beyond_three(replicas: int, restarted: set[str]) -> None:
    """Orthanc's threads must exceed what all gates let through."""
    assert changed(desired(gate(replicas=2)), desired(gate(replicas=replicas))) == restarted


def test_the_live_list_reaches_both_enforcers() -> None:
    lists = [m for m in render_archive(desired(peers=SOMEBODY)) if m["metadata"]["name"] == "peers"]
    assert [m["metadata"]["namespace"] for m in lists] == ["radiology-edge", "radiology-archive"]
    assert lists[0]["data"] == lists[1]["data"]
    assert LivePeers.model_validate_json(lists[0]["data"]["peers.json"]) == SOMEBODY
