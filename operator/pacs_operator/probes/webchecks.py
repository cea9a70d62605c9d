"""DICOMweb at each gate replica: searched and retrieved as a client does, and attacked; each attack with its twin."""

import email
import email.policy
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from io import BytesIO

from pydicom import Dataset, dcmread, dcmwrite

from pacs_operator.domain.checks import Check, Layer
from pacs_operator.probes.compare import decode, differences, encode
from pacs_operator.probes.servicechecks import Exchange
from pacs_operator.probes.setting import Setting
from pacs_operator.probes.tls import Credentials, client_context
from pacs_operator.probes.verdict import PASSED, Verdict, failed, judge, not_run
from pacs_operator.probes.wire import Endpoint, handshake_code

STUDIES = "/dicom-web/studies"
# What an administrator of Orthanc may do, and other ways of writing a path that leads there.
ROUTES = (
    "/system",
    "/instances",
    "/tools/now",
    "/modalities",
    "/pacs/activity",
    "/dicom-web/servers",
    "/dicom-web//studies",
    "/dicom-web/../system",
    "/dicom-web/%2e%2e/system",
    "/dicom-web%2fstudies",
)
METHODS = ("TRACE", "OPTIONS", "PUT", "DELETE", "PATCH")
#: Orthanc's own default, which is in every scanner's list.
DEFAULT_PASSWORD = {"Authorization": "Basic b3J0aGFuYzpvcnRoYW5j"}
_MAX_BODY = 16 * 2**20
_BOUNDARY = "pacs-probe"


@dataclass(frozen=True)
class Reply:
    """What came back: an HTTP status, or the layer and code that refused."""

    layer: Layer
    code: str
    status: int | None = None
    body: bytes = b""
    kind: str = ""

    @property
    def served(self) -> bool:
        """Tell whether the request was done."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True)
class Request:
    """One request and who makes it; attack and twin differ in one of these."""

    credentials: Credentials | None
    path: str = STUDIES
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None


def ask(setting: Setting, replica: Endpoint, request: Request) -> Reply:
    """Make one request to one replica by its address."""
    config = setting.config
    connection = HTTPConnection(replica.address, config.gate_web_port or 0, timeout=config.bounds.connect_millis / 1000)
    try:
        connection.connect()
        connection.sock.settimeout(config.bounds.dimse_millis / 1000)
        context = client_context(setting.gate_trust, request.credentials)
        connection.sock = context.wrap_socket(connection.sock, server_hostname=setting.gate_trust.server_name)
        connection.request(request.method, request.path, request.body, dict(request.headers))
        response = connection.getresponse()
        body = response.read(_MAX_BODY)
    except ssl.SSLError as error:
        return Reply(*handshake_code(error))
    except (ConnectionError, HTTPException):
        # A client without a valid certificate learns it in TLS 1.3 only when it reads, and may meet the close first.
        return Reply(Layer.GATE, "closed")
    except OSError:
        return Reply(Layer.NETWORK, "timeout")
    finally:
        connection.close()
    kind = response.getheader("Content-Type") or ""
    return Reply(Layer.GATE, f"http-{response.status}", response.status, body, kind)


def query(setting: Setting, replica: Endpoint, exchange: Exchange) -> Verdict:
    """Search the run's instances by QIDO-RS: all that were stored by C-STORE, and no other."""
    expected = {each.uid for each in exchange.stored}
    if not expected:
        return not_run("nothing-stored")
    path = f"/dicom-web/instances?PatientID={exchange.objects.patient_id}"
    reply = ask(setting, replica, Request(setting.peer, path))
    if not reply.served:
        return failed(reply.layer, reply.code)
    found = {str(item["00080018"]["Value"][0]) for item in json.loads(reply.body or b"[]")}
    if found == expected:
        return PASSED
    return failed(Layer.DICOM, "missing" if expected - found else "unexpected")


def retrieve(setting: Setting, replica: Endpoint, exchange: Exchange) -> Verdict:
    """Retrieve an image by WADO-RS and compare every element and the transfer syntax."""
    if not exchange.stored:
        return not_run("nothing-stored")
    each = exchange.stored[0]
    reply = fetch(setting, replica, each.dataset)
    if not reply.served:
        return failed(reply.layer, reply.code)
    received = [dcmread(BytesIO(part)) for part in parts(reply)]
    if len(received) != 1:
        return failed(Layer.DICOM, f"matches-{len(received)}")
    syntax = received[0].file_meta.TransferSyntaxUID
    sent = decode(encode(each.dataset, each.transfer_syntax), each.transfer_syntax)
    same = syntax == each.transfer_syntax and not differences(sent, decode(encode(received[0], syntax), syntax))
    return PASSED if same else failed(Layer.DICOM, "differs")


def fetch(setting: Setting, replica: Endpoint, dataset: Dataset) -> Reply:
    """Ask for one object as it is stored, in its own transfer syntax (WADO-RS)."""
    series = f"{STUDIES}/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}"
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    path = f"{series}/instances/{dataset.SOPInstanceUID}"
    return ask(setting, replica, Request(setting.peer, path, headers=(("Accept", accept),)))


def part10(dataset: Dataset) -> bytes:
    """Return an object as a file (PS3.10 7)."""
    file = BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def stow(setting: Setting, file: bytes) -> Request:
    """Return the request of the good peer that stores one file (STOW-RS, PS3.18 10.5)."""
    headers = (
        ("Content-Type", f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}'),
        ("Accept", "application/dicom+json"),
    )
    body = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode() + file
    return Request(setting.peer, STUDIES, "POST", headers, body + f"\r\n--{_BOUNDARY}--\r\n".encode())


def parts(reply: Reply) -> list[bytes]:
    """Return the parts of a multipart answer."""
    head = f"Content-Type: {reply.kind}\r\n\r\n".encode("ascii", "replace")
    message = email.message_from_bytes(head + reply.body, policy=email.policy.HTTP)
    payloads = [part.get_payload(decode=True) for part in message.iter_parts()]
    return [payload for payload in payloads if isinstance(payload, bytes)]


def _without_certificate(setting: Setting) -> list[Request]:
    headers = tuple(DEFAULT_PASSWORD.items())
    return [Request(None), Request(None, headers=headers), Request(None, "/system", headers=headers)]


def _ungranted(setting: Setting) -> list[Request]:
    study = f"{STUDIES}/1.2.3"  # which nobody has: who is let through is answered 404
    return [Request(setting.store_only, path) for path in (STUDIES, study, f"{study}/metadata")]


ATTACKS: dict[Check, Callable[[Setting], list[Request]]] = {
    Check.WEB_NO_CERTIFICATE_REFUSED: _without_certificate,
    Check.WEB_FOREIGN_CERTIFICATE_REFUSED: lambda setting: [Request(setting.foreign)],
    Check.WEB_UNGRANTED_REFUSED: _ungranted,
    Check.WEB_ROUTE_REFUSED: lambda setting: [Request(setting.peer, path) for path in ROUTES],
    Check.WEB_METHOD_REFUSED: lambda setting: [Request(setting.peer, method=method) for method in METHODS],
}
#: Refusals of the gate; any other answer comes from behind it.
_REFUSED = frozenset({400, 403, 405})


def refused(setting: Setting, check: Check, replica: Endpoint) -> Verdict:
    """Make the requests of one attack, and its twin: a search by the good peer at the same place."""
    replies = [ask(setting, replica, request) for request in ATTACKS[check](setting)]
    through = next((reply for reply in replies if reply.status is not None and reply.status not in _REFUSED), None)
    if through is not None and through.status is not None and through.status >= 500:
        return not_run("error")  # no refusal: it may work once the error is gone
    lost = next((reply for reply in replies if reply.layer in (Layer.NETWORK, Layer.PROBE)), None)
    if through is None and lost is not None:
        return not_run("not-reached" if lost.layer is Layer.NETWORK else lost.code)
    shown = through or replies[0]
    twin = ask(setting, replica, Request(setting.peer, f"{STUDIES}?limit=1&PatientID={setting.config.patient_prefix}"))
    return judge(attack_succeeded=through is not None, layer=shown.layer, code=shown.code, twin_served=twin.served)
