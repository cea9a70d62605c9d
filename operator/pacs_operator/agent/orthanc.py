"""Drives Orthanc: assembled configuration, live rights, readiness, clean-up of probe objects."""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from pacs_operator.agent.errors import AgentConfigError, NeighbourError
from pacs_operator.agent.files import PRIVATE, read_if_there, write_atomic
from pacs_operator.agent.neighbour import Changes, StorageTest
from pacs_operator.agent.orthanc_entries import Entry, Exit, destinations_of, entries_of, same
from pacs_operator.agent.orthanc_rest import REMOVAL_SECONDS, OrthancRest
from pacs_operator.agent.orthancweb import OrthancWeb
from pacs_operator.agent.paths import Surroundings
from pacs_operator.agent.peek import peek_certificate
from pacs_operator.agent.x509tools import Served, served_of
from pacs_operator.domain.agentconfig import AgentConfig, IngestStatus, PeerActivity, SealingTold
from pacs_operator.domain.gatepeers import LivePeers
from pacs_operator.domain.names import PROBE_AE_TITLE, PROBE_PATIENT_PREFIX

T = TypeVar("T")
PASSED = "Passed"
SERVER_LEAF = "dicom-server"
_REFUSED = ("refusedDuplicates", "refusedReserved", "refusedOther")  # as the archive plugin groups its refusals


class OrthancNeighbour:
    """Orthanc in the same pod.

    Its own TLS leaf is only ever replaced on the volume: making Orthanc read it cuts associations, so that waits
    for a window (blueprint, decision 6) and shows as ``RestartPending``. The PostgreSQL client leaf is read at
    every new connection and needs nothing.
    """

    def __init__(self, config: AgentConfig, surroundings: Surroundings) -> None:
        if config.orthanc_url is None:
            raise AgentConfigError("agent.json: orthancUrl is missing", action="write http://127.0.0.1:8042")
        self._rest = OrthancRest(config.orthanc_url)
        self._exit = _exit(config)
        self._surroundings = surroundings
        self._server_leaf = next((leaf for leaf in config.leaves if leaf.name == SERVER_LEAF), None)
        self._base = surroundings.config / "orthanc.json"
        self._assembled = surroundings.run / "orthanc" / "orthanc.json"
        self._peers: LivePeers | None = None
        self._seals = config.storage is not None
        self._web = OrthancWeb(Path(config.web_socket), SERVER_LEAF, surroundings) if config.web_socket else None
        self.storage_test = StorageTest()
        # Two: a long removal must not make Orthanc look dead.
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="orthanc")

    async def _in_thread(self, act: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, act)

    async def prepare(self, peers: LivePeers) -> None:
        """Write the configuration that Orthanc starts with."""
        if self._web is not None:
            await self._in_thread(self._web.prepare)
        await self._in_thread(lambda: self._assemble(peers))

    def _assemble(self, peers: LivePeers) -> None:
        try:
            base = json.loads(self._base.read_bytes())
            if not isinstance(base, dict) or "DicomModalities" in base:
                raise ValueError("not a map, or with modalities of its own")
        except (OSError, ValueError) as error:
            raise NeighbourError(
                f"{self._base}: not a usable base configuration ({type(error).__name__})",
                action="mount the rendered orthanc.json there; modalities come from peers.json alone",
                reason="OrthancConfigInvalid",
            ) from error
        base["DicomModalities"] = entries_of(peers, self._exit)
        base["PacsArchive"] = {**base.get("PacsArchive", {}), "MoveDestinations": destinations_of(peers)}
        document = json.dumps(base, indent=1, sort_keys=True).encode()
        try:
            self._assembled.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if read_if_there(self._assembled) != document:
                write_atomic(self._assembled, document, PRIVATE)
        except OSError as error:
            raise NeighbourError(
                f"{self._assembled}: cannot be written (errno {error.errno})",
                action="look at size and group of the memory volume",
                reason="RunNotWritable",
            ) from error

    async def apply_certificates(self, changed: Changes) -> None:
        """Bring them into the HAProxy that takes DICOMweb; a reload of Orthanc itself would cut associations."""
        if self._web is not None:
            await self._web.apply_certificates(changed)

    async def apply_peers(self, peers: LivePeers) -> str:
        """Make rights live and read them back.

        The file is written first: Orthanc may restart at any moment, and must then not come up with revoked peers.
        """
        await self._in_thread(lambda: self._assemble(peers))
        await self._in_thread(lambda: self._apply_live(peers))
        self._peers = peers
        return peers.revision

    def _apply_live(self, peers: LivePeers) -> None:
        try:
            self._apply_destinations(peers)
        finally:  # rights are taken away whatever the plugin says
            self._apply_entries(entries_of(peers, self._exit))

    def _apply_destinations(self, peers: LivePeers) -> None:
        wanted = destinations_of(peers)
        live = self._rest.destinations()
        if live is None and not any(peer.outbound for peer in peers.peers):
            return  # an Orthanc without the plugin reaches nobody by these entries
        if live != wanted and self._rest.put_destinations(wanted) != wanted:
            raise NeighbourError(
                "Orthanc's plugin shows destinations other than those it was given",
                action="compare the archive's image with the release; the agent tries again",
                reason="ReadBackDiffers",
            )

    def _apply_entries(self, wanted: dict[str, Entry]) -> None:
        live = self._rest.modalities()
        for name in live.keys() - wanted.keys():  # revoking comes before granting
            self._rest.delete_modality(name)
        for name, entry in wanted.items():
            if name not in live or not same(entry, live[name]):
                self._rest.put_modality(name, entry)
        found = self._rest.modalities()
        differing = found.keys() ^ wanted.keys() | {
            name for name in found.keys() & wanted.keys() if not same(wanted[name], found[name])
        }
        if differing:
            raise NeighbourError(
                f"Orthanc shows {len(differing)} entries other than those it was given",
                action="look for another program that changes /modalities; the agent tries again",
                reason="ReadBackDiffers",
            )

    async def ready(self) -> bool:
        """Tell whether Orthanc answers, its database is up, and what it stores is encrypted where that was asked for.

        ``/statistics`` needs the database, ``/system`` alone lies.
        """
        return await self._in_thread(
            lambda: self._rest.ok("/statistics") and self._rest.ok("/system") and self._seals_or_need_not()
        )

    def _seals_or_need_not(self) -> bool:
        """Tell whether the encrypting storage is what Orthanc stores with.

        A failed test of itself is told, and takes nobody's images away: a full volume still reads.
        """
        if not self._seals:
            return True
        try:
            told = self._rest.ask("GET", "/pacs/storage")
        except NeighbourError:
            return False
        if not isinstance(told, dict) or told.get("mode") != "Transit":
            return False
        result = str(told.get("selfTest"))
        passed = datetime.now(UTC) if result == PASSED else self.storage_test.passed
        self.storage_test = StorageTest(result, passed, _work(told.get("work")), _sealed(told))
        return True

    async def alive(self) -> bool:
        """Tell whether Orthanc answers at all, with or without database: a restart would not bring that back."""
        return await self._in_thread(lambda: self._rest.ok("/tools/now"))

    async def served(self) -> dict[str, Served]:
        """Look at the certificate on the DICOM port, with our own as client: one short connection."""
        leaf = self._server_leaf
        if leaf is None:
            return {}
        certificate = await self._in_thread(
            lambda: peek_certificate(
                self._surroundings.dicom_port,
                client=self._surroundings.bundle(leaf.name),
            )
        )
        return {} if certificate is None else {leaf.name: served_of(certificate)}

    async def activity(self) -> list[PeerActivity]:
        """Return what the archive plugin counted, by peer."""
        counted = await self._in_thread(lambda: self._rest.ask("GET", "/pacs/activity"))
        by_title = counted.get("peers", {}) if isinstance(counted, dict) else {}
        peers = [] if self._peers is None else self._peers.peers
        return [_sum_up(peer.id, [by_title[title] for title in peer.ae_titles if title in by_title]) for peer in peers]

    async def ingest(self) -> IngestStatus:
        """Return what the archive plugin turned away, and what it holds in quarantine."""
        told = await self._in_thread(lambda: self._rest.ask("GET", "/pacs/ingest"))
        try:
            return IngestStatus.model_validate(told)
        except ValidationError as error:
            raise NeighbourError(
                "Orthanc's plugin tells of its ingest in another form",
                action="use archive and tools images of one release",
                reason="NeighbourRefused",
            ) from error

    async def remove_probe_objects(self, run: str) -> int:
        """Remove what one run made, and what of it was set aside; each is looked at before it goes."""
        patient_id = f"{PROBE_PATIENT_PREFIX}{run}"
        return await self._in_thread(lambda: self._discard_held(patient_id) + self._remove_patient(patient_id))

    def _discard_held(self, patient_id: str) -> int:
        """Discard the differing duplicates that the probe sent for this patient; others' are a person's to judge."""
        discarded = 0
        for name, aet in self._rest.held():
            path = f"/pacs/quarantine/{name}"
            if aet == PROBE_AE_TITLE and self._rest.ask("GET", path)["held"].get("PatientID") == patient_id:
                self._rest.ask("DELETE", path)
                discarded += 1
        return discarded

    def _remove_patient(self, patient_id: str) -> int:
        query = {"Level": "Patient", "CaseSensitive": True, "Query": {"PatientID": patient_id}}
        removed = 0
        for resource in self._rest.ask("POST", "/tools/find", query, REMOVAL_SECONDS) or []:
            path = f"/patients/{resource}"
            found = self._rest.ask("GET", path)
            if not isinstance(found, dict) or found.get("MainDicomTags", {}).get("PatientID") != patient_id:
                raise NeighbourError(
                    "Orthanc found a patient that is not the run's; nothing more is removed",
                    action="look at the archive's patients by hand; tell the maintainers",
                    reason="ForeignPatientFound",
                    retry=False,
                )
            count = int(self._rest.ask("GET", f"{path}/statistics")["CountInstances"])
            self._rest.ask("DELETE", path, seconds=REMOVAL_SECONDS)
            removed += count
        return removed

    async def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _work(told: object) -> SealingTold | None:
    try:
        return SealingTold.model_validate(told)
    except ValidationError:
        return None  # a plugin of an earlier release, which does no such work


def _sealed(told: dict[str, Any]) -> tuple[int, int] | None:
    key, chunks = told.get("activeKey"), told.get("chunks")
    return (key, chunks) if isinstance(key, int) and isinstance(chunks, int) else None


def _exit(config: AgentConfig) -> Exit | None:
    if config.outbound_host is None or config.outbound_port is None:
        return None
    return Exit(config.outbound_host, config.outbound_port)


def _sum_up(peer_id: str, counts: list[dict[str, Any]]) -> PeerActivity:
    """Add up a peer's titles; the newest store and the newest refusal count."""
    stores = [str(count["lastStore"]) for count in counts if count.get("lastStore")]
    refusals = [
        (str(count["lastRefusal"]), str(count["lastRefusalReason"])) for count in counts if "lastRefusal" in count
    ]
    last_rejection, reason = max(refusals, default=(None, None))
    return PeerActivity(
        id=peer_id,
        last_store=max(stores, default=None),
        stores=sum(int(count.get("stores", 0)) for count in counts),
        last_rejection=last_rejection,
        last_rejection_reason=reason,
        rejections=sum(int(count.get(group, 0)) for count in counts for group in _REFUSED),
    )
