"""An archive of before: a plain Orthanc on this machine, beside the cluster, that knows no TLS."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from tests.images.conftest import Image, wait_for
from tests.images.orthanc_server import Orthanc, part10
from tests.machine import free_port

from .support import HOST, Cluster, reachable

TITLE, CALLER = "OLDPACS", "PACSIMPORT"
_OPEN = {"DicomAlwaysAllowStore": False, "DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": True}


class OldPacs:
    """What an import brings along; can be struck, and comes back at the same port with the same images.

    Parameters
    ----------
    image
        Whose Orthanc runs, without any of the product's plugins.
    folder
        For its images, its configuration and its log.
    """

    def __init__(self, image: Image, folder: Path) -> None:
        self._image, self._log = image, folder / "log"
        self.port, self._http = free_port(), free_port()
        data, etc = image.owned(folder / "data"), folder / "etc"
        etc.mkdir()
        known = {"import": {"AET": CALLER, "Host": "0.0.0.0", "Port": 104, "AllowFind": True, "AllowGet": True}}
        settings: dict[str, Any] = {
            "Name": TITLE, "DicomAet": TITLE, "DicomPort": self.port, "DicomModalities": known, **_OPEN,
            "HttpPort": self._http, "HttpBindAddresses": ["127.0.0.1"], "AuthenticationEnabled": False,
            "StorageDirectory": "/var/lib/orthanc", "IndexDirectory": "/var/lib/orthanc",
        }  # fmt: skip
        (etc / "orthanc.json").write_text(json.dumps(settings))
        self._mounts = {data: "/var/lib/orthanc", etc: "/etc/orthanc"}
        self._process: subprocess.Popen[bytes] | None = None
        self._rest: Orthanc | None = None

    def start(self) -> None:
        """Return when it answers."""
        variables = {"SQLITE_TMPDIR": "/var/lib/orthanc"}
        self._process = self._image.start(*self._image.command, log=self._log, mounts=self._mounts, env=variables)
        self._rest = Orthanc(self._process, self._http, self.port, next(iter(self._mounts)), self._log)
        wait_for(self._rest.ready, "the old archive answers")

    def strike(self) -> None:
        """End it as a power cut would."""
        assert self._process
        self._process.kill()
        self._process.wait(30)

    def put(self, *datasets: Dataset) -> None:
        """Have it hold these, instead of what it holds by the same UIDs."""
        assert self._rest
        for dataset in datasets:
            for instance in self._rest.instances(str(dataset.SOPInstanceUID)):
                assert self._rest.rest("DELETE", f"/instances/{instance}").ok
            assert self._rest.upload(part10(dataset)) == 200, self._rest.log()

    def source(self) -> dict[str, Any]:
        """Return ``spec.source`` of an import from it."""
        reason = "The old archive speaks no TLS; it is switched off after the import"
        return {
            "address": HOST, "port": self.port, "calledAETitle": TITLE, "callingAETitle": CALLER,
            "tls": {"mode": "Plaintext", "reason": reason},
        }  # fmt: skip


@contextmanager
def old_pacs(cluster: Cluster, image: Image, folder: Path) -> Iterator[OldPacs]:
    """Have one until the block ends."""
    folder.mkdir()
    pacs = OldPacs(image, folder)
    pacs.start()
    try:
        with reachable(cluster):
            yield pacs
    finally:
        pacs.strike()
