"""One JSON object a line on stdout, for a closed set of events.

What is logged is chosen here, not where it happens: no key material, no token, nothing that a DICOM device
supplied, no text of an exception that we did not write ourselves.
"""

import sys
from enum import StrEnum
from typing import TextIO

import structlog

from pacs_operator.domain.errors import PacsError


class Event(StrEnum):
    """Everything an agent ever says."""

    STARTING = "Starting"
    STARTED = "Started"
    STOPPING = "Stopping"
    CERTIFICATE_OBTAINED = "CertificateObtained"
    CERTIFICATE_REUSED = "CertificateReused"
    TRUST_REFRESHED = "TrustRefreshed"
    CERTIFICATES_APPLIED = "CertificatesApplied"
    PEERS_APPLIED = "PeersApplied"
    PROBLEM = "Problem"
    RECOVERED = "Recovered"
    READINESS_CHANGED = "ReadinessChanged"
    REQUEST_REFUSED = "RequestRefused"
    PROBE_OBJECTS_REMOVED = "ProbeObjectsRemoved"
    SCRUB_BEGAN = "ScrubBegan"
    SCRUB_FOUND = "ScrubFound"
    SCRUB_ENDED = "ScrubEnded"
    START_SEALED = "StartSealed"
    STARTED_OFFLINE = "StartedOffline"
    FAILED = "Failed"


def configure(stream: TextIO | None = None) -> None:
    """Send events as JSON to a stream, standard output by default."""
    structlog.configure(
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        logger_factory=structlog.PrintLoggerFactory(stream or sys.stdout),
        cache_logger_on_first_use=False,
    )


def emit(event: Event, **fields: str | int | float | bool | list[str] | None) -> None:
    """Write one event; fields are enumerated words, numbers, times and our own names."""
    structlog.get_logger().info(event.value, **fields)


def emit_error(event: Event, error: PacsError, **fields: str | int | None) -> None:
    """Write one event that a typed error caused, with what the reader can do about it."""
    emit(event, reason=error.reason, message=error.message, action=error.action, retry=error.retry, **fields)
