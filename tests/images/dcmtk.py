"""DCMTK's own programs as a second DICOM stack: how they call the gate, and what they say came of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread

from pacs_operator.probes.tls import Credentials
from pacs_operator.probes.wire import Endpoint

_REASONS = {"Calling AE Title Not Recognized": "rj-1-1-3", "Called AE Title Not Recognized": "rj-1-1-7"}
#: pynetdicom has programs of the same names, and a virtual environment puts them before the system's.
_SYSTEM = "/usr/local/bin:/usr/bin"
_LIMITS = """\
openssl_conf = begin
[begin]
ssl_conf = ssl
[ssl]
system_default = limits
[limits]
MinProtocol = TLSv1.2
MaxProtocol = {newest}
"""


@dataclass(frozen=True)
class Call:
    """Who calls whom, and how; ``newest``: the newest TLS that is offered, where the program's own is too new."""

    calling: str
    credentials: Credentials | None
    called: str = "RADIOLOGY"
    plaintext: bool = False
    profile: tuple[str, ...] = ()
    newest: str | None = None


@dataclass(frozen=True)
class Said:
    """What a program told of one association, in the probe's words."""

    text: str

    @property
    def associated(self) -> bool:
        return "Association Accepted" in self.text

    @property
    def statuses(self) -> list[int]:
        """Return the DIMSE statuses; of an echo's answer only success is told in words that do not change."""
        found = re.finditer(r"DIMSE Status +: 0x([0-9a-f]{4})|Received Echo Response \(Success\)", self.text)
        return [int(each[1] or "0", 16) for each in found]

    @property
    def served(self) -> bool:
        """Tell whether the last answer was success."""
        return self.statuses[-1:] == [0]

    @property
    def code(self) -> str:
        """Return the last word on a request: rejection, alert or status."""
        if self.associated:
            return f"status-{self.statuses[-1]:04x}" if self.statuses else "closed-after-request"
        if rejected := re.search(r"Reason: (.+)", self.text):
            return _REASONS.get(rejected[1].strip(), "other")
        alert = re.search(r"alert ([a-z ]+)", self.text)
        return "alert-" + alert[1].strip().replace(" ", "-") if alert else "closed"

    @property
    def contexts(self) -> list[bool]:
        """Return of each presentation context whether it was accepted, in the order of their ids."""
        answer = self.text.partition("BEGIN A-ASSOCIATE-AC")[2].partition("END A-ASSOCIATE-AC")[0]
        return [each == "Accepted" for each in re.findall(r"Context ID: +\d+ \(([^)]+)\)", answer)]


@dataclass(frozen=True)
class Programs:
    """DCMTK's programs, and where they keep files."""

    folder: Path

    def run(self, name: str, to: Endpoint, call: Call, roots: str, *more: str) -> Said:
        """Run one program to its end."""
        program = shutil.which(name, path=_SYSTEM)
        assert program, f"{name} is missing: `make dcmtk` installs it"
        command = [program, "-d", "-to", "10", "-ta", "10", "-td", "20"]
        command += ["-aet", call.calling, "-aec", call.called, *self._tls(call, roots)]
        command += [*more[: (cut := more.index("--") if "--" in more else len(more))]]
        command += [to.address, str(to.port), *more[cut + 1 :]]
        environment = {"PATH": _SYSTEM}
        if call.newest:
            limits = self.folder / f"{call.newest}.cnf"
            limits.write_text(_LIMITS.format(newest=call.newest))
            environment["OPENSSL_CONF"] = str(limits)
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=environment, timeout=60, check=False
        )
        return Said(done.stdout + done.stderr)

    def _tls(self, call: Call, roots: str) -> list[str]:
        if call.plaintext:
            return []
        trusted = self.folder / "trusted.pem"
        trusted.write_text(roots)
        own = call.credentials
        how = ["+tls", str(own.key), str(own.certificate)] if own else ["+tla"]
        return [*how, "+cf", str(trusted), *call.profile]

    def write(self, *datasets: Dataset) -> list[str]:
        """Return files with these objects."""
        names = [self.folder / f"{each.SOPInstanceUID}.dcm" for each in datasets]
        for name, each in zip(names, datasets, strict=True):
            each.save_as(name, enforce_file_format=True)
        return list(map(str, names))

    def arriving(self) -> Path:
        """Return an empty folder."""
        shutil.rmtree(self.folder / "arrived", ignore_errors=True)
        (self.folder / "arrived").mkdir()
        return self.folder / "arrived"

    def arrived(self) -> list[Dataset]:
        """Return what was put there."""
        return [dcmread(each, force=True) for each in sorted((self.folder / "arrived").iterdir())]
