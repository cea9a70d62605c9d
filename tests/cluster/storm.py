"""Run as a modality: store many small images while something breaks, and write down which were acknowledged.

An image that is not acknowledged is kept and sent again on a new association, as a modality does.
"""

import argparse
import json
import ssl
import sys
import time
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from pacs_operator.probes.client import keep_answers

FIND = StudyRootQueryRetrieveInformationModelFind


def image(number: int, study: str, edge: int) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, study + ".1"
    dataset.PatientID, dataset.PatientName, dataset.Modality = "STORM", "Storm^Test", "CT"
    dataset.StudyDate, dataset.StudyTime, dataset.InstanceNumber = "20260101", "120000", number
    dataset.Rows = dataset.Columns = edge
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.PixelData = number.to_bytes(2, "little") * (edge * edge)
    return dataset


def associate(arguments: argparse.Namespace, context: str):
    tls = ssl.create_default_context(cafile=arguments.ca)
    tls.load_cert_chain(arguments.cert, arguments.key)
    ae = AE(ae_title=arguments.calling)
    ae.acse_timeout, ae.dimse_timeout, ae.network_timeout, ae.connection_timeout = 10, 20, 30, 5
    ae.add_requested_context(context, ExplicitVRLittleEndian)
    association = ae.associate(
        arguments.host, arguments.port, ae_title=arguments.called, tls_args=(tls, arguments.server_name)
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
        if association is None or not association.is_established:
            association = associate(arguments, CTImageStorage)
            if not association.is_established:
                time.sleep(0.2)
                continue
        status = association.send_c_store(current)
        if status and status.Status == 0x0000:
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


def find_all(arguments: argparse.Namespace, study: str) -> list[str]:
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "IMAGE", study
    query.SeriesInstanceUID, query.SOPInstanceUID = study + ".1", ""
    association = associate(arguments, FIND)
    if not association.is_established:
        return []
    found = [str(answer.SOPInstanceUID) for _, answer in association.send_c_find(query, FIND) if answer]
    association.release()
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("host", "server-name", "called", "calling", "cert", "key", "ca", "study"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--edge", type=int, default=64, help="rows and columns of an image")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("act", choices=["store", "find"])
    arguments = parser.parse_args()
    if arguments.act == "store":
        result: object = store_all(arguments, arguments.study)
    else:
        result = find_all(arguments, arguments.study)
    arguments.out.write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
