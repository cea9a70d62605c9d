"""The archive's control port: removal of the run's objects by the restricted route, and attacks on that port."""

import json
import re
import ssl
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection

from pacs_operator.domain.checks import Layer
from pacs_operator.probes.client import SUCCESS, NotAssociatedError, Session, find
from pacs_operator.probes.servicechecks import PATIENT_ROOT, query, status_code
from pacs_operator.probes.setting import Setting
from pacs_operator.probes.tls import Credentials, client_context
from pacs_operator.probes.verdict import PASSED, Verdict, failed, judge, not_run
from pacs_operator.probes.wire import handshake_code

_RUN_NAME = re.compile(r"^[a-z0-9]{1,20}$")
_HTTP_OK = range(200, 300)


@dataclass(frozen=True)
class Reply:
    """What the control port answered: an HTTP status, or the layer and code that refused."""

    layer: Layer
    code: str
    status: int | None = None
    removed: int = 0

    @property
    def served(self) -> bool:
        """Tell whether the request was done."""
        return self.status in _HTTP_OK


def request(setting: Setting, credentials: Credentials | None, method: str, path: str) -> Reply:
    """Make one request with a client certificate, or with none."""
    config = setting.config
    context = client_context(setting.control_trust, credentials)
    connection = HTTPSConnection(
        config.orthanc_host,
        config.orthanc_control_port,
        context=context,
        timeout=config.bounds.dimse_millis / 1000,
    )
    try:
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read(4096)
    except ssl.SSLError as error:
        return Reply(*handshake_code(error))
    except (ConnectionError, HTTPException):
        # A client without a valid certificate learns it in TLS 1.3 only when it reads, and may meet the close first.
        return Reply(Layer.CONTROL, "closed")
    except OSError:
        return Reply(Layer.NETWORK, "timeout")
    finally:
        connection.close()
    return Reply(Layer.CONTROL, f"http-{response.status}", response.status, _removed(body))


def _removed(body: bytes) -> int:
    try:
        count = json.loads(body)["removed"]
    except (ValueError, KeyError, TypeError):
        return 0
    return count if isinstance(count, int) else 0


def remove_run(setting: Setting, run: str) -> Reply:
    """Ask the agent beside Orthanc to remove the objects of one run."""
    return request(setting, setting.cleanup, "DELETE", f"/probe-objects/{run}")


def foreign_refused(setting: Setting) -> Verdict:
    """Ask for removal with a modality's certificate; twin: the same request with the clean-up certificate.

    The run named has no objects, so that a success of either does nothing.
    """
    path = f"/probe-objects/{nobodys_run(setting)}"
    attack = request(setting, setting.peer, "DELETE", path)
    twin = request(setting, setting.cleanup, "DELETE", path)
    return _judge(attack, twin)


def route_refused(setting: Setting) -> Verdict:
    """Ask for the status with the clean-up certificate; twin: its own route with the same certificate."""
    attack = request(setting, setting.cleanup, "GET", "/status")
    twin = request(setting, setting.cleanup, "DELETE", f"/probe-objects/{nobodys_run(setting)}")
    return _judge(attack, twin)


def nobodys_run(setting: Setting) -> str:
    """Return the name of a run that has no objects."""
    return ("none" + setting.config.run)[:20]


def _judge(attack: Reply, twin: Reply) -> Verdict:
    if attack.layer in (Layer.NETWORK, Layer.PROBE):
        return not_run("not-reached" if attack.layer is Layer.NETWORK else attack.code)
    # A server error is no refusal: the route may work once the error is gone.
    if attack.status is not None and attack.status >= 500:
        return not_run("error")
    return judge(attack_succeeded=attack.served, layer=attack.layer, code=attack.code, twin_served=twin.served)


def removed(setting: Setting, session: Session, *, anything_stored: bool) -> Verdict:
    """Remove this run's objects and prove by C-FIND that they are gone."""
    reply = remove_run(setting, setting.config.run)
    if not reply.served:
        return failed(reply.layer, reply.code)
    if anything_stored and reply.removed == 0:
        return failed(Layer.CONTROL, "removed-0")
    left, status = left_over(session, setting.config.patient_prefix + setting.config.run)
    if status != SUCCESS:
        return failed(Layer.DICOM, status_code(status))
    return failed(Layer.CONTROL, f"remains-{len(left)}") if left else PASSED


def no_residue(setting: Setting, session: Session) -> Verdict:
    """Look for objects of earlier runs, remove them by the same route, and prove that none is left.

    A run that dies leaves its objects behind; the next one finds and removes them, and says in its code for how many
    runs it had to.
    """
    prefix = setting.config.patient_prefix
    earlier, status = left_over(session, f"{prefix}*")
    if status != SUCCESS:
        return failed(Layer.DICOM, status_code(status))
    for patient in earlier:
        run = patient.removeprefix(prefix)
        if _RUN_NAME.match(run):
            remove_run(setting, run)
    left, status = left_over(session, f"{prefix}*")
    if status != SUCCESS:
        return failed(Layer.DICOM, status_code(status))
    if left:
        return failed(Layer.CONTROL, f"remains-{len(left)}")
    return Verdict("Passed", Layer.CONTROL, f"removed-earlier-{len(earlier)}") if earlier else PASSED


def left_over(session: Session, patient: str) -> tuple[list[str], int | None]:
    """Return the PatientIDs that match a probe pattern, and the status of the query."""
    try:
        (found,) = find(session, PATIENT_ROOT, query("PATIENT", PatientID=patient))
    except NotAssociatedError:
        return [], None
    return [str(match.get("PatientID", "")) for match in found.matches], found.status
