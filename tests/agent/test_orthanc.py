"""Beside a real Orthanc with DICOM over TLS: rights, certificates, readiness, clean-up."""

import asyncio
import itertools
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import PatientRootQueryRetrieveInformationModelFind, Verification

from pacs_operator.agent.clock import SystemClock
from pacs_operator.agent.context import Context
from pacs_operator.agent.errors import AgentConfigError, NeighbourError
from pacs_operator.agent.keeper import Keeper
from pacs_operator.agent.observer import Observer
from pacs_operator.agent.orthanc import OrthancNeighbour
from pacs_operator.agent.orthanc_entries import entry_name
from pacs_operator.agent.paths import Surroundings
from pacs_operator.agent.x509tools import served_of
from pacs_operator.domain.agentconfig import AgentConfig
from pacs_operator.domain.gatepeers import LivePeer, LivePeers
from pacs_operator.domain.names import CaName, Component
from pacs_operator.domain.peer import Right
from tests.agent.support import LocalVault, eventually, gate_config, give, leaf, peer, peers
from tests.images.conftest import Image
from tests.images.orthanc_server import PREFIX, ROOT, SECTION, configuration, instance, part10
from tests.machine import free_port

NAME = "orthanc.rad-archive.svc"
PROBE = str(SECTION["ProbeAETitles"][0])  # type: ignore[index]
STUDIES = itertools.count(1)
TLS = {
    "DicomAlwaysAllowStore": False,
    "DicomAlwaysAllowEcho": False,
    "DicomAlwaysAllowFind": False,
    "DicomAlwaysAllowFindWorklist": False,
    "DicomAlwaysAllowGet": False,
    "DicomAlwaysAllowMove": False,
    "DicomModalitiesInDatabase": False,
    "DicomCheckModalityHost": False,
    "DicomTlsEnabled": True,
    "DicomTlsCertificate": "/tls/dicom-server.crt",
    "DicomTlsPrivateKey": "/tls/dicom-server.key",
    "DicomTlsTrustedCertificates": "/tls/ca-internal.pem",
    "DicomTlsRemoteCertificateRequired": True,
    "DicomTlsMinimumProtocolVersion": 4,
    "DicomTlsCiphersAccepted": ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"],
}


def orthanc_config(url: str) -> AgentConfig:
    return gate_config(
        component=Component.ORTHANC,
        leaves=[leaf("dicom-server", CaName.INTERNAL, NAME), leaf("control", CaName.CONTROL, NAME)],
        trust=[CaName.INTERNAL, CaName.CONTROL],
        orthanc_url=url,
    )


class Beside:
    """An Orthanc, its agent's parts, and a modality that the gate has let through."""

    def __init__(self, image: Image, surroundings: Surroundings, folder: Path) -> None:
        self.image, self.surroundings, self.folder = image, surroundings, folder
        self.http, self.dicom = free_port(), free_port()
        base = configuration(self.http, self.dicom, **TLS)
        (surroundings.config / "orthanc.json").write_text(json.dumps(base))
        self.surroundings = Surroundings(
            tls=surroundings.tls, run=surroundings.run, config=surroundings.config, dicom_port=self.dicom
        )
        config = orthanc_config(f"http://127.0.0.1:{self.http}")
        vault = LocalVault(lambda: datetime.now(UTC) - timedelta(seconds=30))
        self.context = Context(config, self.surroundings, vault, SystemClock())
        self.keeper = Keeper(self.context, lambda _: None)
        self.neighbour = OrthancNeighbour(config, self.surroundings)
        self.data = image.owned(folder / "data")
        self.process: subprocess.Popen[bytes] | None = None
        for point in ("tls", "run/pacs"):  # what a container runtime makes for mounts
            (image.root / point).mkdir(parents=True, exist_ok=True)

    async def start(self) -> None:
        """Start Orthanc, as the kubelet does after the agent is through."""
        give(self.image.uid, self.surroundings.tls, self.surroundings.run)
        mounts = {self.data: "/var/lib/orthanc", self.surroundings.tls: "/tls", self.surroundings.run: "/run/pacs"}
        command = [self.image.command[0], "/run/pacs/orthanc/orthanc.json"]
        env = {"SQLITE_TMPDIR": "/var/lib/orthanc"}  # removals need one; the archive's index is PostgreSQL
        self.process = self.image.start(*command, log=self.folder / "log", mounts=mounts, env=env)
        await eventually(self._answers, "Orthanc serves", seconds=60)

    async def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        return await self.neighbour.ready()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def rest(self, method: str, path: str, **arguments: Any) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, f"http://127.0.0.1:{self.http}{path}", timeout=30, **arguments)

    async def apply(self, *entries: LivePeer) -> None:
        wanted = peers("r", *entries)
        assert await self.neighbour.apply_peers(wanted) == "r"

    def associate(self, title: str) -> Association:
        """Open an association as the gate does, by the internal authority's client certificate."""
        context = ssl.create_default_context(cafile=str(self.surroundings.root(CaName.INTERNAL)))
        context.load_cert_chain(self.surroundings.bundle("dicom-server"))
        entity = AE(ae_title=title)
        for abstract in (Verification, CTImageStorage, PatientRootQueryRetrieveInformationModelFind):
            entity.add_requested_context(abstract, ExplicitVRLittleEndian)
        for _ in range(5):
            association = entity.associate("127.0.0.1", self.dicom, ae_title="ARCHIVE", tls_args=(context, NAME))
            if association.is_established or association.is_rejected:
                break  # else pynetdicom saw the connection's end before it read the rejection that came first
        return association


def rejected(association: Association) -> tuple[int, int, int] | None:
    """Return result, source and reason of an A-ASSOCIATE-RJ."""
    if not association.is_rejected:
        return None
    answer = association.acceptor.primitive
    assert answer is not None
    return answer.result, answer.result_source, answer.diagnostic  # type: ignore[return-value]


def find(association: Association) -> list[int | None]:
    query = Dataset()
    query.QueryRetrieveLevel, query.PatientID = "PATIENT", "nobody"
    answers = association.send_c_find(query, PatientRootQueryRetrieveInformationModelFind)
    return [status.Status if "Status" in status else None for status, _ in answers]


@pytest.fixture
async def beside(
    image: Callable[[str], Image], surroundings: Surroundings, tmp_path: Path, entered: None
) -> AsyncIterator[Beside]:
    made = Beside(image("archive"), surroundings, tmp_path)
    await made.keeper.obtain_all()
    try:
        yield made
    finally:
        made.stop()
        await made.neighbour.close()
        made.keeper.close()


async def test_rights_come_narrow_and_go_while_orthanc_runs(beside: Beside) -> None:
    await beside.neighbour.prepare(peers("r0"))
    await beside.start()
    assert rejected(await asyncio.to_thread(beside.associate, "CT1")) == (1, 1, 3)
    await beside.apply(peer(1), peer(2, "CT 2.", rights=(Right.FIND,)))
    ct, reader = await asyncio.to_thread(beside.associate, "CT1"), await asyncio.to_thread(beside.associate, "CT 2.")
    assert ct.is_established and reader.is_established
    assert (await asyncio.to_thread(ct.send_c_store, instance(generate_uid()))).Status == 0
    assert await asyncio.to_thread(find, reader) == [0]
    await beside.apply(peer(1, rights=(Right.ECHO,)), peer(2, "CT 2.", rights=(Right.FIND,)))
    assert (await asyncio.to_thread(ct.send_c_echo)).Status == 0  # narrowed, on the same association
    assert "Status" not in await asyncio.to_thread(ct.send_c_store, instance(generate_uid()))
    assert await asyncio.to_thread(find, reader) == [0]  # the other one is unharmed
    await beside.apply(peer(2, "CT 2.", rights=(Right.FIND,)))
    assert rejected(await asyncio.to_thread(beside.associate, "CT1")) == (1, 1, 3)
    for association in (ct, reader):
        association.release()


@pytest.mark.parametrize("right", [None, *Right])
async def test_each_right_alone_is_what_reads_back(right: Right | None, beside: Beside) -> None:
    await beside.neighbour.prepare(peers("r0", peer(1, rights=(right,) if right else ())))
    await beside.start()
    by_file = beside.rest("GET", "/modalities?expand").json()
    await beside.apply()
    await beside.apply(peer(1, rights=(right,) if right else ()))
    live = beside.rest("GET", "/modalities?expand").json()
    assert live == by_file and list(live) == [entry_name("CT1")]
    granted = {key for key, value in live[entry_name("CT1")].items() if key.startswith("Allow") and value is True}
    wanted = {f"Allow{right}"} if right else set()
    if right is Right.STORAGE_COMMITMENT:
        wanted = {"AllowNAction", "AllowEventReport"}
    assert granted == wanted | {"AllowTranscoding"}


async def test_hand_edits_do_not_last_and_a_restart_knows_the_newest_list(beside: Beside) -> None:
    await beside.neighbour.prepare(peers("r0", peer(9)))
    await beside.start()
    await beside.apply(peer(1))
    beside.rest("PUT", "/modalities/mine", json={"AET": "EVIL", "Host": "127.0.0.1", "Port": 1})
    widened = beside.rest("GET", f"/modalities/{entry_name('CT1')}/configuration").json() | {"AllowFind": True}
    beside.rest("PUT", f"/modalities/{entry_name('CT1')}", json=widened)
    evil = await asyncio.to_thread(beside.associate, "EVIL")
    assert evil.is_established
    evil.release()
    await beside.apply(peer(1))
    live = beside.rest("GET", "/modalities?expand").json()
    assert list(live) == [entry_name("CT1")] and live[entry_name("CT1")]["AllowFind"] is False
    beside.stop()
    await beside.start()
    assert beside.rest("GET", "/modalities?expand").json() == live


async def test_an_unchanged_list_writes_nothing(beside: Beside, monkeypatch: pytest.MonkeyPatch) -> None:
    await beside.neighbour.prepare(peers("r0"))
    await beside.start()
    await beside.apply(peer(1), peer(2))
    methods: list[str] = []
    original = requests.Session.request

    def record(self: requests.Session, method: str, url: str, **arguments: Any) -> requests.Response:
        methods.append(method)
        return original(self, method, url, **arguments)

    monkeypatch.setattr(requests.Session, "request", record)
    file = beside.surroundings.run / "orthanc" / "orthanc.json"
    before = file.stat().st_ino
    await beside.apply(peer(1), peer(2))
    assert set(methods) == {"GET"} and file.stat().st_ino == before
    await beside.apply(peer(2))
    assert "DELETE" in methods and file.stat().st_ino != before


async def test_revocations_reach_the_file_while_orthanc_is_down(beside: Beside) -> None:
    await beside.neighbour.prepare(peers("r0", peer(1), peer(2)))
    with pytest.raises(NeighbourError):
        await beside.neighbour.apply_peers(peers("r1", peer(2)))
    await beside.start()
    assert list(beside.rest("GET", "/modalities?expand").json()) == [entry_name("CT2")]


async def test_readiness_follows_orthanc(beside: Beside) -> None:
    await beside.neighbour.prepare(peers("r0"))
    assert not await beside.neighbour.ready() and not await beside.neighbour.alive()
    await beside.start()
    assert await beside.neighbour.ready() and await beside.neighbour.alive()
    beside.stop()
    assert not await beside.neighbour.ready() and not await beside.neighbour.alive()


async def test_a_renewed_leaf_waits_for_the_restart_and_cuts_nobody(beside: Beside) -> None:
    await beside.neighbour.prepare(peers("r0", peer(1)))
    await beside.start()
    observer = Observer(beside.context, beside.neighbour, beside.keeper)
    await observer.look()
    kept = beside.keeper.leaves["dicom-server"]
    assert kept.credential
    first = served_of(kept.credential.certificate)
    assert observer.served == {"dicom-server": first} and beside.context.problems.standing() == {}
    open_association = await asyncio.to_thread(beside.associate, "CT1")
    changes = await asyncio.to_thread(kept.renew)
    await beside.neighbour.apply_certificates(changes)
    observer.forget_served()
    await observer.look()
    second = served_of(kept.credential.certificate)
    assert second != first and observer.served == {"dicom-server": first}
    assert beside.context.problems.standing() == {"served/dicom-server": "RestartPending"}
    assert (await asyncio.to_thread(open_association.send_c_echo)).Status == 0
    open_association.release()
    beside.stop()
    await beside.start()
    observer.forget_served()
    await observer.look()
    assert observer.served == {"dicom-server": second} and beside.context.problems.standing() == {}


def put(beside: Beside, patient: str, number: int) -> None:
    """Store objects as who may: the reserved ones as a probe, by C-STORE."""
    reserved = patient.upper().startswith(PREFIX)
    for _ in range(number):
        uid = generate_uid(prefix=f"{ROOT}." if reserved else "1.2.3.")
        dataset = instance(uid, patient=patient, study=f"1.2.3.{next(STUDIES)}")
        if reserved:
            association = beside.associate(PROBE)
            assert association.send_c_store(dataset).Status == 0
            association.release()
        else:
            assert beside.rest("POST", "/instances", data=part10(dataset)).status_code == 200


async def test_clean_up_takes_one_runs_objects_and_nothing_else(beside: Beside) -> None:
    await beside.neighbour.prepare(peers("r0"))
    await beside.start()
    await beside.apply(peer(1, PROBE))
    spared = [f"{PREFIX}run2", f"{PREFIX}run11", f"{PREFIX}run", f"{PREFIX}RUN1", PREFIX.rstrip("-"), "run1", "P1",
              f"x{PREFIX}run1", f"{PREFIX}*"]  # fmt: skip
    for patient in spared:
        await asyncio.to_thread(put, beside, patient, 1)
    await asyncio.to_thread(put, beside, f"{PREFIX}run1", 3)
    assert await beside.neighbour.remove_probe_objects("run1") == 3
    left = {one["MainDicomTags"]["PatientID"] for one in beside.rest("GET", "/patients?expand").json()}
    assert left == set(spared)
    assert await beside.neighbour.remove_probe_objects("run1") == 0
    assert len(beside.rest("GET", "/instances").json()) == len(spared)


@pytest.mark.parametrize("url", ["http://10.0.0.1:8042", "http://orthanc:8042", "http://localhost.example:8042", ""])
def test_an_unguarded_interface_is_used_on_loopback_only(url: str, surroundings: Surroundings) -> None:
    with pytest.raises(AgentConfigError, match="is not a loopback address"):
        OrthancNeighbour(orthanc_config(url), surroundings)
    OrthancNeighbour(orthanc_config("http://127.0.0.1:8042"), surroundings)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"DicomModalities": {}}'])
async def test_an_unusable_base_configuration_is_named(content: str | None, surroundings: Surroundings) -> None:
    neighbour = OrthancNeighbour(orthanc_config("http://127.0.0.1:1"), surroundings)
    if content is not None:
        (surroundings.config / "orthanc.json").write_text(content)
    with pytest.raises(NeighbourError) as refused:
        await neighbour.prepare(LivePeers(revision="r", peers=[]))
    assert refused.value.reason == "OrthancConfigInvalid"
    await neighbour.close()
