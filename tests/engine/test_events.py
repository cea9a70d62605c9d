"""Events that a namespace does not take: by a quota, a policy or its end. They are told in the log and stop nothing."""

from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from pacs_operator.domain.agentconfig import PeerActivity
from pacs_operator.domain.errors import NotFoundError, PacsError
from pacs_operator.kube.errors import ApiForbiddenError, ApiInvalidError, ApiOverloadedError
from pacs_operator.kube.port import Manifest
from tests.engine import destroying
from tests.engine.test_peermetrics import TellingGates, gates
from tests.engine.test_peerwatch import PEER, condition, events, stamp
from tests.engine.world import ARCHIVE, World

__all__ = ["gates"]  # a fixture

REFUSALS = [ApiForbiddenError, ApiInvalidError, NotFoundError]


def refuse(world: World, namespace: str, error: type[PacsError]) -> None:
    """Have the API server take no event in this namespace, for as long as the world stands."""
    create = world.api.create

    def refusing(manifest: Manifest) -> Manifest:
        if manifest["kind"] == "Event" and manifest["metadata"]["namespace"] == namespace:
            raise error("events: exceeded quota", action="none: this is a test")
        return create(manifest)

    world.api.create = refusing


def alarm(world: World, gates: TellingGates) -> None:
    gates.told = [PeerActivity(id=PEER, presented_not_after=stamp(world.now + timedelta(days=20)))]
    world.advance(60)


@pytest.mark.parametrize("error", REFUSALS)
def test_a_tenants_namespace_that_takes_no_events_keeps_no_status_from_the_archive(
    world: World, gates: TellingGates, error: type[PacsError]
):
    refuse(world, "imaging", error)
    alarm(world, gates)
    with capture_logs() as logs:
        world.process.reconcile(ARCHIVE)
    assert condition(world, "CertificateEnding") == ("True", "EndsWithin30Days")
    assert world.condition("Reconciling")["reason"] == "Settled"
    assert [(line["event"], line["namespace"], line["event_reason"]) for line in logs] == [
        ("event not taken", "imaging", "EndsWithin30Days")
    ]


def test_another_namespaces_refusal_takes_no_event_away(world: World, gates: TellingGates):
    refuse(world, "elsewhere", ApiForbiddenError)
    alarm(world, gates)
    with capture_logs() as logs:
        world.process.reconcile(ARCHIVE)
    assert len(events(world, "EndsWithin30Days")) == 1
    assert logs == []


def test_an_api_that_is_overloaded_is_asked_again(world: World, gates: TellingGates):
    refuse(world, "imaging", ApiOverloadedError)
    alarm(world, gates)
    with pytest.raises(ApiOverloadedError):
        world.process.reconcile(ARCHIVE)


def test_a_deletion_ends_where_nobody_takes_its_events():
    world: Any = destroying.approved()
    refuse(world, "default", ApiForbiddenError)
    with capture_logs():
        destroying.finish(world)
    assert ("PacsArchive", "", ARCHIVE) not in world.api.objects
