"""A shadow takes no name that is taken, and what is removed is what was made, and nothing else."""

import time
from pathlib import Path
from typing import Any

import pytest
from tools import shadow
from typer.testing import CliRunner

from pacs_operator.domain import shadow as twin
from pacs_operator.domain.names import LABEL_ARCHIVE, LABEL_ARCHIVE_UID, Zone, namespace_of
from pacs_operator.kube.inventory import ARCHIVE, NAMESPACE, PEER
from pacs_operator.kube.port import Manifest
from tests.engine.simapi import SimulatedApi, WriteLog
from tests.engine.world import archive_manifest

CIDR = "198.18.10.9/32"


@pytest.fixture
def api() -> SimulatedApi:
    found = SimulatedApi(WriteLog())
    found.put(archive_manifest())
    return found


def real(api: SimulatedApi) -> Manifest:
    (found,) = [each for each in api.list(ARCHIVE) if twin.LABEL_SHADOW_OF not in each["metadata"].get("labels", {})]
    return found


def zone(api: SimulatedApi, archive: str, uid: str) -> str:
    """Have a zone's namespace, as the operator makes it."""
    name = namespace_of(archive, Zone.ARCHIVE)
    labels = {LABEL_ARCHIVE: archive, LABEL_ARCHIVE_UID: uid}
    api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    return name


def made(api: SimulatedApi) -> str:
    archive = real(api)
    shadow.claim(api, archive, CIDR)
    shadow.make(api, archive, CIDR)
    return twin.shadow_name(archive)


def uid_of(api: SimulatedApi, name: str) -> str:
    found = api.get(ARCHIVE, name)
    assert found
    return str(found["metadata"]["uid"])


def test_what_is_made_is_removed_and_the_archive_stays(api: SimulatedApi) -> None:
    name = made(api)
    own, others = zone(api, name, uid_of(api, name)), zone(api, real(api)["metadata"]["name"], "another")
    assert api.get(PEER, twin.VISITOR, twin.visitors_namespace(name))
    shadow.remove(api, name, lambda _words: None)
    assert api.get(ARCHIVE, name) is None
    assert [each["metadata"]["name"] for each in api.list(NAMESPACE)].count(own) == 0
    assert api.get(NAMESPACE, others)
    assert api.get(NAMESPACE, twin.visitors_namespace(name)) is None
    assert real(api)


def test_zones_that_only_bear_the_name_stay(api: SimulatedApi) -> None:
    name = made(api)
    kept = zone(api, name, "of-somebody-else")
    shadow.remove(api, name, lambda _words: None)
    assert api.get(NAMESPACE, kept)


def test_after_a_kill_the_zones_are_still_known(api: SimulatedApi) -> None:
    name = made(api)
    own = zone(api, name, uid_of(api, name))
    archive = api.get(ARCHIVE, name)
    assert archive
    api.delete(archive)
    shadow.remove(api, name, lambda _words: None)
    assert api.get(NAMESPACE, own) is None


@pytest.mark.parametrize("taken", ["archive", "zone", "visitors"])
def test_a_taken_name_is_refused(api: SimulatedApi, taken: str) -> None:
    archive = real(api)
    name = twin.shadow_name(archive)
    if taken == "archive":
        api.put({**archive_manifest(), "metadata": {"name": name}})
    elif taken == "zone":
        zone(api, name, "x")
    else:
        api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": twin.visitors_namespace(name)}})
    with pytest.raises(shadow.ShadowError) as refused:
        shadow.claim(api, archive, CIDR)
    assert refused.value.reason == "NameTaken"


@pytest.mark.parametrize("there", ["archive", "visitors"])
def test_what_is_no_shadow_is_not_removed(api: SimulatedApi, there: str) -> None:
    name = twin.shadow_name(real(api))
    if there == "archive":
        api.put({**archive_manifest(), "metadata": {"name": name}})
    else:
        api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": twin.visitors_namespace(name)}})
    before = len(api.list(NAMESPACE)) + len(api.list(ARCHIVE))
    with pytest.raises(shadow.ShadowError) as refused:
        shadow.remove(api, name, lambda _words: None)
    assert refused.value.reason == "NotAShadow"
    assert len(api.list(NAMESPACE)) + len(api.list(ARCHIVE)) == before


def test_other_images_are_not_tried() -> None:
    def running(**images: str) -> dict[str, Any]:
        return {"status": {"effective": {"images": images}}}

    shadow.refuse_others_images(running(gate="a"), running(gate="a", postgres="p"))
    for real_images, made_images in (({"gate": "a"}, {"gate": "b"}), ({"gate": "a"}, {}), ({}, {})):
        with pytest.raises(shadow.ShadowError) as refused:
            shadow.refuse_others_images(running(**real_images), running(**made_images))
        assert refused.value.reason == "DigestsDiffer"


def test_the_reason_is_shown_when_it_does_not_become_ready(api: SimulatedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    name, told = made(api), list[str]()
    with pytest.raises(shadow.ShadowError, match="Ready is not told yet") as late:
        shadow.await_ready(api, name, 0, told.append)
    assert late.value.reason == "ShadowNotReady"
    assert told == ["Ready is not told yet"]


def try_it(api: SimulatedApi, monkeypatch: pytest.MonkeyPatch, file: Path) -> Any:
    monkeypatch.setattr(shadow, "_cluster", lambda: api)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    where = ["--gate-address", "198.18.10.1", "--visitor-cidr", CIDR, "--json", str(file)]
    return CliRunner().invoke(shadow.app, ["try", real(api)["metadata"]["name"], *where])


@pytest.mark.parametrize(("folder", "begun"), [("", True), ("not-there", False)])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_made(
    api: SimulatedApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str, begun: bool
) -> None:
    tried: list[object] = []

    def note(*told: object) -> dict[str, Any]:
        tried.append(told)
        return {"attacks": []}

    monkeypatch.setattr(shadow, "_tried", note)
    done = try_it(api, monkeypatch, tmp_path / folder / "shadow.json")
    assert (done.exit_code, bool(tried)) == ((0, True) if begun else (2, False))
    assert ("NotWritable: --json: " in done.stderr) is not begun
    assert bool(api.log.entries) is begun


@pytest.mark.parametrize("goes", [True, False])
def test_why_it_was_not_tried_is_said_also_where_the_removal_fails(
    api: SimulatedApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, goes: bool
) -> None:
    def fail(*_told: object) -> None:
        raise shadow.ShadowError("not within 600 s", reason="ShadowNotReady", action="wait")

    def stay(*_told: object) -> None:
        raise shadow.ShadowError("PacsArchive does not go", reason="DoesNotGo", action="look")

    monkeypatch.setattr(shadow, "_tried", fail)
    if not goes:
        monkeypatch.setattr(shadow, "remove", stay)
    done = try_it(api, monkeypatch, tmp_path / "shadow.json")
    words = [line.partition(":")[0] for line in done.stderr.splitlines()]
    assert (done.exit_code, words) == (2, ["ShadowNotReady", *([] if goes else ["DoesNotGo"])])
