"""An archive with its gate and agents, and the devices around it that listen."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    CTImageStorage,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from pacs_operator.agent.orthanc import OrthancNeighbour
from pacs_operator.agent.paths import Surroundings
from pacs_operator.domain.agentconfig import AgentConfig
from pacs_operator.domain.gatepeers import LivePeer, LivePeers
from pacs_operator.domain.names import PROBE_AE_TITLE, PROBE_STORE_ONLY_AE_TITLE
from pacs_operator.domain.outbound import Outbound
from pacs_operator.domain.peer import Right
from pacs_operator.domain.probepeers import probe_peers
from pacs_operator.render.orthanc_config import TLS12_SUITES
from tests.gate.archive import ORTHANC_FQDN, ORTHANC_NAME, resolver
from tests.gate.device import client_context
from tests.gate.pki import Authority, Leaf
from tests.gate.process import Gate, Site, running_gate
from tests.machine import enterable

from .conftest import Image, wait_for
from .orthanc_server import SECTION, Orthanc, instance, orthanc

_studies = itertools.count(1)
SUCCESS, WARNING, UNABLE = 0x0000, 0xB000, 0xC000
MOVE = StudyRootQueryRetrieveInformationModelMove


class Receiver:
    """A device that listens over TLS for images and for storage commitment reports."""

    def __init__(self, folder: Path, leaf: Leaf, clients: Authority) -> None:
        self.images: dict[str, Dataset] = {}
        self.originators: set[tuple[str, int]] = set()
        self.reports: list[tuple[int, Dataset]] = []
        self.associations = 0
        self.refused: set[str] = set()  # SOP Instance UIDs that this device does not take
        self.gate = threading.Event()  # cleared: it writes nothing down
        self.gate.set()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(leaf.write(folder, f"receiver-{id(self)}"))
        context.load_verify_locations(cadata=clients.root_pem().decode())
        context.verify_mode = ssl.CERT_REQUIRED
        ae = AE(ae_title="DEVICE")
        for sop_class in (Verification, CTImageStorage):
            ae.add_supported_context(sop_class)
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        handlers: list[Any] = [
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_EVENT_REPORT, self._report),
        ]
        server = ae.start_server(("127.0.0.1", 0), block=False, ssl_context=context, evt_handlers=handlers)
        assert server is not None
        assert server.socket is not None
        self._server = server
        self.port = int(server.socket.getsockname()[1])

    def _accepted(self, event: evt.Event) -> None:
        del event
        self.associations += 1

    def _store(self, event: evt.Event) -> int:
        assert self.gate.wait(60)
        uid = str(event.dataset.SOPInstanceUID)
        if uid in self.refused:
            return 0xA900
        request: Any = event.request
        self.originators.add((str(request.MoveOriginatorApplicationEntityTitle), int(request.MoveOriginatorMessageID)))
        event.dataset.file_meta = event.file_meta
        self.images[uid] = event.dataset
        return SUCCESS

    def _report(self, event: evt.Event) -> tuple[int, None]:
        self.reports.append((int(event.event_type or 0), event.event_information))
        return SUCCESS, None

    def stop(self) -> None:
        self.gate.set()
        self._server.shutdown()


@dataclass
class Hospital:
    """One archive with its gate, and the devices around it."""

    gate: Gate
    server: Orthanc
    agent: OrthancNeighbour
    folder: Path
    receivers: dict[str, Receiver] = field(default_factory=dict)
    contexts: dict[str, ssl.SSLContext] = field(default_factory=dict)

    @property
    def ct(self) -> LivePeer:
        """Return a modality that only stores."""
        return self.device("CT1", Right.STORE, receives=False)

    def failed_jobs(self) -> int:
        jobs = self.server.rest("GET", "/jobs?expand").json()
        return sum(job["Type"] == "StorageCommitmentScp" and job["State"] == "Failure" for job in jobs)

    def apply(self, *peers: LivePeer) -> None:
        everybody = [*probe_peers("radiology"), *peers]
        self.gate.apply({peer.id: peer for peer in everybody})
        listed = LivePeers(revision="r", peers=everybody)
        asyncio.run(self.agent.apply_peers(listed))

    def device(self, title: str, *rights: Right, receives: bool = True, moves_to: tuple[str, ...] = ()) -> LivePeer:
        """Return a peer; the same title always has the same certificate and the same receiver."""
        name = f"{title.lower()}.imaging.example"
        if title not in self.contexts:
            self.contexts[title] = client_context(self.gate.site.peers, self.gate.site.peers.issue(name))
        if receives and title not in self.receivers:
            leaf = self.gate.site.peers.issue(name, server=True)
            self.receivers[title] = Receiver(self.folder, leaf, self.gate.site.peers)
        return LivePeer(
            id=f"imaging/{title.lower()}", dns_name=name, ae_titles=[title], source_cidrs=["127.0.0.0/8"],
            rights=[Right.ECHO, *rights], max_associations=8,
            outbound=Outbound(address="127.0.0.1", port=self.receivers[title].port) if receives else None,
            move_destinations=list(moves_to) or None,
        )  # fmt: skip

    @contextlib.contextmanager
    def association(self, title: str, *sop_classes: str) -> Iterator[Association]:
        ae = AE(ae_title=title)
        ae.dimse_timeout = ae.network_timeout = 20
        for sop_class in sop_classes:
            ae.add_requested_context(sop_class)
        roles = [build_role(StorageCommitmentPushModel, scu_role=True, scp_role=True)]
        association = ae.associate(
            "127.0.0.1", self.gate.port, ae_title="RADIOLOGY", tls_args=(self.contexts[title], None),  # type: ignore[arg-type]
            ext_neg=roles if StorageCommitmentPushModel in sop_classes else None,  # type: ignore[arg-type]
        )  # fmt: skip
        assert association.is_established
        try:
            yield association
        finally:
            association.release()

    def store(self, title: str, *datasets: Dataset) -> None:
        with self.association(title, CTImageStorage) as association:
            for dataset in datasets:
                assert association.send_c_store(dataset).Status == SUCCESS

    def move(self, title: str, destination: str, **keys: Any) -> list[Dataset]:
        """Return the statuses that a C-MOVE got, the last one being the result; none when it was not answered."""
        query = Dataset()
        for key, value in keys.items():
            setattr(query, key, value)
        with self.association(title, MOVE) as association:
            return [status for status, _ in association.send_c_move(query, destination, MOVE, msg_id=7)]

    def result(self, title: str, destination: str, **keys: Any) -> int | None:
        last = self.move(title, destination, **keys)[-1]
        return int(last.Status) if "Status" in last else None


def study(count: int) -> tuple[str, list[Dataset]]:
    uid = f"1.2.826.{next(_studies)}"
    return uid, [instance(generate_uid(), study=uid, pixels=bytes([n, 0] * 8)) for n in range(count)]


@contextlib.contextmanager
def running_hospital(image: Image, folder: Path) -> Iterator[Hospital]:
    """Run Orthanc, its agent and the gate until the block ends."""
    enterable(folder)
    internal, etc = Authority("internal"), folder / "etc"
    etc.mkdir()
    internal.issue(ORTHANC_NAME, server=True, client=True).write(etc, "server")
    (etc / "ca.pem").write_bytes(internal.root_pem())
    for file in etc.iterdir():
        file.chmod(0o644)
    tls: dict[str, Any] = {
        "DicomTlsEnabled": True, "DicomTlsRemoteCertificateRequired": True, "DicomTlsMinimumProtocolVersion": 4,
        "DicomTlsCertificate": "/etc/orthanc/server.pem", "DicomTlsPrivateKey": "/etc/orthanc/server.pem",
        "DicomTlsTrustedCertificates": "/etc/orthanc/ca.pem", "DicomTlsCiphersAccepted": list(TLS12_SUITES),
        "DicomAet": "RADIOLOGY", "StrictAetComparison": True, "DicomModalitiesInDatabase": False,
        "DicomAlwaysAllowStore": False, "DicomAlwaysAllowEcho": False, "DicomAlwaysAllowFind": False,
        "DicomAlwaysAllowGet": False, "DicomAlwaysAllowMove": False, "ConcurrentJobs": 16, "JobsHistorySize": 1000,
        "PacsArchive": {**SECTION, "ProbeAETitles": [PROBE_AE_TITLE, PROBE_STORE_ONLY_AE_TITLE]},
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(orthanc(image, folder, **tls))
        names = stack.enter_context(resolver())
        names.names[ORTHANC_FQDN] = "127.0.0.1"
        site = Site(folder, Authority("peers"), internal, SimpleNamespace(port=server.dicom), names)  # type: ignore[arg-type]
        gate = stack.enter_context(running_gate(site, folder / "gate"))
        agent = beside(server, gate, folder)
        hospital = Hospital(gate, server, agent, folder)
        hospital.apply()
        wait_for(gate.archive_reachable, "the gate sees Orthanc")
        yield hospital
        for receiver in hospital.receivers.values():
            receiver.stop()
        asyncio.run(agent.close())


def beside(server: Orthanc, gate: Gate, folder: Path) -> OrthancNeighbour:
    """Return Orthanc's agent."""
    base = folder / "agent"
    base.mkdir()
    (base / "orthanc.json").write_text("{}")
    config = AgentConfig.model_validate(
        {
            "component": "orthanc", "lineageId": "0" * 32, "leaves": [], "trust": [], "aeTitle": "RADIOLOGY",
            "vault": {"address": "https://127.0.0.1:8200", "authPath": "kubernetes", "role": "orthanc"},
            "orthancUrl": f"http://127.0.0.1:{server.http}",
            "outboundHost": "127.0.0.1", "outboundPort": gate.outbound_port,
        }
    )  # fmt: skip
    return OrthancNeighbour(config, Surroundings(run=base / "run", config=base))
