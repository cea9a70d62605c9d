"""Run as a modality: store many small images while something breaks, and write down which were acknowledged.

An image that is not acknowledged is kept and sent again on a new association, as a modality does. Each image follows
from its study and its number, so that whoever retrieves it later makes it again and compares the whole of it.
"""

import argparse
import json
import random
import ssl
import sys
import time
from pathlib import Path
from typing import Any, cast

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet

from pacs_operator.probes.client import NotAssociatedError, Session, associated, keep_answers
from pacs_operator.probes.compare import decode, differences, encode
from pacs_operator.probes.wire import Endpoint

GET = StudyRootQueryRetrieveInformationModelGet
SYNTAX = ExplicitVRLittleEndian
SUCCESS = 0x0000


def uid_of(study: str, number: int) -> str:
    """Return the SOP Instance UID: the same for the same study and number, on every run."""
    return str(generate_uid(entropy_srcs=[study, str(number)]))


def image(number: int, study: str, edge: int) -> Dataset:
    """Make an image of a study; its pixels are noise, so that no block of it looks like another."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = SYNTAX
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, uid_of(study, number)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, study + ".1"
    dataset.PatientID, dataset.PatientName, dataset.Modality = "STORM", "Storm^Test", "CT"
    dataset.StudyDate, dataset.StudyTime, dataset.InstanceNumber = "20260101", "120000", number
    dataset.Rows = dataset.Columns = edge
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.PixelData = random.Random(f"{study}/{number}").randbytes(2 * edge * edge)
    return dataset


def tls(arguments: argparse.Namespace) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=arguments.ca)
    context.load_cert_chain(arguments.cert, arguments.key)
    return context


def associate(arguments: argparse.Namespace, context: str):
    ae = AE(ae_title=arguments.calling)
    ae.acse_timeout, ae.dimse_timeout, ae.network_timeout, ae.connection_timeout = 10, 20, 30, 5
    ae.add_requested_context(context, SYNTAX)
    association = ae.associate(
        arguments.host, arguments.port, ae_title=arguments.called, tls_args=(tls(arguments), arguments.server_name)
    )
    keep_answers(association)
    return association


def store_all(arguments: argparse.Namespace, study: str) -> dict[str, list[Any]]:
    acknowledged: list[str] = []
    refused: list[str] = []
    waiting = list(range(arguments.count))
    current = image(waiting[0], study, arguments.edge)
    deadline = time.monotonic() + arguments.seconds
    association = None
    while waiting and time.monotonic() < deadline:
        if arguments.once and association is not None and not association.is_established:
            break
        if association is None or not association.is_established:
            association = associate(arguments, CTImageStorage)
            if not association.is_established:
                time.sleep(0.2)
                continue
        status = association.send_c_store(current)
        if status and status.Status == SUCCESS:
            acknowledged.append(str(current.SOPInstanceUID))
            waiting.pop(0)
            if waiting:
                current = image(waiting[0], study, arguments.edge)
            print(len(acknowledged), flush=True)
        else:
            refused.append(f"{status.Status:04x}" if status else "none")
            time.sleep(0.1)
    if association is not None and association.is_established:
        association.release()
    return {"acknowledged": acknowledged, "refused": refused, "left": waiting}


class Checker:
    """Takes what a C-GET brings, and compares it with what was sent while it arrives: a study may be large."""

    def __init__(self, study: str, count: int, edge: int) -> None:
        self._study, self._edge = study, edge
        self._numbers = {uid_of(study, number): number for number in range(count)}
        self.whole: list[str] = []
        self.damaged: dict[str, list[str]] = {}

    def take(self, event: Event) -> int:
        uid = str(cast(C_STORE, event.request).AffectedSOPInstanceUID)
        found = self._differences(uid, event)
        if found:
            self.damaged[uid] = found
        else:
            self.whole.append(uid)
        return SUCCESS

    def _differences(self, uid: str, event: Event) -> list[str]:
        if uid not in self._numbers:
            return ["nobody sent this image"]
        sent = image(self._numbers[uid], self._study, self._edge)
        came = event.encoded_dataset(include_meta=False)
        # Both as they travel: a dataset that was never encoded has not chosen its value representations yet.
        pair = (decode(encode(sent, SYNTAX), SYNTAX), decode(came, UID(event.context.transfer_syntax)))
        return [str(item) for item in differences(*pair)]


def retrieve_all(arguments: argparse.Namespace, study: str) -> dict[str, Any]:
    """Retrieve a study by C-GET: from the volume, not from the index, which C-FIND alone would read."""
    endpoint = Endpoint(arguments.host, arguments.port)
    session = Session(endpoint, arguments.calling, arguments.called, tls(arguments), arguments.server_name)
    contexts = [build_context(GET, ImplicitVRLittleEndian), build_context(CTImageStorage, SYNTAX)]
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", study
    checker, status = Checker(study, arguments.count, arguments.edge), None
    roles, handlers = [build_role(CTImageStorage, scp_role=True)], [(evt.EVT_C_STORE, checker.take)]
    try:
        with associated(session, contexts, roles, handlers) as association:
            for answer, _ in association.send_c_get(query, GET):
                status = f"{answer.Status:04x}" if "Status" in answer else None
    except (NotAssociatedError, ValueError, RuntimeError):  # refused, or ended meanwhile: no status says so
        status = None
    return {"status": status, "whole": checker.whole, "damaged": checker.damaged}


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("host", "server-name", "called", "calling", "cert", "key", "ca", "study"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--edge", type=int, default=64, help="rows and columns of an image")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--once", action="store_true", help="end when the first association does")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("act", choices=["store", "retrieve"])
    arguments = parser.parse_args()
    act = store_all if arguments.act == "store" else retrieve_all
    arguments.out.write_text(json.dumps(act(arguments, arguments.study)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
