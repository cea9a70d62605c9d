"""Orthanc's own DICOM certificate: renewed on the volume, presented only after a restart.

Every other server takes a renewed certificate while it runs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from pacs_operator.domain.names import GROUP, Component
from pacs_operator.domain.status import CertificateStatus
from pacs_operator.domain.times import parse_time

LEAF = "dicom-server"
#: Less than this left of what is presented: the operator restarts Orthanc itself. Until then a person may choose.
RESTART_WITHIN = timedelta(days=14)
#: Less than this left: that restart did not come about, a broken promise.
WARN_WITHIN = timedelta(days=7)
#: In Orthanc's pod template: serial number of the certificate that the last planned restart was for.
ANNOTATION_RESTARTED_FOR = f"{GROUP}/restarted-for"


@dataclass(frozen=True)
class Rotation:
    """A restart that a renewed certificate needs.

    Parameters
    ----------
    issued
        Serial number of the renewed certificate.
    ends
        When the one that is still presented ends.
    """

    issued: str
    ends: datetime

    def broken(self, now: datetime) -> bool:
        """Tell whether the old certificate is presented for too long already."""
        return self.ends - now < WARN_WITHIN

    def due(self, now: datetime) -> bool:
        """Tell whether a restart may wait no longer."""
        return self.ends - now < RESTART_WITHIN


def pending(known: Iterable[CertificateStatus]) -> Rotation | None:
    """Return the restart that Orthanc needs; None when it presents what was issued last."""
    for entry in known:
        if entry.component is not Component.ORTHANC or entry.name != LEAF or entry.served_not_after is None:
            continue
        return Rotation(entry.serial, parse_time(entry.served_not_after))
    return None
