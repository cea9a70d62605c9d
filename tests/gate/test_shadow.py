"""A real gate bears what is tried on a shadow, and what only one of its devices can try there comes to nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pacs_operator.domain.checks import Layer
from pacs_operator.domain.conformanceconfig import LegacyDevice
from pacs_operator.probes import legacytitles, shadow
from pacs_operator.probes.setting import Setting
from pacs_operator.probes.verdict import Verdict
from pacs_operator.probes.wire import Endpoint

from .process import Gate, Site, running_gate, wait_for
from .test_legacy import adjacent_ports, old_device
from .test_probed import probed
from .test_sabotage import without_rules


def test_it_bears_malformed_requests_slow_callers_and_a_thousand_associations(
    site: Site, gate: Gate, tmp_path: Path
) -> None:
    with probed(site, gate, tmp_path / "tls") as (setting, replica):
        assert shadow.malformed(setting, replica).outcome == "Passed"
        assert shadow.slow(setting, replica) == Verdict("Passed", Layer.GATE, f"held-{shadow.SLOW}", "Served")
        assert shadow.flood(setting, replica).outcome == "Passed"
    assert gate.process.poll() is None


@contextmanager
def beside_a_device(
    site: Site, folder: Path, edit: Callable[[str], str] = str, source: str = "127.0.0.1"
) -> Iterator[tuple[Setting, Endpoint]]:
    """Run a gate with a plaintext port for the device that the probe is, and return what the probe works with."""
    with (
        adjacent_ports() as port,
        running_gate(site, folder / "run", edit, legacy_bind=f"127.0.0.1:{port}-{port + 1}") as gate,
    ):
        gate.legacy_port = port
        wait_for(gate.archive_reachable, "archive up")
        with probed(site, gate, folder / "tls") as (setting, replica):
            gate.put(old_device("us7", port).model_copy(update={"source_cidrs": [f"{source}/32"]}))
            device = LegacyDevice(port=port, ae_title="US7")
            yield replace(setting, config=setting.config.model_copy(update={"legacy_devices": [device]})), replica


def test_at_a_devices_port_nothing_but_its_titles_is_let_in(site: Site, tmp_path: Path) -> None:
    with beside_a_device(site, tmp_path) as (setting, replica):
        assert legacytitles.pinned(setting, replica) == Verdict("Passed", Layer.GATE, "rj-1-1-3", "Served")


@pytest.mark.parametrize("rule", ["WrongCallingAETitle", "WrongCalledAETitle"])
def test_a_port_that_is_open_to_other_titles_is_found(site: Site, tmp_path: Path, rule: str) -> None:
    with beside_a_device(site, tmp_path, without_rules(rule)) as (setting, replica):
        assert legacytitles.pinned(setting, replica) == Verdict("Failed", Layer.GATE, "accepted", "Served")


def test_from_another_address_the_titles_were_not_tried(site: Site, tmp_path: Path) -> None:
    with beside_a_device(site, tmp_path, source="127.0.0.11") as (setting, replica):
        found = legacytitles.pinned(setting, replica)
    assert (found.outcome, found.twin) == ("NotRun", "NotServed")
