"""Attacks that may hurt: for a shadow, a disposable archive with the same digests and configuration, and no patients.

Each is followed by its twin, the good peer's echo, which must still be served in time. Nothing here runs before
`refuse_patients` has looked for patients in the archive itself: a mark alone could stand on the wrong one.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pacs_operator.domain.checks import Layer
from pacs_operator.domain.conformanceconfig import ConformanceConfig
from pacs_operator.probes import bombs, legacytitles, preambles, sendback
from pacs_operator.probes.client import SUCCESS, NotAssociatedError, Session, find
from pacs_operator.probes.idle import hold_slow
from pacs_operator.probes.networkchecks import resolve
from pacs_operator.probes.objects import SHADOW_PATIENT_PREFIX
from pacs_operator.probes.servicechecks import PATIENT_ROOT, query
from pacs_operator.probes.setting import ProbeError, Setting, prepared
from pacs_operator.probes.verdict import Verdict, failed, not_run
from pacs_operator.probes.wire import Answer, Caller, Endpoint, ask_association, associate_request, attempt, opened

FLOOD = 1000  # associations asked for, so many of them at once
AT_ONCE = 100
SLOW = 64
_ACTION = "set shadow only in the file of a disposable archive that holds no patient, nor ever did"


class NotAShadowError(ProbeError):
    """The archive is not marked as a shadow, or holds somebody's images."""

    reason = "NotAShadow"
    retry = False


@dataclass(frozen=True)
class Danger:
    """One dangerous attack: what is tried, and what does it."""

    title: str
    attack: Callable[[Setting, Endpoint], Verdict]
    possible: Callable[[ConformanceConfig], bool] = lambda _config: True
    """Whether the file says what the attack needs."""


def refuse_patients(config: ConformanceConfig, session: Session) -> None:
    """Refuse to go on unless the archive is marked as a shadow and holds no patient but the probes'.

    Raises
    ------
    NotAShadowError
        There is no mark, somebody's images lie there, or the archive does not tell.
    """
    if config.shadow is not True:
        raise NotAShadowError("conformance.json does not say that this archive is a shadow", action=_ACTION)
    try:
        (found,) = find(session, PATIENT_ROOT, query("PATIENT", PatientID="*"))
    except NotAssociatedError:
        raise NotAShadowError("the archive does not tell which patients it holds", action=_ACTION) from None
    if found.status != SUCCESS:
        raise NotAShadowError("the archive does not tell which patients it holds", action=_ACTION)
    ours = (config.patient_prefix, SHADOW_PATIENT_PREFIX)
    foreign = [match for match in found.matches if not str(match.get("PatientID", "")).startswith(ours)]
    if foreign:
        raise NotAShadowError(f"the archive holds {len(foreign)} patients that are no probe's", action=_ACTION)


def flood(setting: Setting, replica: Endpoint) -> Verdict:
    """Ask for a thousand associations, a hundred at once; what is granted says nothing, and stays until the end."""
    caller = setting.good_caller()
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(AT_ONCE) as threads:

        def one(_number: int) -> bool:
            stream = opened(replica, caller, setting.waits)
            if isinstance(stream, Answer):
                return stream.refused
            if ask_association(stream, caller) is None:
                stack.callback(stream.close)
            else:
                stream.close()
            return True

        answered = sum(threads.map(one, range(FLOOD)))
    return _alive(setting, replica, answered)


def slow(setting: Setting, replica: Endpoint) -> Verdict:
    """Hold many callers that are in the middle of their request; the twin is asked while they are there."""
    with contextlib.ExitStack() as stack:
        held = hold_slow(stack, replica, setting.good_caller(), SLOW, setting.waits)
        return _alive(setting, replica, held)


def malformed(setting: Setting, replica: Endpoint) -> Verdict:
    """Send what is no A-ASSOCIATE-RQ, and what comes of it when lengths lie; nothing of it may be granted."""
    good = setting.good_caller()
    words = malformed_requests(associate_request(good.calling, good.called))
    granted = sum(_granted(setting, replica, good, each) for each in words)
    if granted:
        return failed(Layer.GATE, "accepted")
    return _alive(setting, replica, len(words))


def malformed_requests(request: bytes) -> list[bytes]:
    """Return first PDUs that are wrong, each in one way (PS3.8 9.3.2)."""
    length = len(request) - 6
    return [
        b"\x04" + request[1:],  # P-DATA-TF before any association
        b"\x00" + request[1:],  # no type of PDU
        b"\xff" * len(request),
        request[:2] + (0).to_bytes(4) + request[6:],
        request[:2] + (67).to_bytes(4) + request[6:73],  # one byte short of the fixed part
        request[:2] + (2**32 - 1).to_bytes(4) + request[6:],
        request[:2] + (2**20).to_bytes(4) + request[6:],
        request[:2] + (length - 1).to_bytes(4) + request[6:-1] + b"\xff",
        request[:6] + b"\x00\x00" + request[8:],  # no protocol version
        request[:74] + b"\x10\xff\xff" + request[77:],  # an application context longer than all the rest
        request[:10] + b"\x00" * 32 + request[42:],  # no titles
        b"GET / HTTP/1.1\r\n\r\n",
    ]


def _granted(setting: Setting, replica: Endpoint, caller: Caller, words: bytes) -> bool:
    stream = opened(replica, caller, setting.waits)
    if isinstance(stream, Answer):
        return False
    with contextlib.closing(stream):
        try:
            stream.sendall(words)
            return stream.recv(1) == b"\x02"
        except OSError:
            return False


def _alive(setting: Setting, replica: Endpoint, tried: int) -> Verdict:
    """Tell whether the good peer is served again, within the time that a device waits before it reports a fault."""
    until = time.monotonic() + setting.waits.answer
    answer = attempt(replica, setting.good_caller(), setting.waits)
    while not answer.served and time.monotonic() < until:
        time.sleep(0.1)
        answer = attempt(replica, setting.good_caller(), setting.waits)
    if not answer.served:
        return Verdict("Failed", answer.layer, answer.code, "NotServed")
    if not tried:
        return not_run("not-reached")
    return Verdict("Passed", Layer.GATE, f"held-{tried}", "Served")


def _listens(config: ConformanceConfig) -> bool:
    return config.device is not None


DANGERS: dict[str, Danger] = {
    "MalformedRequests": Danger("First PDUs that are malformed, each in one way, are not granted", malformed),
    "SlowFlood": Danger(f"{SLOW} TLS sessions that have sent half a request stop nobody", slow),
    "AssociationFlood": Danger(f"{FLOOD} associations asked for by one peer, all held, leave the gate alive", flood),
    "PreambleBlanked": Danger(
        "A program's head (PE, ELF) in a file's first 128 bytes is refused by STOW-RS, or zeros come back in its "
        "place, as by C-STORE, and all else unchanged; twin: a file with zeros there",
        preambles.blanked,
        lambda config: config.gate_web_port is not None,
    ),
    "BombsRefused": Danger(
        f"An image of a kilobyte that claims {bombs.CLAIMED} rows and columns is refused by C-STORE and STOW-RS, and a "
        "request folded by gzip is not unfolded; twin: honest images by both, afterwards",
        bombs.refused,
        lambda config: config.gate_web_port is not None,
    ),
    "LegacyTitlesPinned": Danger(
        "At a device's plaintext port nothing but its own AE title to the archive's own is let in, and no TLS, though "
        "the address is right; twin: the right titles",
        legacytitles.pinned,
        lambda config: bool(config.legacy_devices),
    ),
    "MoveArrivesEqual": Danger(
        "C-MOVE to the device's own receiver: the study arrives whole and equal, from the gate's certificate",
        sendback.moved_equal,
        _listens,
    ),
    "UnlistedMoveRefused": Danger(
        "C-MOVE to a title that is none of the device's destinations is refused, nothing arrives here; twin: its own",
        sendback.unlisted_refused,
        lambda config: config.device is not None and config.device.unlisted_ae_title is not None,
    ),
    "CommitmentReported": Danger(
        "Storage commitment of what was stored is reported as kept, on a new association",
        sendback.commitment_reported,
        _listens,
    ),
    "CommitmentDenied": Danger(
        "Storage commitment of what was never stored is reported as failed; twin: of what was stored",
        sendback.commitment_denied,
        _listens,
    ),
}


@dataclass(frozen=True)
class Outcome:
    """One dangerous attack on one gate replica."""

    name: str
    address: str
    verdict: Verdict


def endanger(config: ConformanceConfig) -> Sequence[Outcome]:
    """Make every dangerous attack on every gate replica of a shadow.

    Raises
    ------
    NotAShadowError
        This is no shadow.
    ProbeError
        Certificates are absent.
    """
    with prepared(config) as setting:
        replicas = [Endpoint(each, config.gate_port) for each in resolve(config.gate_replicas_host, config.gate_port)]
        if not replicas:
            raise ProbeError("no gate replica has an address", action="look at the shadow's pods")
        refuse_patients(config, setting.session(replicas[0], config.peer))
        return [
            Outcome(name, replica.address, danger.attack(setting, replica))
            for name, danger in DANGERS.items()
            if danger.possible(config)
            for replica in replicas
        ]
