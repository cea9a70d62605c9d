"""A real gate bears what is tried on a shadow."""

from pathlib import Path

from pacs_operator.domain.checks import Layer
from pacs_operator.probes import shadow
from pacs_operator.probes.verdict import Verdict

from .process import Gate, Site
from .test_probed import probed


def test_it_bears_malformed_requests_slow_callers_and_a_thousand_associations(
    site: Site, gate: Gate, tmp_path: Path
) -> None:
    with probed(site, gate, tmp_path / "tls") as (setting, replica):
        assert shadow.malformed(setting, replica).outcome == "Passed"
        assert shadow.slow(setting, replica) == Verdict("Passed", Layer.GATE, f"held-{shadow.SLOW}", "Served")
        assert shadow.flood(setting, replica).outcome == "Passed"
    assert gate.process.poll() is None
