"""Run as a device that listens over mutual TLS: write down what is sent to it, or have stored images committed to."""

import argparse
import json
import sys
import threading
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, UltrasoundImageStorage, generate_uid
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance, Verification

from pacs_operator.probes.client import Session, associated
from pacs_operator.probes.station import Station
from pacs_operator.probes.tls import Credentials, Trust, client_context
from pacs_operator.probes.wire import Endpoint

SUCCESS = 0x0000
REPORT_SECONDS = 60


class Listener:
    """Takes what comes."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.associations = 0
        self.images: list[str] = []
        self.reports: list[dict[str, Any]] = []
        self.reported = threading.Event()
        address, _, port = arguments.listen.rpartition(":")
        ca = Path(arguments.ca).read_text()
        station = Station(Endpoint(address, int(port)), Credentials(arguments.cert, arguments.key), ca, "anybody")
        self._ae = AE(ae_title=arguments.title)
        for sop_class in (Verification, CTImageStorage, UltrasoundImageStorage):
            self._ae.add_supported_context(sop_class)
        self._ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        handlers: list[Any] = [
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_EVENT_REPORT, self._report),
        ]
        self._ae.start_server((address, int(port)), block=False, ssl_context=station.context(), evt_handlers=handlers)
        print("listening", flush=True)

    def _accepted(self, event: evt.Event) -> None:
        del event
        self.associations += 1

    def _store(self, event: evt.Event) -> int:
        request: Any = event.request
        self.images.append(str(request.AffectedSOPInstanceUID))
        return SUCCESS

    def _report(self, event: evt.Event) -> tuple[int, None]:
        told = event.event_information
        kinds = {"committed": "ReferencedSOPSequence", "failed": "FailedSOPSequence"}
        report: dict[str, Any] = {
            word: [str(item.ReferencedSOPInstanceUID) for item in told.get(name, [])] for word, name in kinds.items()
        }
        self.reports.append(report | {"transaction": str(told.TransactionUID)})
        self.reported.set()
        return SUCCESS, None

    def close(self) -> dict[str, Any]:
        self._ae.shutdown()
        return {"associations": self.associations, "images": self.images, "reports": self.reports}


def commit(arguments: argparse.Namespace, listener: Listener) -> dict[str, Any]:
    """Ask for commitment to CT images, and wait for the report."""
    request = Dataset()
    request.TransactionUID = generate_uid()
    request.ReferencedSOPSequence = []
    for uid in arguments.uid:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, uid
        request.ReferencedSOPSequence.append(item)
    trust = Trust(Path(arguments.ca).read_text(), arguments.server_name)
    context = client_context(trust, Credentials(arguments.cert, arguments.key))
    gate = Endpoint(arguments.host, arguments.port)
    session = Session(gate, arguments.title, arguments.called, context, arguments.server_name)
    roles = [build_role(StorageCommitmentPushModel, scu_role=True, scp_role=True)]
    with associated(session, [build_context(StorageCommitmentPushModel)], roles) as association:
        answer, _ = association.send_n_action(
            request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
    listener.reported.wait(REPORT_SECONDS)
    return {"answer": f"{answer.Status:04x}", "transaction": str(request.TransactionUID)}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("act", choices=["receive", "commit"])
    for name in ("title", "listen", "ca"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("cert", "key"):
        parser.add_argument(f"--{name}", required=True, type=Path)
    parser.add_argument("--out", type=Path, required=True)
    for name in ("host", "server-name", "called"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--port", type=int)
    parser.add_argument("--uid", action="append", default=[])
    arguments = parser.parse_args()
    listener, told = Listener(arguments), {}
    if arguments.act == "commit":
        told = commit(arguments, listener)
    else:
        sys.stdin.read()  # until whoever started this closes it
    arguments.out.write_text(json.dumps(told | listener.close()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
