"""What only a device can try on a shadow, with the real Orthanc and gate: it arrives, and what is refused is seen."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pacs_operator.domain.conformanceconfig import ConformanceConfig, ProbeIdentity, ShadowDevice
from pacs_operator.domain.gatepeers import LivePeer
from pacs_operator.domain.outbound import Outbound
from pacs_operator.domain.peer import Right
from pacs_operator.probes import sendback
from pacs_operator.probes.objects import shadow_objects
from pacs_operator.probes.setting import Setting
from pacs_operator.probes.tls import Trust
from pacs_operator.probes.verdict import PASSED
from pacs_operator.probes.wire import Endpoint

from .conftest import Image
from .hospital import Hospital, running_hospital
from .test_web_probes import credentials

GATE_NAME = "gate.radiology-edge.svc"
RIGHTS = (Right.STORE, Right.FIND, Right.MOVE, Right.STORAGE_COMMITMENT)


@pytest.fixture(scope="module")
def hospital(image: Callable[[str], Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    with running_hospital(image("archive"), tmp_path_factory.mktemp("shadow")) as running:
        yield running


@pytest.fixture
def visit(hospital: Hospital, tmp_path: Path) -> Callable[..., tuple[Setting, Endpoint]]:
    """Return a maker of visits: the archive knows the device with what is asked for."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    leaf = hospital.gate.site.peers.issue("attacker.imaging.example", server=True, client=True)

    def device(title: str, *rights: Right, moves_to: tuple[str, ...] = ()) -> LivePeer:
        return hospital.device(title, *rights, receives=False, moves_to=moves_to).model_copy(
            update={"outbound": Outbound(address="127.0.0.1", port=port)}
        )

    def make(*rights: Right, moves_to: tuple[str, ...] = ("ATTACKER",)) -> tuple[Setting, Endpoint]:
        hospital.apply(device("ATTACKER", *rights, moves_to=moves_to), device("BYSTANDER"))
        config = ConformanceConfig(
            run="s1", archive_ae_title="RADIOLOGY", gate_host=GATE_NAME, gate_replicas_host="127.0.0.1",
            gate_replicas=1, gate_port=hospital.gate.port, orthanc_host="localhost", postgres_host=None,
            peer=ProbeIdentity(leaf="attacker", ae_title="ATTACKER"),
            device=ShadowDevice(listen_address="127.0.0.1", listen_port=port, unlisted_ae_title="BYSTANDER"),
        )  # fmt: skip
        known: dict[str, Any] = dict.fromkeys(Setting.__dataclass_fields__)
        known |= {
            "config": config,
            "peer": credentials(tmp_path, "attacker", leaf),
            "gate_trust": Trust(hospital.gate.site.peers.root_pem().decode(), GATE_NAME),
        }
        return Setting(**known), Endpoint("127.0.0.1", hospital.gate.port)

    return make


def test_a_study_arrives_whole_and_equal(visit: Callable[..., tuple[Setting, Endpoint]]) -> None:
    assert sendback.moved_equal(*visit(*RIGHTS)) == PASSED


def test_a_study_that_is_not_sent_is_found(visit: Callable[..., tuple[Setting, Endpoint]]) -> None:
    found = sendback.moved_equal(*visit(*RIGHTS, moves_to=("BYSTANDER",)))
    assert (found.outcome, found.code) == ("Failed", "status-c000")


def test_a_sender_with_another_name_is_found(visit: Callable[..., tuple[Setting, Endpoint]]) -> None:
    setting, replica = visit(*RIGHTS)

    class Elsewhere(Setting):
        """Expects its images from somebody else; it still calls the gate by its name."""

    other = Elsewhere(**{name: getattr(setting, name) for name in Setting.__dataclass_fields__})
    session = setting.session(replica, setting.config.peer)
    object.__setattr__(other, "gate_trust", replace(setting.gate_trust, server_name="other.example"))
    object.__setattr__(other, "session", lambda *_: session)
    assert sendback.moved_equal(other, replica).outcome == "Failed"


def test_a_title_that_is_no_destination_gets_nothing(visit: Callable[..., tuple[Setting, Endpoint]]) -> None:
    found = sendback.unlisted_refused(*visit(*RIGHTS))
    assert (found.outcome, found.code, found.twin) == ("Passed", "status-c000", "Served")


def test_without_a_destination_of_its_own_a_refusal_proves_nothing(
    visit: Callable[..., tuple[Setting, Endpoint]],
) -> None:
    found = sendback.unlisted_refused(*visit(*RIGHTS, moves_to=()))
    assert (found.outcome, found.twin) == ("NotRun", "NotServed")


def test_a_destination_that_should_be_none_is_found(visit: Callable[..., tuple[Setting, Endpoint]]) -> None:
    """What the row takes for no destination is one: what leaves arrives here."""
    setting, replica = visit(*RIGHTS, moves_to=("ATTACKER",))
    assert setting.config.device is not None
    device = setting.config.device.model_copy(update={"unlisted_ae_title": "ATTACKER"})
    found = sendback.unlisted_refused(
        replace(setting, config=setting.config.model_copy(update={"device": device})), replica
    )
    assert (found.outcome, found.code) == ("Failed", "status-0000")


def test_a_commitment_is_reported(visit: Callable[..., tuple[Setting, Endpoint]]) -> None:
    assert sendback.commitment_reported(*visit(*RIGHTS)) == PASSED
    found = sendback.commitment_denied(*visit(*RIGHTS))
    assert (found.outcome, found.code, found.twin) == ("Passed", "denied", "Served")


def test_a_promise_for_what_is_absent_is_found(
    visit: Callable[..., tuple[Setting, Endpoint]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an archive would give that looks at nothing: what the row takes for absent is there."""
    same = shadow_objects()
    made = same.all()
    monkeypatch.setattr(same, "all", lambda: made)
    monkeypatch.setattr(sendback, "shadow_objects", lambda: same)
    found = sendback.commitment_denied(*visit(*RIGHTS))
    assert (found.outcome, found.code) == ("Failed", "accepted")


def test_without_the_right_no_commitment_is_reported(visit: Callable[..., tuple[Setting, Endpoint]]) -> None:
    assert sendback.commitment_reported(*visit(Right.STORE)).outcome == "Failed"
