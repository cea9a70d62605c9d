"""The agent beside a real Orthanc with the plugin: what peers do arrives in the status that the operator asks for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from pydicom.uid import generate_uid
from typer.testing import CliRunner, Result

from pacs_operator.agent.__main__ import app
from pacs_operator.agent.errors import NeighbourError
from pacs_operator.agent.orthanc import OrthancNeighbour
from pacs_operator.agent.paths import Surroundings
from pacs_operator.domain.agentconfig import AgentConfig, PeerActivity
from pacs_operator.domain.gatepeers import LivePeer, LivePeers
from pacs_operator.domain.peer import Right
from pacs_operator.reconcile.ingest import REASONS
from tests.machine import enterable

from .conftest import Image
from .orthanc_server import PREFIX, ROOT, Orthanc, instance, orthanc, part10

NOBODY = "00000000-0000-0000-0000-000000000000"
LISTED = {
    "imaging/ct": ["CT1", "CT2"],
    "imaging/mr": ["MR1"],
}


@pytest.fixture(scope="module")
def archive(image: Callable[[str], Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    folder = enterable(tmp_path_factory.mktemp("archive"))
    with orthanc(image("archive"), folder, DicomModalitiesInDatabase=False) as server:
        yield server


@asynccontextmanager
async def agent_of(server: Orthanc, folder: Path) -> AsyncIterator[OrthancNeighbour]:
    """Stand beside an Orthanc, with the listed peers applied."""
    (folder / "orthanc.json").write_text("{}")
    config = AgentConfig.model_validate(
        {
            "component": "orthanc",
            "lineageId": "0" * 32,
            "vault": {"address": "https://127.0.0.1:8200", "authPath": "kubernetes", "role": "orthanc"},
            "leaves": [],
            "trust": [],
            "aeTitle": "ARCHIVE",
            "orthancUrl": f"http://127.0.0.1:{server.http}",
        }
    )
    neighbour = OrthancNeighbour(config, Surroundings(run=folder / "run", config=folder))
    try:
        await neighbour.apply_peers(live(LISTED))
        yield neighbour
    finally:
        await neighbour.close()


@pytest_asyncio.fixture
async def agent(archive: Orthanc, tmp_path: Path) -> AsyncIterator[OrthancNeighbour]:
    async with agent_of(archive, tmp_path) as neighbour:
        yield neighbour


def live(titles: dict[str, list[str]]) -> LivePeers:
    peers = [
        LivePeer(id=name, dns_name=f"{index}.example", ae_titles=own, source_cidrs=[], rights=[Right.STORE],
                 max_associations=8)
        for index, (name, own) in enumerate(titles.items())
    ]  # fmt: skip
    return LivePeers(revision="r1", peers=peers)


async def seen(agent: OrthancNeighbour) -> dict[str, PeerActivity]:
    return {entry.id: entry for entry in await agent.activity()}


async def test_what_all_titles_of_a_peer_did_is_the_peers(agent: OrthancNeighbour, archive: Orthanc) -> None:
    assert await seen(agent) == {name: PeerActivity(id=name) for name in LISTED}
    uid = generate_uid()
    for title in ("CT1", "CT2"):
        assert archive.store(title, instance(generate_uid())) == 0
    assert archive.store("CT2", instance(uid)) == 0
    last_store = (await seen(agent))["imaging/ct"].last_store
    assert archive.store("CT1", instance(generate_uid(), patient=f"{PREFIX}x")) != 0
    assert archive.store("CT2", instance(uid, pixels=b"\1\1" * 8)) != 0
    counted = archive.rest("GET", "/pacs/activity").json()["peers"]
    ct = (await seen(agent))["imaging/ct"]
    assert last_store == max(counted[title]["lastStore"] for title in ("CT1", "CT2"))
    assert ct == PeerActivity(
        id="imaging/ct",
        stores=3,
        last_store=last_store,
        rejections=2,
        last_rejection=counted["CT2"]["lastRefusal"],
        last_rejection_reason=ct.last_rejection_reason,
    )
    # Both may lie in one second; then either is the newest.
    newest = {counted[t]["lastRefusalReason"] for t in counted if counted[t].get("lastRefusal") == ct.last_rejection}
    assert ct.last_rejection_reason in newest <= {"DuplicateDiffers", "ReservedForProbes"}
    assert (await seen(agent))["imaging/mr"] == PeerActivity(id="imaging/mr")


async def test_a_title_without_a_peer_is_nobodys(agent: OrthancNeighbour, archive: Orthanc) -> None:
    assert archive.store("STRANGER", instance(generate_uid())) == 0, "this Orthanc lets anybody store"
    assert "STRANGER" in archive.rest("GET", "/pacs/activity").json()["peers"]
    assert set(await seen(agent)) == set(LISTED)
    await agent.apply_peers(live({"imaging/new": ["STRANGER"]}))
    assert (await seen(agent))["imaging/new"].stores == 1


async def test_what_is_turned_away_is_counted_and_held(agent: OrthancNeighbour, archive: Orthanc) -> None:
    before = await agent.ingest()
    uid = generate_uid()
    assert archive.upload(part10(instance(uid))) == 200
    assert await agent.ingest() == before, "the twin: nothing was turned away"
    assert archive.upload(part10(instance(uid, patient="P2"))) == 400
    after = await agent.ingest()
    assert after.quarantine.held == before.quarantine.held + 1
    assert after.refused["DuplicateDiffers"] == before.refused["DuplicateDiffers"] + 1
    assert set(after.refused) == set(REASONS)
    assert after.quarantine.oldest
    assert not after.quarantine.full


def person(config: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["quarantine", *words, "--config", str(config)])


def config_of(archive: Orthanc, folder: Path) -> Path:
    document = {
        "component": "orthanc", "lineageId": "0" * 32, "leaves": [], "trust": [], "aeTitle": "ARCHIVE",
        "vault": {"address": "https://127.0.0.1:8200", "authPath": "kubernetes", "role": "orthanc"},
        "orthancUrl": f"http://127.0.0.1:{archive.http}",
    }  # fmt: skip
    (folder / "agent.json").write_text(json.dumps(document))
    return folder / "agent.json"


def test_a_person_looks_releases_and_discards_by_one_command_each(archive: Orthanc, tmp_path: Path) -> None:
    config, uid = config_of(archive, tmp_path), generate_uid()
    wanted = part10(instance(uid, patient="P2"))
    known = {entry["id"] for entry in json.loads(person(config, "list").output)}
    assert archive.upload(part10(instance(uid))) == 200
    assert archive.upload(wanted) == 400
    (name,) = {entry["id"] for entry in json.loads(person(config, "list").output)} - known
    assert json.loads(person(config, "show", name).output)["held"]["PatientID"] == "P2"
    assert json.loads(person(config, "release", name).output) == {"released": name, "replaced": 1}
    assert archive.stored(uid) == wanted
    (replaced,) = {entry["id"] for entry in json.loads(person(config, "list").output)} - known
    assert person(config, "discard", replaced).exit_code == 2, "not without --yes"
    assert json.loads(person(config, "discard", replaced, "--yes").output) == {"discarded": replaced}
    again = person(config, "release", name)
    assert again.exit_code == 1
    assert "refused: NotHeld (nothing is held under this identifier" in again.output


@pytest.mark.parametrize("identifier", ["x", "0" * 36, "../" + NOBODY[3:], NOBODY.upper().replace("0", "A")])
def test_a_person_who_mistypes_is_told(archive: Orthanc, tmp_path: Path, identifier: str) -> None:
    told = person(config_of(archive, tmp_path), "release", identifier)
    assert (told.exit_code, "a UUID, as pacs-agent" in told.output) == (2, True)


async def test_without_the_plugin_the_agent_says_so(image: Callable[[str], Image], tmp_path: Path) -> None:
    """Its twin is every other test here: the same question, answered."""
    for parent in (tmp_path.parent, tmp_path):
        parent.chmod(0o755)
    with orthanc(image("archive"), tmp_path, PythonScript=None, Plugins=[], DicomModalitiesInDatabase=False) as bare:
        async with agent_of(bare, tmp_path) as agent:
            with pytest.raises(NeighbourError, match="404"):
                await agent.activity()
            with pytest.raises(NeighbourError, match="404"):
                await agent.ingest()


async def test_clean_up_takes_a_probes_duplicate_from_quarantine_and_nobody_elses(
    agent: OrthancNeighbour, archive: Orthanc
) -> None:
    for title, patient, uid in (
        ("PACSPROBE", f"{PREFIX}run1", f"{ROOT}.1.1"),
        ("PACSPROBE", f"{PREFIX}run2", f"{ROOT}.2.1"),
        ("CT1", "P9", generate_uid()),
    ):
        assert archive.store(title, instance(uid, patient=patient)) == 0
        assert archive.store(title, instance(uid, patient=patient, pixels=b"\5\6" * 8)) == 0x0111
    before = archive.rest("GET", "/pacs/quarantine").json()
    assert await agent.remove_probe_objects("run1") == 2, "the image, and what was refused"
    after = archive.rest("GET", "/pacs/quarantine").json()
    assert len(before) - len(after) == 1
    assert [entry["aet"] for entry in after].count("PACSPROBE") == 1
    assert [entry["aet"] for entry in after].count("CT1") == [entry["aet"] for entry in before].count("CT1")
