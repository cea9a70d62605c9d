"""The agent brings renewed certificates into the HAProxy beside Orthanc, connections unharmed."""

import asyncio
from pathlib import Path

import pytest

from pacs_operator.agent.errors import NeighbourError
from pacs_operator.agent.neighbour import Changes
from pacs_operator.agent.orthancweb import OrthancWeb
from pacs_operator.agent.paths import Surroundings
from pacs_operator.domain.names import CaName

from .archive import ORTHANC_NAME
from .device import client_context, tls_connection
from .pki import Authority, Leaf
from .web import STUDIES, Client, WebStage

LEAF = "dicom-server"


def agent(stage: WebStage) -> OrthancWeb:
    copies = stage.folder / "copies"
    copies.mkdir(exist_ok=True)
    places = Surroundings(tls=stage.folder / "tls", run=stage.folder, web_tls=copies)
    return OrthancWeb(stage.folder / "web.sock", LEAF, places)


def served(stage: WebStage, trusted: Authority, own: Leaf) -> int:
    with tls_connection(stage.web.orthanc_port, client_context(trusted, own)) as connection:
        certificate = connection.getpeercert() or {}
    return int(str(certificate["serialNumber"]), 16)


def test_a_renewed_leaf_is_served_and_an_open_connection_goes_on(client: Client, stage: WebStage) -> None:
    internal = stage.site.internal
    own = internal.issue("gate.radiology-edge.svc")
    kept = client.connect()
    assert client.ask(STUDIES, over=kept).status == 200
    renewed = internal.issue(ORTHANC_NAME, server=True, client=True)
    assert served(stage, internal, own) != renewed.certificate.serial_number
    renewed.write(stage.folder / "tls", LEAF)
    asyncio.run(agent(stage).apply_certificates(Changes(leaves=frozenset({LEAF}))))
    assert served(stage, internal, own) == renewed.certificate.serial_number
    assert client.ask(STUDIES, over=kept).status == 200
    assert client.ask(STUDIES).status == 200
    kept.close()


def test_a_new_root_decides_who_is_served(client: Client, stage: WebStage) -> None:
    internal, other = stage.site.internal, Authority("other")
    root = stage.folder / "tls" / "ca-internal.pem"
    stranger = Client(stage.web.orthanc_port, client_context(internal, other.issue("gate.radiology-edge.svc")))
    assert stranger.ask(STUDIES).status is None
    root.write_bytes(internal.root_pem() + other.root_pem())
    asyncio.run(agent(stage).apply_certificates(Changes(roots=frozenset({CaName.INTERNAL}))))
    assert stranger.ask(STUDIES).status == 200
    root.write_bytes(internal.root_pem())
    asyncio.run(agent(stage).apply_certificates(Changes(roots=frozenset({CaName.INTERNAL}))))
    assert stranger.ask(STUDIES).status is None
    assert client.ask(STUDIES).status == 200


def test_what_it_does_not_take_is_told_and_asked_again(stage: WebStage, tmp_path: Path) -> None:
    gone = OrthancWeb(tmp_path / "web.sock", LEAF, Surroundings(tls=stage.folder / "tls", web_tls=tmp_path))
    with pytest.raises(NeighbourError):
        asyncio.run(gone.apply_certificates(Changes(leaves=frozenset({LEAF}))))
    asyncio.run(gone.apply_certificates(Changes(leaves=frozenset({"postgres-client"}))))


def test_it_has_copies_of_the_two_files_that_it_needs_and_of_no_other(stage: WebStage, tmp_path: Path) -> None:
    tls = stage.folder / "tls"
    (tls / "postgres-client.pem").write_text("another key of the pod")
    own, root = tls / f"{LEAF}.pem", tls / "ca-internal.pem"
    web = OrthancWeb(stage.folder / "web.sock", LEAF, Surroundings(tls=tls, web_tls=tmp_path))
    web.prepare()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        own.name: own.read_bytes(),
        root.name: root.read_bytes(),
    }
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    stage.site.internal.issue(ORTHANC_NAME, server=True, client=True).write(tls, LEAF)
    asyncio.run(web.apply_certificates(Changes(leaves=frozenset({LEAF}))))
    assert (tmp_path / own.name).read_bytes() == own.read_bytes()
    nowhere = OrthancWeb(stage.folder / "web.sock", LEAF, Surroundings(tls=tls, web_tls=tmp_path / "none"))
    with pytest.raises(NeighbourError, match="container web"):
        nowhere.prepare()
