"""What is remembered of Vault speaks of one Vault and one lineage; another is asked before anything is said of it."""

from dataclasses import replace

import pytest
from kubernetes import client

from pacs_operator.domain.facts import VaultSettings
from pacs_operator.kube.client import KubeClient
from pacs_operator.kube.errors import ApiUnreachableError
from pacs_operator.kube.inventory import ARCHIVE as KIND
from pacs_operator.reconcile.archive import ArchiveReconciler
from pacs_operator.vault.errors import VaultUnreachableError
from tests.engine.recordingvault import RecordingVault
from tests.engine.world import ARCHIVE, ARCHIVE_KEY, SETTINGS, World, archive_manifest, peer_manifest
from tests.vault.certs import Authority

OTHER = "https://203.0.113.9:8200"
ELSEWHERE = {
    "address": OTHER,
    "caPem": f"# Zürich 認証局\n{Authority.make('elsewhere').pem}",
    "authPath": "kubernetes",
    "audience": "vault",
    "cidrs": ["203.0.113.9/32"],
}


def two_vaults(world: World) -> tuple[ArchiveReconciler, RecordingVault]:
    other = RecordingVault(world.log)

    def connect(settings: VaultSettings) -> RecordingVault:
        return other if settings.address == OTHER else world.vault

    settings = replace(SETTINGS, other_vaults=frozenset({OTHER}))
    return ArchiveReconciler(replace(world.operator()._ports, vault=connect), settings), other


def running() -> tuple[World, ArchiveReconciler, RecordingVault]:
    world = World()
    world.api.put(archive_manifest())
    world.api.put(peer_manifest("ct1"))
    operator, other = two_vaults(world)
    world.settle(operator)
    world.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["spec"].update(vault=ELSEWHERE))
    return world, operator, other


def test_another_vault_has_everything_in_the_first_pass():
    world, operator, other = running()
    operator.reconcile(ARCHIVE)
    assert other.paths == world.vault.paths
    assert other.peer_roles == world.vault.peer_roles
    assert other.peer_roles
    assert OTHER in world.condition("VaultReady")["message"]


def test_nothing_is_said_of_a_vault_that_was_not_asked():
    world, operator, other = running()
    other.error = VaultUnreachableError("no answer", action="look")
    operator.reconcile(ARCHIVE)
    condition = world.condition("VaultReady")
    assert (condition["status"], condition["reason"]) == ("False", "VaultUnreachable")


def test_a_successor_of_the_same_name_is_provisioned_at_once():
    world = World()
    world.api.put(archive_manifest())
    world.api.put(peer_manifest("ct1"))
    operator = world.operator()
    world.settle(operator)
    for key in [key for key in world.api.objects if key[1].startswith("radiology-")]:
        del world.api.objects[key]
    for part in ("edge", "archive", "data", "ops"):
        del world.api.objects["Namespace", "", f"radiology-{part}"]
    del world.api.objects[ARCHIVE_KEY]
    world.api.put(archive_manifest())
    operator.reconcile(ARCHIVE)
    assert len(world.drawn) == 2
    assert f"pacs/{world.drawn[1]}/peers/root" in world.vault.paths
    assert [role for lineage, role in world.vault.peer_roles if lineage == world.drawn[1]]


@pytest.mark.parametrize("pem", ["", "Zürich", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"])
def test_authorities_without_a_certificate_are_refused_and_harm_nothing(pem: str):
    world, operator, other = running()
    templates = {key: item["spec"] for key, item in world.api.objects.items() if "template" in item.get("spec", {})}
    world.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["spec"].update(vault=ELSEWHERE | {"caPem": pem}))
    world.settle(operator)
    stalled = world.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "InvalidSpec")
    assert "spec.vault.caPem" in stalled["message"]
    assert "BEGIN CERTIFICATE" in stalled["message"]
    assert other.paths == set()
    assert {key: world.api.objects[key]["spec"] for key in templates} == templates


class Answer:
    def __init__(self, data: bytes) -> None:
        self.data = data


@pytest.mark.parametrize("body", [b"<html>log in here: s3cret</html>", b"", b"[]", b'"s3cret"'])
def test_an_api_that_answers_with_something_else_is_not_reached(body: bytes, monkeypatch: pytest.MonkeyPatch):
    kube = KubeClient(client.ApiClient(client.Configuration()))
    monkeypatch.setattr(kube._dynamic, "request", lambda *_, **__: Answer(body))
    with pytest.raises(ApiUnreachableError, match="no JSON object") as caught:
        kube.get(KIND, "radiology")
    assert "s3cret" not in str(caught.value)
    monkeypatch.setattr(kube._dynamic, "request", lambda *_, **__: Answer(b'{"kind": "PacsArchive"}'))
    assert kube.get(KIND, "radiology") == {"kind": "PacsArchive"}
