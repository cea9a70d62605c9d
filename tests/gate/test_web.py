"""DICOMweb through the gate and the HAProxy beside Orthanc: identity, rights, routes, limits, revocation."""

import itertools
import re
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from pacs_operator.domain.gatepeers import LivePeer
from pacs_operator.domain.peer import Right

from .device import client_context
from .pki import Leaf
from .process import Site, peer, wait_for
from .web import HEALTH, Client, Reply, Upstream, WebStage, running_web, web_layout

STUDIES = "/dicom-web/studies"
CHUNKED = {"Transfer-Encoding": "chunked"}
ALL = (Right.ECHO, Right.STORE, Right.FIND, Right.GET)
_numbers = itertools.count(1)
MakeClient = Callable[..., Client]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.gate.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def stage(site: Site, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebStage]:
    with running_web(site, tmp_path_factory.mktemp("web"), web_layout(upstream.port)) as running:
        yield running


@pytest.fixture(autouse=True)
def _clean(stage: WebStage, upstream: Upstream) -> Iterator[None]:
    upstream.seen.clear()
    upstream.gate.set()
    yield
    upstream.gate.set()
    stage.gate.apply({})


def admitted(stage: WebStage, name: str, **rights: object) -> tuple[Client, Leaf, LivePeer]:
    dns = f"{name}-{next(_numbers)}.imaging.example"
    leaf = stage.site.peers.issue(dns)
    rights.setdefault("rights", ALL)
    live = peer(name, dns, name.upper(), **rights)  # type: ignore[arg-type]
    stage.gate.put(live)
    return stage.client(leaf), leaf, live


@pytest.fixture
def client(stage: WebStage) -> Client:
    return admitted(stage, "viewer")[0]


def said(stage: WebStage, *reasons: str) -> None:
    """Wait for the record of the last request; it is written behind the answer."""
    wait_for(lambda: stage.reasons()[-1:] and stage.reasons()[-1] in reasons, f"a record that says {reasons}")


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


def in_background(act: Callable[[], Reply]) -> tuple[threading.Thread, list[Reply]]:
    replies: list[Reply] = []
    thread = threading.Thread(target=lambda: replies.append(act()))
    thread.start()
    return thread, replies


@pytest.mark.parametrize("how", ["peer removed", "certificate revoked", "contained"])
def test_requests_under_way_end(how: str, stage: WebStage, upstream: Upstream) -> None:
    """A request that Orthanc is still busy with ends; the next one over the same connection is refused."""
    client, leaf, live = admitted(stage, "viewer")
    other, _, _ = admitted(stage, "other")
    idle = client.connect()
    assert client.ask(STUDIES, over=idle).status == 200
    upstream.gate.clear()
    busy, replies = in_background(lambda: client.ask(STUDIES, "POST", b"x" * 1000))
    held, spared = in_background(lambda: other.ask(STUDIES))
    wait_for(lambda: upstream.waiting == 2, "both are with Orthanc")
    if how == "peer removed":
        stage.gate.remove(live.id)
    elif how == "contained":
        stage.gate.put(live.model_copy(update={"contained": True}))
    else:
        stage.site.peers.revoke(leaf)
        stage.gate.refresh_crl()
    busy.join(20)
    assert [reply.status for reply in replies] in ([None], [502], [503])
    expected = {"peer removed": 403, "contained": 503, "certificate revoked": 403}[how]
    assert client.ask(STUDIES, over=idle).status == expected
    reason = {
        "peer removed": "UnknownCertificate",
        "contained": "Contained",
        "certificate revoked": "RevokedCertificate",
    }
    said(stage, reason[how])
    upstream.gate.set()
    held.join(20)
    assert [reply.status for reply in spared] == [200]
    idle.close()


def test_an_agent_that_starts_again_revokes_as_before(stage: WebStage) -> None:
    client, leaf, live = admitted(stage, "viewer")
    idle = client.connect()
    assert client.ask(STUDIES, over=idle).status == 200
    stage.gate.new_agent()
    stage.gate.put(live)
    stage.site.peers.revoke(leaf)
    stage.gate.refresh_crl()
    assert client.ask(STUDIES, over=idle).status == 403
    renewed = stage.client(stage.site.peers.issue(live.dns_name or ""))
    assert renewed.ask(STUDIES).status == 200


def test_what_is_too_large_is_refused_before_it_is_sent(client: Client, stage: WebStage, upstream: Upstream) -> None:
    limit = stage.web.max_body_bytes
    assert client.ask(STUDIES, "POST", b"x" * limit).status == 200
    connection = client.connect()
    for length in (limit + 1, 2**31, 2**40):
        connection = client.connect()
        connection.putrequest("POST", STUDIES)
        connection.putheader("Content-Length", str(length))
        connection.endheaders()  # and not one byte of the body
        assert connection.getresponse().status == 413
        connection.close()
    said(stage, "TooLarge")
    assert upstream.asked() == [("POST", STUDIES)]


def test_a_body_in_pieces_ends_where_it_becomes_too_large(client: Client, stage: WebStage, upstream: Upstream) -> None:
    limit = stage.web.max_body_bytes
    whole, longer = [bytes(limit // 4)] * 4, [bytes(limit // 4)] * 5
    assert client.ask(STUDIES, "POST", iter(whole), headers=CHUNKED).status == 200
    assert upstream.seen[-1].received == limit
    assert client.ask(STUDIES, "POST", iter(longer), headers=CHUNKED).status == 413
    said(stage, "TooLarge")
    assert upstream.asked() == [("POST", STUDIES)]


def test_of_its_own_limit_and_of_three_quarters_a_peer_gets_no_more(stage: WebStage, upstream: Upstream) -> None:
    greedy, _, live = admitted(stage, "greedy", limit=2)
    other, _, _ = admitted(stage, "other")
    upstream.gate.clear()
    under_way = [in_background(lambda: greedy.ask(STUDIES)) for _ in range(2)]
    wait_for(lambda: upstream.waiting == 2, "two are with Orthanc")
    refused = greedy.ask(STUDIES)
    assert (refused.status, refused.headers["retry-after"]) == (503, "2")
    said(stage, "TooManyRequests")
    served, replies = in_background(lambda: other.ask(STUDIES))
    wait_for(lambda: upstream.waiting == 3, "another peer is served")
    upstream.gate.set()
    for thread, _ in under_way:
        thread.join(20)
    served.join(20)
    assert [reply.status for reply in replies] == [200]
    assert greedy.ask(STUDIES).status == 200
    counted = stage.gate.activity(live.id)
    assert (counted.limited, counted.last_rejection_reason) == (1, "TooManyRequests")
    assert counted.requests == 3


def test_rate_and_total_of_the_gate(site: Site, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> None:
    web = web_layout(upstream.port, requests_per_minute=3, max_concurrent=2)
    with running_web(site, tmp_path_factory.mktemp("web"), web) as stage:
        hasty, _, _ = admitted(stage, "hasty")
        other, _, _ = admitted(stage, "other")
        third, _, _ = admitted(stage, "third")
        assert [hasty.ask(STUDIES).status for _ in range(5)] == [200, 200, 200, 429, 429]
        said(stage, "TooManyPerMinute")
        upstream.gate.clear()
        held = [in_background(partial(one.ask, STUDIES)) for one in (other, third)]
        wait_for(lambda: upstream.waiting == 2, "the gate is full")
        fourth, _, _ = admitted(stage, "fourth")
        assert fourth.ask(STUDIES).status == 503
        said(stage, "GateFull")
        upstream.gate.set()
        for thread, _ in held:
            thread.join(20)
        assert fourth.ask(STUDIES).status == 200


def test_an_archive_that_is_away_is_said_so(site: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    server = Upstream()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    with running_web(site, tmp_path_factory.mktemp("web"), web_layout(server.port)) as stage:
        client, _, _ = admitted(stage, "viewer")
        assert client.ask(STUDIES).status == 200
        server.shutdown()
        server.server_close()
        wait_for(lambda: not stage.up(), "the gate sees it", seconds=20)
        assert client.ask(STUDIES).status == 503
        said(stage, "ArchiveUnavailable")


@pytest.mark.parametrize("case", ["the gate's", "another of the pod's authority", "a device's", "none"])
def test_beside_orthanc_the_gate_alone_is_served(case: str, stage: WebStage, site: Site) -> None:
    leaves = {
        "the gate's": site.internal.issue("gate.radiology-edge.svc"),
        "another of the pod's authority": site.internal.issue("postgres.radiology-data.svc"),
        "a device's": site.peers.issue("gate.radiology-edge.svc"),
        "none": None,
    }
    client = Client(stage.web.orthanc_port, client_context(site.internal, leaves[case]))
    allowed = case == "the gate's"
    assert (client.ask(STUDIES).status == 200) is allowed
    assert client.ask("/system").status in ((403,) if allowed else (403, None))
    assert client.ask(STUDIES, "DELETE").status in ((403,) if allowed else (403, None))


def test_no_name_reaches_a_record(client: Client, stage: WebStage) -> None:
    assert client.ask(f"{STUDIES}?PatientName=CANARY*").status == 200
    assert client.ask("/CANARY").status == 403
    assert client.ask(STUDIES, "CANARY").status in (400, 405)
    wait_for(lambda: len(stage.reasons()) >= 3, "records")
    for log in (stage.gate.folder / "out.log", stage.folder / "out.log"):
        assert "CANARY" not in log.read_text()


def test_without_a_measure_each_attack_succeeds(
    site: Site, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What the gate refuses is refused by it: without its rules the same requests get through to the next."""

    def open_up(text: str) -> str:
        return re.sub(r"(str\((?:RouteNotAllowed|RightNotGranted)\)) (?:if|unless)", r"\1 if FALSE", text)

    with running_web(site, tmp_path_factory.mktemp("web"), web_layout(upstream.port), open_up) as stage:
        client, _, _ = admitted(stage, "viewer", rights=(Right.ECHO,))
        assert client.ask(STUDIES).status == 200
        assert client.ask("/system").status == 403  # by the HAProxy beside Orthanc
        assert ("GET", "/system") not in upstream.asked()
