"""What a served peer's own conditions say beside ``Accepted``: the end of its certificate, and its silence.

Pure rules over times. Both conditions are alarms: ``True`` is what somebody must look at.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pacs_operator.domain.legacy import Legacy, alarm
from pacs_operator.domain.peer import TlsException
from pacs_operator.domain.status import PeerConditionType, PeerFinding
from pacs_operator.domain.times import rfc3339

ENDS_SOON = (7, 30, 60)  # days, the nearest first
EXCEPTION_ENDS_SOON = 30  # days


@dataclass(frozen=True)
class Traffic:
    """What is known of a peer's associations and DICOMweb requests.

    Parameters
    ----------
    last
        When its last one was accepted; None when none was seen.
    since
        Since when traffic is expected.
    heard
        Whether every gate said in this pass what it saw: without that, silence proves nothing.
    """

    last: datetime | None
    since: datetime
    heard: bool


def certificate_finding(not_after: datetime | None, now: datetime) -> PeerFinding:
    """Say how near the end of the certificate is that a peer presented last.

    Parameters
    ----------
    not_after
        End of that certificate; None when the peer has presented none yet.
    now
        Time of the pass (UTC).
    """
    status, reason = _nearness(not_after, now)
    if not_after is None:
        text = "The device has not presented a certificate to a gate yet"
    else:
        text = f"The certificate that the device presented last ends at {rfc3339(not_after)}"
        if status == "True":
            text += "; have a new one signed for it (docs/peers.md, Renewing) and loaded before that"
    return PeerFinding(type=PeerConditionType.CERTIFICATE_ENDING, status=status, reason=reason, message=text)


def _nearness(not_after: datetime | None, now: datetime) -> tuple[Literal["True", "False", "Unknown"], str]:
    if not_after is None:
        return "Unknown", "NotPresented"
    left = not_after - now
    if left <= timedelta(0):
        return "True", "CertificateEnded"
    if left <= timedelta(days=ENDS_SOON[0]):
        return "True", "EndsWithin7Days"
    if left <= timedelta(days=ENDS_SOON[1]):
        return "True", "EndsWithin30Days"
    if left <= timedelta(days=ENDS_SOON[2]):
        return "True", "EndsWithin60Days"
    return "False", "NotEnding"


def legacy_finding(legacy: Legacy, closes: datetime, now: datetime) -> PeerFinding:
    """Say that a device without TLS is let in, and how near the end of that is.

    Parameters
    ----------
    legacy
        ``spec.legacy``.
    closes
        When its port closes: at the first staffed hour after it expires.
    now
        Time of the pass (UTC).
    """
    text = f"Without TLS on port {legacy.port} until {legacy.expires}, closed at {rfc3339(closes)}: {legacy.reason}"
    status, reason = _exception(legacy, now)
    return PeerFinding(type=PeerConditionType.LEGACY_EXCEPTION, status=status, reason=reason, message=text)


def _exception(legacy: Legacy, now: datetime) -> tuple[Literal["True"], str]:
    match alarm(legacy.end, now):
        case 0:
            return "True", "ExceptionExpired"
        case 1:
            return "True", "ExceptionEndsWithin1Day"
        case 7:
            return "True", "ExceptionEndsWithin7Days"
        case 30:
            return "True", "ExceptionEndsWithin30Days"
    return "True", "StandingException"


def silence_finding(traffic: Traffic, max_silence: timedelta, now: datetime) -> PeerFinding:
    """Say whether a peer has been silent for longer than its people expect.

    Parameters
    ----------
    traffic
        What is known of its associations and DICOMweb requests.
    max_silence
        ``spec.expectTraffic.maxSilenceHours``.
    now
        Time of the pass (UTC).
    """
    status, reason = _silence(traffic, max_silence, now)
    seen = traffic.last
    what = "association or DICOMweb request"
    last = f"the last {what} was accepted at {rfc3339(seen)}" if seen else f"no {what} was seen"
    hours = int(max_silence.total_seconds() // 3600)
    text = f"Traffic is expected every {hours} h since {rfc3339(traffic.since)}; {last}"
    if status == "True":
        text += "; see whether the device is on and whether the gate refuses it"
    elif reason == "GatesNotHeard":
        text += "; not every gate could be asked, so it may have come meanwhile"
    return PeerFinding(type=PeerConditionType.SILENT, status=status, reason=reason, message=text)


def _silence(
    traffic: Traffic, max_silence: timedelta, now: datetime
) -> tuple[Literal["True", "False", "Unknown"], str]:
    if now - max(traffic.last or traffic.since, traffic.since) <= max_silence:
        if traffic.last is None:
            return "Unknown", "NoTrafficYet"
        return "False", "TrafficSeen"
    if not traffic.heard:
        return "Unknown", "GatesNotHeard"
    return "True", "NoTraffic"


def exception_finding(exception: TlsException, now: datetime) -> PeerFinding:
    """Say that a peer may use older TLS, for how long, and why.

    Parameters
    ----------
    exception
        ``spec.tls.exception``.
    now
        Time of the pass (UTC).
    """
    status, reason = _standing(exception.expires - now)
    if status == "True":
        text = f"The device may use {exception.tier.value} until {rfc3339(exception.expires)}: {exception.reason}"
    else:
        text = (
            f"The exception {exception.tier.value} ended at {rfc3339(exception.expires)}: the gate refuses the device "
            "where it does not use modern TLS; have it updated, or set a later spec.tls.exception.expires"
        )
    return PeerFinding(type=PeerConditionType.TLS_EXCEPTION, status=status, reason=reason, message=text)


def _standing(left: timedelta) -> tuple[Literal["True", "False", "Unknown"], str]:
    if left <= timedelta(0):
        return "False", "TlsExceptionEnded"
    if left <= timedelta(days=EXCEPTION_ENDS_SOON):
        return "True", "TlsExceptionEndsSoon"
    return "True", "TlsExceptionStands"
