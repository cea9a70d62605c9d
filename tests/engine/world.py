"""A small world around the engine: the simulated API, a recording Vault, agents, controllers and a clock."""

import copy
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Self

from pacs_operator import render
from pacs_operator.control import AgentUnreachableError
from pacs_operator.domain import names
from pacs_operator.domain.agentconfig import (
    AgentStatus,
    DatabaseTold,
    IngestStatus,
    LeafStatus,
    OfflineTold,
    PeerActivity,
    ScrubTold,
    StorageTold,
)
from pacs_operator.domain.checks import Check, checks_of
from pacs_operator.domain.errors import PacsError
from pacs_operator.domain.facts import ClusterSettings, Desired, VaultSettings
from pacs_operator.domain.gatepeers import LivePeers
from pacs_operator.domain.leaves import leaves_of
from pacs_operator.domain.names import Component
from pacs_operator.domain.results import CheckResult, RunResult
from pacs_operator.kube.port import Manifest
from pacs_operator.reconcile.archive import ArchiveReconciler
from pacs_operator.reconcile.context import Outcome, Ports, Renderer, Settings
from pacs_operator.vault.port import ClientCredentials
from tests.engine import claims, importing, plain, pulls
from tests.engine.recordingvault import RecordingVault
from tests.engine.simapi import Key, SimulatedApi, WriteLog, address

ARCHIVE = "radiology"
ARCHIVE_KEY: Key = ("PacsArchive", "", ARCHIVE)
_BESIDE_ORTHANC = ("storage", "problems", "ingest", "database", "scrub", "images_used_percent")
PEER_LABEL = {"pacs-operator.io/peers-of": ARCHIVE}
START = datetime(2026, 11, 20, 8, 0, 0, tzinfo=UTC)
SETTINGS = Settings(
    cluster=ClusterSettings("pacs-operator", "pacs-operator", {"app.kubernetes.io/name": "pacs-operator"}),
    vault=VaultSettings("https://198.18.0.10:8200", "CA", "pacs-kubernetes", "vault", ("198.18.0.10/32",), 8200),
)


def archive_manifest(**spec: Any) -> Manifest:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "PacsArchive",
        "metadata": {"name": ARCHIVE},
        "spec": {
            "release": {"catalog": "stable", "version": "2026.11.0"},
            "dicom": {"aeTitle": "RADIOLOGY"},
            "peers": {
                "namespaceSelector": {"matchLabels": PEER_LABEL},
                "allowedCIDRs": ["198.18.0.0/16"],
                "maxRights": ["Echo", "Store", "StorageCommitment", "Find", "Get", "Move"],
            },
            "storage": {"sizeGi": 20, "storageClassName": "hostpath"},
            "database": {"mode": "Managed", "sizeGi": 5, "storageClassName": "hostpath"},
            "encryption": {"mode": "None", "reason": "skeleton; becomes Transit"},
            "gate": {"service": {"type": "NodePort", "nodePort": 30762}, "replicas": 2},
            **spec,
        },
    }


def peer_manifest(name: str, *, namespace: str = "imaging", archive: str = ARCHIVE, **spec: Any) -> Manifest:
    return {
        "apiVersion": names.API_VERSION,
        "kind": "DicomPeer",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "archiveRef": {"name": archive},
            "aeTitles": [name.upper()],
            "certificate": {"dnsName": f"{name}.imaging.example"},
            "sourceCIDRs": ["198.18.10.11/32"],
            "rights": ["Echo", "Store", "Find", "Get"],
            **spec,
        },
    }


def catalog_manifest(digit: str = "1") -> Manifest:
    images = {name: f"localhost:5000/pacs-operator/{name}@sha256:{digit * 64}" for name in _IMAGES}
    releases = [{"version": "2026.11.0", "images": images}]
    return {
        "apiVersion": names.API_VERSION,
        "kind": "PacsCatalog",
        "metadata": {"name": "stable"},
        "spec": {"floor": "2026.11.0", "releases": releases},
    }


_IMAGES = ("archive", "gate", "database", "tools")


class RememberedRender:
    """The real renderer, which is pure, asked once for each input: thousands of passes ask for the same."""

    _seen: ClassVar[dict[str, Any]] = {}

    def render_archive(self, desired: Desired) -> list[Manifest]:
        key = f"manifests {desired!r}"
        if key not in self._seen:
            self._seen[key] = render.render_archive(desired)
        return copy.deepcopy(self._seen[key])


class SimulatedAgents:
    """``AgentPort``: each running pod's agent tells what the world gave it."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.asked = 0
        self.silent = False
        self.not_after = START + timedelta(days=7)
        self.activity: list[PeerActivity] = []
        self.storage: StorageTold | None = None  # what Orthanc's agent tells of the images at rest
        self.images_used_percent: int | None = None
        self.database: DatabaseTold | None = None  # what Orthanc's agent found of an external index
        self.crl_next_update: dict[names.CaName, str] = {}
        self.problems: dict[str, str] = {}  # what Orthanc's agent says is wrong
        self.offline: dict[Component, OfflineTold] = {}  # what agents have sealed
        self.scrub: ScrubTold | None = None  # what Orthanc's agent tells of the stored images
        self.ingest: IngestStatus | None = IngestStatus.model_validate({"quarantine": {"held": 0, "bytes": 0}})

    def status(self, address: str, server_name: str, credentials: ClientCredentials) -> AgentStatus:
        self.asked += 1
        pod = next((pod for pod in self._world.pods() if pod["status"].get("podIP") == address), None)
        if self.silent or pod is None:
            raise AgentUnreachableError(f"agent {server_name}: no answer", action="none")
        component = Component(pod["metadata"]["labels"][names.LABEL_COMPONENT])
        leaves = [
            LeafStatus(
                name=leaf.name,
                ca=leaf.ca,
                serial="0a",
                not_before="2026-11-20T00:00:00Z",
                not_after=self.not_after.strftime("%Y-%m-%dT%H:%M:%SZ"),
                sha256="00" * 32,
                dns_names=list(leaf.dns_names),
            )
            for leaf in leaves_of(component, ARCHIVE)
        ]
        return AgentStatus(
            component=component,
            version="1",
            ready=True,
            peers_revision=self._world.live_revision(component),
            leaves=leaves,
            crl_next_update=self.crl_next_update,
            offline=self.offline.get(component),
            peers=self.activity if component is Component.ORTHANC else [],
            **({told: vars(self)[told] for told in _BESIDE_ORTHANC} if component is Component.ORTHANC else {}),
        )


class World:
    """Everything; ``operator()`` starts a fresh process, ``controllers()`` lets the cluster catch up."""

    def __init__(self, first_draw: int = 1) -> None:
        self.first_draw = first_draw
        self.renderer: Renderer = RememberedRender()
        self.process: ArchiveReconciler  # the one that runs, where a test wants one that goes on
        self.log = WriteLog()
        self.api = SimulatedApi(self.log)
        self.vault = RecordingVault(self.log)
        self.agents = SimulatedAgents(self)
        self.now = START
        self.outcome_of_checks: dict[Check, str] = {}
        self.code_of_checks: dict[Check, str] = {}
        self.jobs_run: list[str] = []
        self.resizes = "works"  # what comes of a larger claim: or a condition of the claim, or "unbound"
        self.missing_images: set[str] = set()  # what no registry has
        self.slices: list[dict[str, Any] | str] = []  # how the next slices of imports end; a word: the kubelet's
        self.slices_run: list[str] = []
        self.drawn: list[str] = []
        for name, labels in (("imaging", PEER_LABEL), ("elsewhere", {})):
            self.api.put(plain.made("v1", "Namespace", name, labels=labels))
        self.api.put(plain.made("storage.k8s.io/v1", "StorageClass", "hostpath"))
        self.api.put(catalog_manifest())

    def operator(self) -> ArchiveReconciler:
        ports = Ports(
            kube=self.api,
            vault=lambda _settings: self.vault,
            agents=self.agents,
            renderer=self.renderer,
            clock=lambda: self.now,
            draw_lineage=self._draw,
        )
        return ArchiveReconciler(ports, SETTINGS)

    def _draw(self) -> str:
        self.drawn.append(f"{len(self.drawn) + self.first_draw:032x}")
        return self.drawn[-1]

    # --- driving ------------------------------------------------------------------------------------------------

    def settle(self, operator: ArchiveReconciler | None = None, name: str = ARCHIVE) -> Outcome:
        """Reconcile until nothing is written any more; errors that ask for a retry are retried."""
        operator = operator or self.operator()
        for _ in range(80):
            before = len(self.log.entries), self.api._version
            try:
                outcome = operator.reconcile(name)
            except PacsError as error:
                assert error.retry, error
                outcome = None
            self.controllers()
            waiting = outcome is None or (outcome.requeue_after or 300) < 10  # the operator itself says: not yet
            if outcome and not waiting and (len(self.log.entries), self.api._version) == before:
                return outcome
            self.advance(2)
        raise AssertionError(f"does not settle: {self.log.entries[-12:]}")

    def serve(self, manifest: dict[str, Any]) -> Self:
        """Take an archive in, by a process that goes on afterwards."""
        self.api.put(manifest)
        self.process = self.operator()
        self.settle(self.process)
        return self

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.api.now = self.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    # --- reading ------------------------------------------------------------------------------------------------

    @property
    def archive(self) -> Manifest:
        return self.api.objects[ARCHIVE_KEY]

    def condition(self, kind: str) -> dict[str, Any]:
        found = [item for item in self.archive["status"]["conditions"] if item["type"] == kind]
        assert found, f"no condition {kind}"
        return found[0]

    def peer_condition(self, name: str, namespace: str = "imaging") -> dict[str, Any]:
        return self.api.objects["DicomPeer", namespace, name]["status"]["conditions"][0]

    def pods(self) -> list[Manifest]:
        return [item for (kind, _, _), item in self.api.objects.items() if kind == "Pod"]

    def live_peers(self, zone: str = "edge") -> LivePeers:
        return LivePeers.model_validate_json(
            self.api.objects["ConfigMap", f"{ARCHIVE}-{zone}", "peers"]["data"]["peers.json"]
        )

    def live_revision(self, component: Component) -> str:
        return self.live_peers("edge" if component is Component.GATE else "archive").revision

    def end_state(self) -> dict[Key, Any]:
        """Return what must be the same however the way there was interrupted."""
        state = {}
        for key, item in self.api.objects.items():
            if key[0] in ("Event", "Pod"):
                continue
            state[key] = plain.without_times(item)
        return state

    # --- the cluster's own controllers ------------------------------------------------------------------------------

    def controllers(self) -> None:
        for key, item in sorted(copy.deepcopy(self.api.objects).items()):
            if key[0] in ("Deployment", "StatefulSet"):
                self._roll(key, item)
            elif key[0] == "PersistentVolumeClaim":
                claims.settle(self.api, key, self.resizes)
            elif key[0] == "Job" and key[2].startswith("pullcheck-"):
                pulls.run_check(self, key, item)
            elif key[0] == "Job" and key[2].startswith("import-"):
                importing.run_slice(self, key, item)
            elif key[0] == "Job":
                self._run_job(key, item)
        self._collect()

    def _roll(self, key: Key, item: Manifest) -> None:
        wanted, template = item["spec"].get("replicas", 1), item["spec"]["template"]
        for number in range(wanted):
            self._pod(f"{key[2]}-{number}", key, template, {"phase": "Running"})
        self.api.set_status(
            key,
            {
                "observedGeneration": item["metadata"]["generation"],
                "replicas": wanted,
                "readyReplicas": wanted,
                "updatedReplicas": wanted,
            },
        )

    def _pod(self, name: str, owner: Key, template: Manifest, status: dict[str, Any]) -> None:
        key = ("Pod", owner[1], name)
        if key in self.api.objects:
            return
        labels = {**template["metadata"]["labels"], "owner": f"{owner[0]}.{owner[2]}"}
        if owner[0] == "Job":
            labels["batch.kubernetes.io/job-name"] = owner[2]
        pod = plain.made("v1", "Pod", name, namespace=owner[1], labels=labels)
        self.api.put({**pod, "spec": {}}, manager="kubelet")
        self.api.set_status(key, {**status, "podIP": address(self.api.objects[key]["metadata"]["uid"])})

    def _run_job(self, key: Key, item: Manifest) -> None:
        if (item.get("status") or {}).get("conditions"):
            return
        run = key[2].removeprefix("conformance-")
        spec = self.archive["spec"]
        expected = checks_of(managed_database=spec["database"]["mode"] == "Managed", dicomweb="dicomweb" in spec)
        checks = [
            CheckResult(
                check=check.value,
                outcome=self.outcome_of_checks.get(check, "Passed"),
                layer="gate",
                code=self.code_of_checks.get(check, "rj-1-1-3"),
            )
            for check in Check
            if check in expected
        ]
        result = RunResult(run=run, replicas=2, checks=checks)
        self.jobs_run.append(run)
        terminated = {"state": {"terminated": {"message": result.to_message()}}}
        status = {"phase": "Succeeded", "containerStatuses": [{"name": "probe", **terminated}]}
        self._pod(f"{key[2]}-x", key, item["spec"]["template"], status)
        stamp = self.api.now
        kind = "Complete" if result.proves(expected) else "Failed"
        self.api.set_status(key, {"conditions": [{"type": kind, "status": "True", "lastTransitionTime": stamp}]})

    def _collect(self) -> None:
        for kind, namespace, name in list(self.api.objects):
            if namespace.startswith(f"{ARCHIVE}-") and ("Namespace", "", namespace) not in self.api.objects:
                self.api._drop((kind, namespace, name))  # what the namespace controller does
        for (kind, namespace, name), item in list(self.api.objects.items()):
            if kind == "Pod" and "owner" in item["metadata"]["labels"]:
                owner_kind, _, owner = item["metadata"]["labels"]["owner"].partition(".")
                if (owner_kind, namespace, owner) not in self.api.objects:
                    self.api.remove((kind, namespace, name))

    def reasons(self) -> Iterator[str]:
        yield from (
            f"{item['type']}={item['status']}/{item['reason']}" for item in self.archive["status"]["conditions"]
        )
