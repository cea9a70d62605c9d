"""What an archive becomes, in full; ``PACS_UPDATE_GOLDEN=1`` writes the files anew, for a person to read the diff.

The gate's own two files are not repeated here: a real HAProxy tests them.
"""

import os
from pathlib import Path

import pytest
import yaml

from pacs_operator.domain.names import Zone, namespace_of
from pacs_operator.render import gate_workload, render_archive

from .archives import CASES, from_files

GATE_FILES = {"haproxy.cfg": "# see tests/gate\n", "gate.lua": "-- see tests/gate\n"}


class Readable(yaml.SafeDumper):
    """Files in ConfigMaps as blocks of text."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


Readable.add_representer(str, _text)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_archive_becomes(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_workload, "gate_config", lambda _: GATE_FILES)
    desired = from_files(case)
    manifests = render_archive(desired)
    expected = case / "expected"
    if os.environ.get("PACS_UPDATE_GOLDEN") == "1":
        expected.mkdir(exist_ok=True)
        for zone in Zone:
            (expected / f"{zone.value}.yaml").write_text(_dump(_of_zone(manifests, desired.archive.name, zone)))
    assert {path.stem for path in expected.glob("*.yaml")} == {zone.value for zone in Zone}
    for zone in Zone:
        rendered = _of_zone(manifests, desired.archive.name, zone)
        assert rendered, "a zone without manifests"
        assert rendered == list(yaml.safe_load_all((expected / f"{zone.value}.yaml").read_text()))
    assert len(manifests) == sum(len(_of_zone(manifests, desired.archive.name, zone)) for zone in Zone)


def _of_zone(manifests: list[dict], archive: str, zone: Zone) -> list[dict]:
    namespace = namespace_of(archive, zone)
    return [m for m in manifests if namespace in (m["metadata"].get("namespace"), m["metadata"]["name"])]


def _dump(manifests: list[dict]) -> str:
    return yaml.dump_all(manifests, Dumper=Readable, sort_keys=False, width=120)
