"""Answers that a healthy Orthanc never gives, from a simulated REST interface."""

import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pacs_operator.agent import orthanc_rest
from pacs_operator.agent.errors import NeighbourError
from pacs_operator.agent.orthanc import OrthancNeighbour
from pacs_operator.agent.paths import Surroundings
from pacs_operator.domain.names import PROBE_AE_TITLE
from tests.agent.support import peer, peers
from tests.agent.test_orthanc import orthanc_config


class QuietServer(ThreadingHTTPServer):
    """Says nothing of clients that gave up waiting."""

    def handle_error(self, request: Any, client_address: Any) -> None: ...


class SimulatedRest:
    """Answers from a table; what is not in it is 404."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], tuple[int, bytes]] = {}
        self.calls: list[tuple[str, str]] = []
        self.hold = threading.Event()
        self.hold.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                call = (self.command, self.path)
                outer.calls.append(call)
                outer.hold.wait(30)
                status, body = outer.answers.get(call, (404, b""))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None: ...

        self.server = QuietServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def put(self, method: str, path: str, document: object, status: int = 200) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.answers[method, path] = (status, body)


@pytest.fixture
def rest() -> Iterator[SimulatedRest]:
    made = SimulatedRest()
    yield made
    made.hold.set()
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
async def neighbour(rest: SimulatedRest, surroundings: Surroundings) -> AsyncIterator[OrthancNeighbour]:
    (surroundings.config / "orthanc.json").write_text("{}")
    made = OrthancNeighbour(orthanc_config(rest.url), surroundings)
    yield made
    await made.close()


async def test_an_entry_that_does_not_stick_is_not_reported_as_applied(
    neighbour: OrthancNeighbour, rest: SimulatedRest
) -> None:
    rest.put("GET", "/modalities?expand", {})
    rest.answers["PUT", "/modalities/ae-435431"] = (200, b"")  # says yes, does nothing
    with pytest.raises(NeighbourError) as refused:
        await neighbour.apply_peers(peers("r1", peer(1)))
    assert refused.value.reason == "ReadBackDiffers"


async def test_a_right_we_do_not_know_counts_as_a_difference(
    neighbour: OrthancNeighbour, rest: SimulatedRest, surroundings: Surroundings
) -> None:
    await neighbour.prepare(peers("r1", peer(1)))
    file = json.loads((surroundings.run / "orthanc" / "orthanc.json").read_bytes())
    entry = file["DicomModalities"]["ae-435431"]
    rest.put("GET", "/modalities?expand", {"ae-435431": entry})
    assert await neighbour.apply_peers(peers("r1", peer(1))) == "r1"
    rest.put("GET", "/modalities?expand", {"ae-435431": entry | {"AllowNovelty": True}})
    rest.answers["PUT", "/modalities/ae-435431"] = (200, b"")
    with pytest.raises(NeighbourError):
        await neighbour.apply_peers(peers("r1", peer(1)))


async def test_a_patient_that_is_not_the_runs_is_never_removed(
    neighbour: OrthancNeighbour, rest: SimulatedRest
) -> None:
    rest.put("POST", "/tools/find", ["aaa"])
    rest.put("GET", "/patients/aaa", {"MainDicomTags": {"PatientID": "P1"}})
    with pytest.raises(NeighbourError) as refused:
        await neighbour.remove_probe_objects("run1")
    assert refused.value.reason == "ForeignPatientFound" and "P1" not in refused.value.message
    assert all(method != "DELETE" for method, _ in rest.calls)
    rest.put("GET", "/patients/aaa", {"MainDicomTags": {"PatientID": "PACSPROBE-run1"}})
    rest.put("GET", "/patients/aaa/statistics", {"CountInstances": "2"})
    rest.put("DELETE", "/patients/aaa", {})
    assert await neighbour.remove_probe_objects("run1") == 2
    assert rest.calls[-1] == ("DELETE", "/patients/aaa")


async def test_of_what_is_held_only_the_runs_own_is_discarded(neighbour: OrthancNeighbour, rest: SimulatedRest) -> None:
    rest.put("POST", "/tools/find", [])
    owners = {"aaa": (PROBE_AE_TITLE, "PACSPROBE-run1"), "bbb": (PROBE_AE_TITLE, "PACSPROBE-run2"),
              "ccc": ("CT1", "PACSPROBE-run1"), "ddd": ("", "P1")}  # fmt: skip
    rest.put("GET", "/pacs/quarantine", [{"id": name, "aet": aet} for name, (aet, _) in owners.items()])
    for name, (_, patient) in owners.items():
        rest.put("GET", f"/pacs/quarantine/{name}", {"held": {"PatientID": patient}, "stored": []})
        rest.put("DELETE", f"/pacs/quarantine/{name}", {"discarded": name})
    assert await neighbour.remove_probe_objects("run1") == 1
    assert [path for method, path in rest.calls if method == "DELETE"] == ["/pacs/quarantine/aaa"]


@pytest.mark.parametrize("answer", [{}, ["aaa"]])
async def test_a_senseless_list_of_what_is_held_removes_nothing(
    answer: object, neighbour: OrthancNeighbour, rest: SimulatedRest
) -> None:
    rest.put("POST", "/tools/find", ["aaa"])
    rest.put("GET", "/pacs/quarantine", answer)
    with pytest.raises(NeighbourError):
        await neighbour.remove_probe_objects("run1")
    assert all(method != "DELETE" for method, _ in rest.calls)


@pytest.mark.parametrize(("status", "body"), [(503, b""), (200, b"<html>"), (200, b"[]"), (401, b"{}")])
async def test_senseless_answers_are_typed_errors_without_identifiers(
    status: int, body: bytes, neighbour: OrthancNeighbour, rest: SimulatedRest
) -> None:
    rest.answers["GET", "/modalities?expand"] = (status, body)
    with pytest.raises(NeighbourError):
        await neighbour.apply_peers(peers("r1", peer(1)))
    rest.put("POST", "/tools/find", ["0123-secret"])
    rest.answers["GET", "/patients/0123-secret"] = (status, body)
    with pytest.raises(NeighbourError) as refused:
        await neighbour.remove_probe_objects("run1")
    assert "secret" not in refused.value.message


async def test_a_database_that_is_down_is_not_ready_but_alive(neighbour: OrthancNeighbour, rest: SimulatedRest) -> None:
    rest.put("GET", "/system", {})
    rest.put("GET", "/tools/now", b"20300101T000000")
    rest.put("GET", "/statistics", b"", status=503)
    assert not await neighbour.ready() and await neighbour.alive()
    rest.put("GET", "/statistics", {})
    assert await neighbour.ready()


async def test_a_hanging_orthanc_is_neither(
    neighbour: OrthancNeighbour, rest: SimulatedRest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orthanc_rest.OrthancRest.call, "__defaults__", (None, 0.3))
    rest.hold.clear()
    assert not await neighbour.ready() and not await neighbour.alive()
    with pytest.raises(NeighbourError, match="does not answer GET /modalities \\(ReadTimeout\\)"):
        await neighbour.apply_peers(peers("r1", peer(1)))


@pytest.mark.parametrize("web", [True, False])
async def test_the_haproxy_beside_orthanc_finds_its_certificates_where_there_is_one(
    web: bool, rest: SimulatedRest, surroundings: Surroundings, tmp_path: Path
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    (surroundings.config / "orthanc.json").write_text("{}")
    for name in ("dicom-server.pem", "ca-internal.pem", "control.pem"):
        (surroundings.tls / name).write_text(name)
    socket = str(tmp_path / "web.sock") if web else None
    config = orthanc_config(rest.url).model_copy(update={"web_socket": socket})
    made = OrthancNeighbour(config, replace(surroundings, web_tls=copies))
    await made.prepare(peers("r1"))
    await made.close()
    assert {path.name for path in copies.iterdir()} == ({"dicom-server.pem", "ca-internal.pem"} if web else set())
