"""DICOMweb through the gate and the HAProxy beside Orthanc: identity, rights, routes."""

import socket

import pytest

from pacs_operator.domain.peer import Right

from .process import Site
from .web import (
    HEALTH,
    STUDIES,
    Client,
    Upstream,
    WebStage,
    admitted,
    said,
)

SERVED = {
    "stow": ("POST", STUDIES),
    "stow into a study": ("POST", f"{STUDIES}/1.2.3"),
    "studies": ("GET", f"{STUDIES}?PatientName=O'Neil*&limit=10&includefield=00081030&00080020=20200101-20201231"),
    "series": ("GET", "/dicom-web/series"),
    "instances": ("GET", "/dicom-web/instances?SOPInstanceUID=1.2.3"),
    "series of a study": ("GET", f"{STUDIES}/1.2.3/series"),
    "instances of a series": ("GET", f"{STUDIES}/1.2.3/series/1.2/instances?offset=5"),
    "a name in UTF-8": ("GET", f"{STUDIES}?PatientName=%E5%B1%B1%E7%94%B0%5E%E5%A4%AA%E9%83%8E"),
    "study": ("GET", f"{STUDIES}/1.2.3"),
    "metadata": ("GET", f"{STUDIES}/1.2.3/metadata"),
    "instance": ("GET", f"{STUDIES}/1.2.3/series/1.2/instances/1.2.3.4"),
    "frames": ("GET", f"{STUDIES}/1.2.3/series/1.2/instances/1.2.3.4/frames/1,2"),
    "a frame rendered": ("GET", f"{STUDIES}/1.2.3/series/1.2/instances/1.2.3.4/frames/1/rendered"),
    "rendered": ("GET", f"{STUDIES}/1.2.3/series/1.2/instances/1.2.3.4/rendered?window=40,400,LINEAR&viewport=64,64"),
    "bulk data": ("GET", f"{STUDIES}/1.2.3/series/1.2/instances/1.2.3.4/bulk/00420011"),
}


@pytest.mark.parametrize("case", SERVED)
def test_what_dicomweb_knows_arrives_as_it_was_sent(case: str, client: Client, upstream: Upstream) -> None:
    method, path = SERVED[case]
    assert client.ask(path, method).status == 200
    assert upstream.asked() == [(method, path)]


ROUTES = {
    "system": "/system",
    "root": "/",
    "instances": "/instances",
    "an instance's file": "/instances/d2a0c3f1/file",
    "tools": "/tools/find",
    "modalities": "/modalities",
    "the plugin's own": "/pacs/activity",
    "statistics": "/statistics",
    "the explorer": "/app/explorer.html",
    "WADO-URI": "/wado?requestType=WADO",
    "the plugin's root": "/dicom-web/",
    "its servers": "/dicom-web/servers",
    "its client": "/dicom-web/studies/retrieve",
    "health of the other side": "/healthz",
    "two slashes": "/dicom-web//studies",
    "slashes first": "//dicom-web/studies",
    "a step up": "/dicom-web/../system",
    "a step up, encoded": "/dicom-web/%2e%2e/system",
    "a step up after a study": f"{STUDIES}/1.2.3/../../../system",
    "a slash, encoded": "/dicom-web%2fstudies",
    "a letter, encoded": "/dicom-web/%73tudies",
    "upper case": "/DICOM-WEB/studies",
    "a backslash": "/dicom-web\\studies",
    "a semicolon": "/dicom-web/studies;/../../system",
    "NUL behind": "/dicom-web/studies%00",
    "dots for a UID": f"{STUDIES}/../metadata",
    "a UID that is none": f"{STUDIES}/1..2/metadata",
    "whole address": f"http://127.0.0.1{STUDIES}",
}


@pytest.mark.parametrize("case", ROUTES)
def test_every_other_path_is_refused_at_the_gate(
    case: str, client: Client, stage: WebStage, upstream: Upstream
) -> None:
    assert client.ask(STUDIES).status == 200
    assert client.ask(ROUTES[case]).status in (400, 403)
    said(stage, "RouteNotAllowed", "NoRequest")
    assert upstream.asked() == [("GET", STUDIES)]


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "HEAD", "CONNECT", "PROPFIND", "get"])
def test_other_methods_are_refused(method: str, client: Client, stage: WebStage, upstream: Upstream) -> None:
    assert client.ask(STUDIES, method).status in (400, 405)
    said(stage, "MethodNotAllowed", "NoRequest")
    assert upstream.asked() == []
    assert client.ask(STUDIES, "GET").status == 200


@pytest.mark.parametrize(("method", "path"), [("POST", "/dicom-web/series"), ("POST", f"{STUDIES}/1.2/metadata")])
def test_a_post_is_for_storing_alone(method: str, path: str, client: Client, upstream: Upstream) -> None:
    assert client.ask(path, method).status == 403
    assert upstream.asked() == []


@pytest.mark.parametrize(
    "query",
    [
        "_method=DELETE",
        "PatientName=A&_method=DELETE",
        "PatientName=%00",
        "PatientName=%0d%0aX:%20y",
        "Patient%4eame=A",
        "expand",
        "limit=1#x",
        "patientname=A",
    ],
)
def test_queries_that_dicomweb_does_not_know_are_refused(
    query: str, client: Client, stage: WebStage, upstream: Upstream
) -> None:
    assert client.ask(f"{STUDIES}?{query}").status == 400
    said(stage, "QueryNotAllowed", "NoRequest")
    assert upstream.asked() == []
    assert client.ask(f"{STUDIES}?PatientName=A").status == 200


def test_storing_takes_no_query(client: Client, upstream: Upstream) -> None:
    assert client.ask(f"{STUDIES}?_method=DELETE", "POST").status == 400
    assert upstream.asked() == []


def test_headers_that_change_what_orthanc_does_stay_outside(client: Client, upstream: Upstream) -> None:
    dropped = {
        "X-HTTP-Method-Override": "DELETE",
        "Authorization": "Basic b3J0aGFuYzpvcnRoYW5j",
        "Cookie": "a=b",
        "Forwarded": "for=1.2.3.4;host=evil.example",
        "X-Forwarded-Host": "evil.example",
        "Content-Encoding": "gzip",
        "Upgrade": "h2c",
        "Range": "bytes=0-1",
    }
    kept = {"Accept": "application/dicom+json", "Content-Type": "multipart/related"}
    assert client.ask(STUDIES, "POST", b"abc", headers=dropped | kept).status == 200
    [seen] = [one for one in upstream.seen if one.path != HEALTH]
    assert (seen.method, seen.received) == ("POST", 3)
    assert set(seen.headers) == {"host", "accept", "content-type", "transfer-encoding", "connection"}


def test_a_body_where_none_belongs_is_refused(client: Client, stage: WebStage, upstream: Upstream) -> None:
    assert client.ask(STUDIES, "GET", b"smuggled").status == 400
    said(stage, "BadRequest")
    assert upstream.asked() == []


def test_nobody_without_a_certificate_gets_an_answer(client: Client, stage: WebStage, upstream: Upstream) -> None:
    nobody = stage.client(None)
    assert nobody.ask(STUDIES).status is None
    assert nobody.ask(STUDIES, headers={"Authorization": "Basic b3J0aGFuYzpvcnRoYW5j"}).status is None
    assert upstream.asked() == []
    said(stage, "NoRequest")
    assert client.ask(STUDIES).status == 200


@pytest.mark.parametrize("case", ["foreign", "expired", "server only", "two names", "plain HTTP"])
def test_certificates_that_are_not_right(case: str, stage: WebStage, site: Site, upstream: Upstream) -> None:
    client, _, live = admitted(stage, "viewer")
    name = live.dns_name or ""
    attackers = {
        "foreign": lambda: site.internal.issue(name),
        "expired": lambda: site.peers.issue(name, days=-1),
        "server only": lambda: site.peers.issue(name, server=True),
        "two names": lambda: site.peers.issue(name, "other.imaging.example"),
    }
    if case == "plain HTTP":
        with socket.create_connection(("127.0.0.1", stage.port)) as plain:
            plain.sendall(f"GET {STUDIES} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert b"200" not in plain.recv(100)
    else:
        assert stage.client(attackers[case]()).ask(STUDIES).status in (None, 403)
    assert upstream.asked() == []
    assert client.ask(STUDIES).status == 200


def test_a_certificate_of_nobody_and_a_foreign_source(stage: WebStage, upstream: Upstream) -> None:
    stranger = stage.client(stage.site.peers.issue("stranger.imaging.example"))
    assert stranger.ask(STUDIES).status == 403
    said(stage, "UnknownCertificate")
    client, leaf, _ = admitted(stage, "viewer", sources=("127.0.0.7/32",))
    assert client.ask(STUDIES).status == 403
    said(stage, "SourceNotAllowed")
    assert upstream.asked() == []
    assert stage.client(leaf, source="127.0.0.7").ask(STUDIES).status == 200


RIGHTS = {Right.STORE: ("POST", STUDIES), Right.FIND: ("GET", STUDIES), Right.GET: ("GET", f"{STUDIES}/1.2.3")}


@pytest.mark.parametrize("right", RIGHTS)
def test_each_service_needs_its_right_alone(right: Right, stage: WebStage, upstream: Upstream) -> None:
    method, path = RIGHTS[right]
    others = tuple(other for other in Right if other is not right)
    client, _, live = admitted(stage, "viewer", rights=others)
    assert client.ask(path, method).status == 403
    said(stage, "RightNotGranted")
    assert upstream.asked() == []
    stage.gate.put(live.model_copy(update={"rights": [right]}))
    assert client.ask(path, method).status == 200
    stage.gate.put(live)
    assert client.ask(path, method).status == 403


def test_a_right_is_taken_away_from_an_open_connection(stage: WebStage) -> None:
    client, _, live = admitted(stage, "viewer")
    kept = client.connect()
    assert client.ask(STUDIES, over=kept).status == 200
    stage.gate.put(live.model_copy(update={"rights": [Right.STORE]}))
    assert client.ask(STUDIES, over=kept).status == 403
    kept.close()
