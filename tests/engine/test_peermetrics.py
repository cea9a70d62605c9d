"""What gates and Orthanc tell of a peer, on its way to the archive's status and to Prometheus."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from pacs_operator.domain.agentconfig import AgentStatus, PeerActivity
from pacs_operator.domain.names import Component
from pacs_operator.reconcile.peermetrics import PeerMetrics
from pacs_operator.vault.port import ClientCredentials
from tests.engine.world import ARCHIVE, START, World

PEER = "imaging/ct1"
SECOND = {n: f"2026-11-20T07:00:{n:02}Z" for n in range(60)}
EPOCH = 1_795_158_000.0  # 2026-11-20T07:00:00Z
END, EARLIER_END = "2027-11-20T00:00:00Z", "2027-03-01T00:00:00Z"


class TellingGates:
    """Lets each gate tell its own, which the simulated agents leave out; by the order of the pods' addresses."""

    def __init__(self, world: World) -> None:
        self.told: list[PeerActivity] = []
        self._world, self._others = world, world.agents.status
        world.agents.status = self.status

    def status(self, address: str, server_name: str, credentials: ClientCredentials) -> AgentStatus:
        answer = self._others(address, server_name, credentials)
        if answer.component is not Component.GATE:
            return answer
        told = dict(zip(self.gates(), self.told, strict=False))
        name = next(pod["metadata"]["name"] for pod in self._world.pods() if pod["status"].get("podIP") == address)
        return answer.model_copy(update={"peers": [told[name]] if name in told else []})

    def gates(self) -> list[str]:
        label = "pacs-operator.io/component"
        return sorted(p["metadata"]["name"] for p in self._world.pods() if p["metadata"]["labels"][label] == "gate")


@pytest.fixture
def gates(world: World) -> TellingGates:
    return TellingGates(world)


def summary(world: World) -> dict:
    return world.archive["status"]["peers"]["list"][0]


def passes(world: World, seconds: int = 60) -> None:
    world.advance(seconds)
    world.process.reconcile(ARCHIVE)


def scrape(world: World) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(PeerMetrics(world.process.peer_numbers))
    lines = generate_latest(registry).decode().splitlines()
    samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name.removeprefix("pacs_operator_peer_"): float(value) for name, value in samples}


def test_one_status_line_from_two_gates_and_orthanc(world: World, gates: TellingGates):
    gates.told = [
        PeerActivity(
            id=PEER,
            last_association=SECOND[1],
            last_rejection=SECOND[2],
            last_rejection_reason="SourceNotAllowed",
            presented_not_after=EARLIER_END,
        ),
        PeerActivity(id=PEER, last_association=SECOND[5], presented_not_after=END),
    ]
    world.agents.activity = [PeerActivity(id=PEER, stores=7, last_store=SECOND[6])]
    passes(world)
    seen = summary(world)
    assert seen["lastStore"] == SECOND[6]
    assert (seen["lastRejection"], seen["lastRejectionReason"]) == (SECOND[2], "SourceNotAllowed")
    assert seen["presentedNotAfter"] == END, "of the newer association"


def test_the_certificate_of_the_newest_request_counts_like_that_of_an_association(world: World, gates: TellingGates):
    gates.told = [
        PeerActivity(id=PEER, last_association=SECOND[1], presented_not_after=EARLIER_END),
        PeerActivity(id=PEER, last_request=SECOND[5], presented_not_after=END),
    ]
    passes(world)
    assert summary(world)["presentedNotAfter"] == END
    gates.told = [gates.told[0], gates.told[1].model_copy(update={"last_request": SECOND[0]})]
    world.advance(3600)
    passes(world)
    assert summary(world)["presentedNotAfter"] == EARLIER_END


def test_an_objects_refusal_reaches_the_status_like_an_associations(world: World, gates: TellingGates):
    gates.told = [PeerActivity(id=PEER, last_rejection=SECOND[2], last_rejection_reason="WrongCalledAETitle")]
    refusal = {"last_rejection": SECOND[3], "last_rejection_reason": "DuplicateDiffers"}
    world.agents.activity = [PeerActivity(id=PEER, rejections=1, **refusal)]
    passes(world)
    assert (summary(world)["lastRejection"], summary(world)["lastRejectionReason"]) == (SECOND[3], "DuplicateDiffers")


def test_two_certificates_in_turn_are_no_status_writes_in_turn(world: World, gates: TellingGates):
    def present(end: str, seconds: int = 60) -> str:
        gates.told = [PeerActivity(id=PEER, last_association=SECOND[1], presented_not_after=end)]
        passes(world, seconds)
        return str(summary(world)["presentedNotAfter"])

    assert present(END) == END
    writes = len(world.log.entries)
    assert {present(end) for end in (EARLIER_END, END) * 5} == {END}
    assert world.log.entries[writes:] == []
    assert present(EARLIER_END, seconds=360) == EARLIER_END, "but after 15 minutes it is news"


def test_metrics_hold_times_by_peer_and_counts_by_pod(world: World, gates: TellingGates):
    gates.told = [
        PeerActivity(id=PEER, last_association=SECOND[1], rejections=2, last_rejection=SECOND[2],
                     last_rejection_reason="WrongCalledAETitle", open_associations=3, presented_not_after=END,
                     limited=1, last_limited=SECOND[2]),
        PeerActivity(id=PEER, rejections=1, last_rejection=SECOND[1], last_rejection_reason="GateFull"),
    ]  # fmt: skip
    world.agents.activity = [PeerActivity(id=PEER, stores=7, last_store=SECOND[6])]
    passes(world)
    first, second = gates.gates()
    of_peer = f'archive="{ARCHIVE}",peer="{PEER}"'
    orthanc = f'{{{of_peer},pod="orthanc-0"}}'
    assert scrape(world) == {
        f"last_store_seconds{{{of_peer}}}": EPOCH + 6,
        f"last_association_seconds{{{of_peer}}}": EPOCH + 1,
        f"certificate_not_after_seconds{{{of_peer}}}": EPOCH + 365 * 86400 - 7 * 3600,
        f'last_rejection_seconds{{{of_peer},reason="WrongCalledAETitle"}}': EPOCH + 2,
        f"stores_total{orthanc}": 7,
        f"rejections_total{orthanc}": 0,
        f'rejections_total{{{of_peer},pod="{first}"}}': 2,
        f'rejections_total{{{of_peer},pod="{second}"}}': 1,
        f'limited_total{{{of_peer},pod="{first}"}}': 1,
        f'limited_total{{{of_peer},pod="{second}"}}': 0,
        f'open_associations{{{of_peer},pod="{first}"}}': 3,
        f'open_associations{{{of_peer},pod="{second}"}}': 0,
    }


def test_metrics_follow_at_once_where_the_status_waits(world: World):
    for n in (1, 2, 3):
        world.agents.activity = [PeerActivity(id=PEER, stores=n, last_store=world.now.strftime("%Y-%m-%dT%H:%M:%SZ"))]
        passes(world)
    assert scrape(world)[f'stores_total{{archive="{ARCHIVE}",peer="{PEER}",pod="orthanc-0"}}'] == 3
    gauge = scrape(world)[f'last_store_seconds{{archive="{ARCHIVE}",peer="{PEER}"}}']
    assert gauge == (world.now.timestamp() - 60) > START.timestamp()
    assert summary(world)["lastStore"] < world.agents.activity[0].last_store


def test_a_time_that_the_pods_forgot_is_taken_from_the_status(world: World):
    told = {"last_store": SECOND[6], "last_rejection": SECOND[4], "last_rejection_reason": "DuplicateDiffers"}
    world.agents.activity = [PeerActivity(id=PEER, stores=7, **told)]
    passes(world)
    before = scrape(world)
    world.agents.activity = [PeerActivity(id=PEER)]
    world.process = world.operator()
    world.settle(world.process)
    after = scrape(world)
    times = {name: value for name, value in before.items() if name.startswith("last_")}
    assert len(times) == 2
    assert times.items() <= after.items()
    assert after[f'stores_total{{archive="{ARCHIVE}",peer="{PEER}",pod="orthanc-0"}}'] == 0


def test_what_is_gone_has_no_metrics(world: World):
    world.agents.activity = [PeerActivity(id=PEER, stores=7, last_store=SECOND[6])]
    passes(world)
    assert scrape(world)
    world.api.remove(("DicomPeer", "imaging", "ct1"))
    world.agents.activity = []
    passes(world)
    assert scrape(world) == {}
