"""What the status says of pods that can be started, and were, while Vault is away."""

import base64
from typing import Any

import pytest

from pacs_operator.domain.agentconfig import OfflineTold
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.names import Component
from pacs_operator.domain.offline import check_recipient, fingerprint
from pacs_operator.vault.errors import VaultSealedError
from tests.engine.world import ARCHIVE, ARCHIVE_KEY, World, archive_manifest

RECIPIENT = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="
DECLARED = {"recipient": RECIPIENT, "holder": "IT on call, safe 3", "reason": "power cuts"}
SEALED = "2026-11-20T07:59:00Z"
STARTED = "2026-11-20T08:00:30Z"


def told(sealed: str | None = SEALED, started: str | None = None, recipient: str = RECIPIENT) -> OfflineTold:
    return OfflineTold(recipient=fingerprint(recipient), sealed=sealed, started=started)


@pytest.fixture
def world() -> World:
    world = World()
    world.agents.offline = dict.fromkeys((Component.GATE, Component.ORTHANC, Component.POSTGRES), told())
    world.api.put(archive_manifest(offlineStart=DECLARED))
    world.process = world.operator()
    world.settle(world.process)
    return world


def look(world: World, kind: str = "OfflineStart") -> tuple[str, str]:
    world.advance(61)
    world.process.reconcile(ARCHIVE)
    condition = world.condition(kind)
    return condition["status"], condition["reason"]


def events(world: World) -> set[str]:
    return {item["reason"] for (kind, _, _), item in world.api.objects.items() if kind == "Event"}


def test_what_is_sealed_is_shown_and_is_not_proven(world: World) -> None:
    status = world.archive["status"]["offlineStart"]
    assert (status["recipient"], status["holder"]) == (fingerprint(RECIPIENT), DECLARED["holder"])
    assert [pod["sealed"] for pod in status["pods"]] == [SEALED] * 4  # two gates, Orthanc, PostgreSQL
    assert "lastStarted" not in status
    assert look(world) == ("True", "NeverTried")
    assert look(world, "VaultReady") == ("True", "Provisioned")
    assert "not proven" in world.condition("OfflineStart")["message"]


@pytest.mark.parametrize(
    "lacks", [told(sealed=None), None, told(recipient="3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=")]
)
def test_a_pod_without_a_sealed_file_is_named(world: World, lacks: OfflineTold | None) -> None:
    """One that sealed to another key has none that this holder opens."""
    world.agents.offline.pop(Component.POSTGRES)
    if lacks is not None:
        world.agents.offline[Component.POSTGRES] = lacks
    assert look(world) == ("False", "NotSealed")
    assert "postgres" in world.condition("OfflineStart")["message"]
    assert "gate" not in world.condition("OfflineStart")["message"]


def test_pods_that_started_offline_take_vault_ready_away_until_they_renewed(world: World) -> None:
    world.agents.offline[Component.ORTHANC] = told(started=STARTED)
    assert look(world, "VaultReady") == ("False", "StartedOffline")
    message = world.condition("VaultReady")["message"]
    assert "1 of 4 pods started offline since 2026-11-20T08:00:30Z" in message and fingerprint(RECIPIENT) in message
    assert "VaultReadyStartedOffline" in events(world)
    world.agents.offline[Component.ORTHANC] = told()
    assert look(world, "VaultReady") == ("True", "Provisioned")
    assert look(world) == ("True", "Tried")
    assert world.archive["status"]["offlineStart"]["lastStarted"] == STARTED


def test_a_start_that_is_said_to_lie_ahead_is_not_believed(world: World) -> None:
    world.agents.offline[Component.ORTHANC] = told(started="2199-01-01T00:00:00Z")
    assert look(world, "VaultReady") == ("True", "Provisioned")
    assert "lastStarted" not in world.archive["status"]["offlineStart"]


def test_while_vault_is_away_it_says_who_has_the_key(world: World) -> None:
    world.vault.error = VaultSealedError("sealed", action="unseal")
    assert look(world, "VaultReady") == ("False", "VaultSealed")
    assert DECLARED["holder"] in world.condition("VaultReady")["message"]
    assert [pod["sealed"] for pod in world.archive["status"]["offlineStart"]["pods"]] == [SEALED] * 4


def test_undeclared_it_is_gone(world: World) -> None:
    world.agents.offline = {}
    world.api.edit(ARCHIVE_KEY, "kubectl", lambda live: live["spec"].pop("offlineStart"))
    world.settle(world.process)
    assert look(world) == ("Unknown", "NotDeclared")
    assert "offlineStart" not in world.archive["status"]


def test_an_archive_without_it_has_no_word_of_it() -> None:
    world = World()
    world.api.put(archive_manifest())
    world.settle()
    status: dict[str, Any] = world.archive["status"]
    assert "offlineStart" not in status and "OfflineStart" not in {item["type"] for item in status["conditions"]}


#: Points of low order on Curve25519 (RFC 7748, 6.1), among them such as are not reduced.
LOW_ORDER = [0, 1, 2**255 - 19, 2**255 - 20, 2**255 - 18, 2**255,
             39382357235489614581723060781553021112529911719440698176882885853963445705823,
             325606250916557431795983626356110631294008115727848805560023387167927233504]  # fmt: skip


@pytest.mark.parametrize("point", LOW_ORDER)
def test_a_point_of_low_order_is_no_recipient(point: int) -> None:
    with pytest.raises(InvalidSpecError, match=r"spec\.offlineStart\.recipient"):
        check_recipient(base64.b64encode(point.to_bytes(32, "little")).decode(), "spec.offlineStart.recipient")


def test_nine_is_one() -> None:
    """The base point; one more than eight."""
    check_recipient(base64.b64encode((9).to_bytes(32, "little")).decode(), "spec.offlineStart.recipient")
