"""DICOMweb's connections: they take none of DICOM's, end with what made them right, and carry HTTP/1.1 alone."""

from __future__ import annotations

import contextlib
import csv
import io
import socket

import pytest

from pacs_operator.domain import gatemaps
from pacs_operator.domain.peer import Right

from .device import ask, associate_rq, client_context, tls_connection
from .pki import now
from .process import Site, peer, wait_for
from .web import ALL, HEALTH, STUDIES, Client, Upstream, WebStage, admitted, running_web, said, web_layout

PDU_AC = 2
_SOURCES = [f"127.0.1.{number}" for number in range(1, 6)]


def hold(port: int, source: str, count: int, stack: contextlib.ExitStack) -> list[socket.socket]:
    """Open connections of one source that say nothing, as many as are taken."""
    taken = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            taken.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), 0.1, (source, 0))))
    return taken


def connections(stage: WebStage) -> int:
    """Return how many connections the gate's web listener has."""
    rows = csv.DictReader(io.StringIO(stage.gate.ask("show stat web 1 -1").lstrip("# ")))
    return int(next(rows)["scur"])


def opened(stage: WebStage) -> dict[str, int]:
    """Return how many connections each peer's slot has ever opened towards the archive's pod."""
    rows = csv.DictReader(io.StringIO(stage.gate.ask("show stat -1 4 -1").lstrip("# ")))
    slots = [row for row in rows if row["pxname"].startswith(gatemaps.WEB_PREFIX)]
    return {row["pxname"]: int(row["connect"]) for row in slots if int(row["connect"])}


@pytest.mark.parametrize("case", ["all that web may have", "all of the device's own address"])
def test_idle_web_connections_keep_no_device_out(
    case: str, site: Site, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """They stay idle for a minute here, so that whoever has to wait for them is not served in time."""

    def patient(text: str) -> str:
        return text.replace("timeout client-hs 5s", "timeout client-hs 60s")

    web = web_layout(upstream.port, max_concurrent=24)
    with (
        running_web(site, tmp_path_factory.mktemp("web"), web, patient, max_associations=8) as stage,
        contextlib.ExitStack() as stack,
    ):
        wait_for(stage.gate.archive_reachable, "HAProxy's check of the archive is good")
        leaf = site.peers.issue("mr1.imaging.example")
        stage.gate.put(peer("mr1", "mr1.imaging.example", "MR1"))
        most = web.max_connections_per_source + 8
        sources = _SOURCES if case == "all that web may have" else ["127.0.0.1"]
        taken = [one for source in sources for one in hold(stage.port, source, most, stack)]
        bound = min(web.max_connections, len(sources) * web.max_connections_per_source)
        wait_for(lambda: connections(stage) == bound, "web has all that it may have")
        assert len(taken) >= bound
        answer = ask(stage.gate.port, client_context(site.peers, leaf), associate_rq(calling=b"MR1"))
        assert answer.pdu == PDU_AC


def test_an_expired_certificate_ends_its_connection(stage: WebStage, site: Site, upstream: Upstream) -> None:
    name = "short-lived.imaging.example"
    stage.gate.put(peer("short", name, "SHORT", rights=ALL))
    leaf = site.peers.issue(name, days=4 / 86400)
    client, lasting = stage.client(leaf), stage.client(site.peers.issue(name))
    kept, other = client.connect(), lasting.connect()
    assert [one.ask(STUDIES, over=over).status for one, over in ((client, kept), (lasting, other))] == [200, 200]
    wait_for(lambda: now() > leaf.certificate.not_valid_after_utc, "the certificate has expired")
    refused = client.ask(STUDIES, over=kept)
    assert (refused.status, refused.headers["connection"], kept.sock) == (403, "close", None)
    said(stage, "ExpiredCertificate")
    assert lasting.ask(STUDIES, over=other).status == 200
    other.close()


@pytest.mark.parametrize("case", ["revoked", "right", "path", "method", "query", "size"])
def test_who_is_refused_keeps_no_connection(case: str, stage: WebStage) -> None:
    client, leaf, live = admitted(stage, "viewer")
    kept = client.connect()
    assert client.ask(STUDIES, over=kept).headers.get("connection") is None
    assert kept.sock is not None
    path, method, headers, status = STUDIES, "GET", {}, 403
    match case:
        case "revoked":
            stage.site.peers.revoke(leaf)
            stage.gate.refresh_crl()
        case "right":
            stage.gate.put(live.model_copy(update={"rights": [Right.STORE]}))
        case "path":
            path = "/system"
        case "method":
            method, status = "DELETE", 405
        case "query":
            path, status = f"{STUDIES}?expand", 400
        case "size":
            method, headers, status = "POST", {"Content-Length": str(2**40)}, 413
    kept.request(method, path, headers=headers)
    response = kept.getresponse()
    assert (response.status, response.getheader("connection")) == (status, "close")
    response.read()
    kept.close()


def test_who_is_only_too_early_keeps_its_connection(stage: WebStage) -> None:
    client, _, live = admitted(stage, "viewer")
    kept = client.connect()
    assert client.ask(STUDIES, over=kept).status == 200
    stage.gate.put(live.model_copy(update={"contained": True}))
    assert client.ask(STUDIES, over=kept).status == 503
    assert kept.sock is not None
    kept.close()


def raw(client: Client, request: str) -> bytes:
    """Send what no well-behaved library would; return how the answer begins."""
    with tls_connection(client.port, client.context) as connection:
        connection.sendall(request.encode())
        return connection.recv(12)


CHUNKS = "Host: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"


@pytest.mark.parametrize("beside", [False, True], ids=["at the gate", "beside Orthanc"])
def test_http_1_1_alone_is_spoken(beside: bool, client: Client, stage: WebStage, upstream: Upstream) -> None:
    if beside:
        own = stage.site.internal.issue("gate.radiology-edge.svc")
        client = Client(stage.web.orthanc_port, client_context(stage.site.internal, own))
    for request in (f"GET {STUDIES} HTTP/1.0\r\n\r\n", f"POST {STUDIES} HTTP/1.0\r\n{CHUNKS}\r\n"):
        assert raw(client, request).endswith(b" 400")
    assert upstream.asked() == []
    assert raw(client, f"POST {STUDIES} HTTP/1.1\r\n{CHUNKS}\r\n").endswith(b" 200")


def test_headers_behind_the_body_are_dropped(client: Client, upstream: Upstream) -> None:
    trailers = "X-HTTP-Method-Override: DELETE\r\nAuthorization: x\r\n\r\n"
    assert raw(client, f"POST {STUDIES} HTTP/1.1\r\n{CHUNKS}{trailers}").endswith(b" 200")
    [seen] = [one for one in upstream.seen if one.path != HEALTH]
    assert (seen.received, seen.trailers) == (5, [])


def test_who_connects_anew_each_time_costs_one_connection_to_the_pod_and_shares_it_with_nobody(
    site: Site, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """On one thread, since each has connections of its own."""
    with running_web(site, tmp_path_factory.mktemp("web"), web_layout(upstream.port), threads=1) as stage:
        viewer, router = admitted(stage, "viewer")[0], admitted(stage, "router")[0]
        assert [viewer.ask(STUDIES).status for _ in range(3)] == [200] * 3
        assert sorted(opened(stage).values()) == [1]
        assert router.ask(STUDIES).status == 200
        assert sorted(opened(stage).values()) == [1, 1]
    # Beside Orthanc the gate is the only client, and what reads has nothing of a peer's any more.
    assert len({one.connection for one in upstream.seen if one.path != HEALTH}) == 1


def test_what_reads_shares_a_connection_to_orthanc_and_what_stores_has_one_of_its_own(
    client: Client, upstream: Upstream
) -> None:
    with contextlib.closing(client.connect()) as over:
        for method in ("GET", "POST", "GET", "POST", "GET"):
            assert client.ask(STUDIES, method, b"x" if method == "POST" else None, over=over).status == 200
    used = [(one.method, one.connection) for one in upstream.seen if one.path != HEALTH]
    reads, stores = ([port for way, port in used if way == method] for method in ("GET", "POST"))
    assert (len(set(reads)), len(set(stores))) == (1, 2)
    assert not set(reads) & set(stores)


def test_a_read_whose_connection_orthanc_ended_is_asked_once_more(client: Client, upstream: Upstream) -> None:
    """Orthanc ends what was idle for a second, and a request may come at that moment."""
    with contextlib.closing(client.connect()) as over:
        assert client.ask(STUDIES, over=over).status == 200
        upstream.last = 2
        assert client.ask(STUDIES, over=over).status == 200
        assert upstream.ended == 1


@pytest.mark.parametrize(("method", "times"), [("GET", 2), ("POST", 1)])
def test_what_is_never_answered_is_asked_no_oftener_and_stored_never_again(
    method: str, times: int, client: Client, upstream: Upstream
) -> None:
    upstream.last = 1
    assert client.ask(STUDIES, method, b"x" if method == "POST" else None).status in (502, 503)
    assert upstream.ended == times
