"""The first 128 bytes of a DICOM file, which no reader looks at and where a program can hide (PS3.10 7.1)."""

from dataclasses import dataclass

from pydicom import Dataset

from pacs_operator.domain.checks import Layer
from pacs_operator.probes.objects import shadow_objects
from pacs_operator.probes.setting import Setting
from pacs_operator.probes.verdict import Verdict, judge, not_run
from pacs_operator.probes.webchecks import Reply, ask, fetch, part10, parts, stow
from pacs_operator.probes.wire import Endpoint

PREAMBLE = 128
#: How programs begin: of Windows (PE, with the place of its second head) and of Linux (ELF, 64 bits). No more than the
#: heads: were one kept, no machine could run it.
PROGRAMS = (b"MZ" + bytes(58) + PREAMBLE.to_bytes(4, "little"), b"\x7fELF\x02\x01\x01")


@dataclass(frozen=True)
class Trip:
    """A file that was sent, the answer, and the file as it came back; None where it did not."""

    sent: bytes
    answer: Reply
    back: bytes | None

    @property
    def refused(self) -> bool:
        """Tell whether the archive took nothing, and said that the request was at fault."""
        return self.answer.status is not None and 400 <= self.answer.status < 500

    @property
    def fault(self) -> str | None:
        """Return what is wrong with a file that was taken."""
        if self.back is None or self.back[PREAMBLE:] != self.sent[PREAMBLE:]:
            return "missing" if self.back is None else "differs"
        return "accepted" if any(self.back[:PREAMBLE]) else None


def blanked(setting: Setting, replica: Endpoint) -> Verdict:
    """Store an object behind each program's head by STOW-RS and take it back; twin: one behind zeros.

    Not in a run: the archive takes the probes' reserved identifiers by C-STORE alone, and no others could be removed.
    """
    objects, layer, code = shadow_objects(), Layer.DICOM, "blanked"
    twin = _trip(setting, replica, objects.small(), b"")
    served = twin.back == twin.sent
    for head in PROGRAMS:
        trip = _trip(setting, replica, objects.small(), head)
        if trip.refused:
            layer, code = trip.answer.layer, trip.answer.code
        elif not trip.answer.served:
            return not_run("not-reached" if trip.answer.status is None else "error")
        elif trip.fault:
            return judge(attack_succeeded=True, layer=Layer.DICOM, code=trip.fault, twin_served=served)
    return judge(attack_succeeded=False, layer=layer, code=code, twin_served=served)


def _trip(setting: Setting, replica: Endpoint, dataset: Dataset, head: bytes) -> Trip:
    sent = head.ljust(PREAMBLE, b"\0") + part10(dataset)[PREAMBLE:]
    answer = ask(setting, replica, stow(setting, sent))
    found = parts(fetch(setting, replica, dataset)) if answer.served else []
    return Trip(sent, answer, found[0] if len(found) == 1 else None)
