"""One archive as the probes meet it: two gate replicas, an archive behind them, control ports, closed ports."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from pacs_operator.domain.conformanceconfig import Bounds, ConformanceConfig
from pacs_operator.domain.names import PROBE_AE_TITLE, PROBE_STORE_ONLY_AE_TITLE
from pacs_operator.domain.probepeers import probe_dns_name, probe_peers
from pacs_operator.probes import networkchecks, run
from pacs_operator.probes.setting import Setting, prepared
from pacs_operator.probes.tls import Credentials, Forge, ForgedLeaf
from pacs_operator.probes.wire import Endpoint
from tests.probes.archive import Archive, Faults
from tests.probes.controlport import ControlPort, Laxities
from tests.probes.gate import Gate, Rules, Weaknesses

ARCHIVE = "radiology"
TITLE = "RADIOLOGY"
CLEANUP_NAME = "conformance.radiology-ops.svc"
REPLICAS = ("127.0.0.1", "127.0.0.2")
BOUNDS = Bounds(
    connect_millis=1200, answer_millis=3000, dimse_millis=5000, echo_beside_idle_millis=4000, run_seconds=100
)


class Blackhole:
    """A port that drops what comes: its queue of connections is full, so the kernel ignores every further SYN."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        self._address = address
        self._listener = socket.socket()
        self._listener.bind((address, port))
        self._listener.listen(0)
        self.port = self._listener.getsockname()[1]
        self._fillers: list[socket.socket] = []
        while self._fill():
            pass

    def _fill(self) -> bool:
        filler = socket.socket()
        filler.settimeout(0.1)
        self._fillers.append(filler)
        try:
            filler.connect((self._address, self.port))
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        for each in (*self._fillers, self._listener):
            each.close()


@dataclass
class World:
    """Everything a run meets, and how it is asked to be weak."""

    folder: Path
    stack: contextlib.ExitStack
    weak: Weaknesses = field(default_factory=Weaknesses)
    faults: Faults = field(default_factory=Faults)
    lax: Laxities = field(default_factory=Laxities)
    weak_replica: int = 1  # which replica has the weaknesses
    replicas: tuple[str, ...] = REPLICAS

    def __post_init__(self) -> None:
        self.peers_ca, self.control_ca = Forge("peers"), Forge("control")
        for forge in (self.peers_ca, self.control_ca):
            self.stack.callback(forge.close)
            self.folder.mkdir(exist_ok=True)
        (self.folder / "ca-peers.pem").write_text(self.peers_ca.ca_pem)
        (self.folder / "ca-control.pem").write_text(self.control_ca.ca_pem)
        probe = probe_dns_name(ARCHIVE, store_only=False)
        self.leaf(self.peers_ca, "peer", probe)
        self.leaf(self.peers_ca, "store-only", probe_dns_name(ARCHIVE, store_only=True))
        self.leaf(self.control_ca, "cleanup", CLEANUP_NAME)
        self.leaf(self.peers_ca, "server-only", probe, ForgedLeaf((ExtendedKeyUsageOID.SERVER_AUTH,)))
        self.leaf(self.peers_ca, "expired", probe, ForgedLeaf((ExtendedKeyUsageOID.CLIENT_AUTH,), seconds=-60))
        self.blackholes = [Blackhole(), Blackhole(), Blackhole()]
        self.blackholes.append(Blackhole(REPLICAS[1], self.blackholes[2].port))
        for each in self.blackholes:
            self.stack.callback(each.close)

    def leaf(self, ca: Forge, name: str, dns_name: str, leaf: ForgedLeaf | None = None) -> None:
        made = ca.issue(name, [dns_name], leaf)
        mine = Credentials.of_leaf(str(self.folder), name)
        mine.certificate.write_bytes(made.certificate.read_bytes())
        mine.key.write_bytes(made.key.read_bytes())

    def start(self) -> ConformanceConfig:
        """Start everything as asked, and return the run's configuration."""
        peers = probe_peers(ARCHIVE)
        rights = {title: set(peer.rights) for peer in peers for title in peer.ae_titles}
        self.archive = Archive(rights, {PROBE_AE_TITLE, PROBE_STORE_ONLY_AE_TITLE}, self.faults)
        self.stack.callback(self.archive.close)
        titles = {peer.identity: set(peer.ae_titles) for peer in peers}
        server = self.peers_ca.issue("gate", ["localhost"])
        rsa = self.peers_ca.issue("gate-rsa", ["localhost"], ForgedLeaf(rsa=True)) if self.weak.static_rsa else None
        limits = {title: peer.max_associations for peer in peers for title in peer.ae_titles}
        port = 0
        self.gates = []
        for number, address in enumerate(self.replicas, start=1):
            weak = self.weak if self.weak.contained or number == self.weak_replica else Weaknesses()
            rules = Rules(TITLE, titles, server, self.peers_ca.ca_pem, rsa, limits, weak)
            gate = Gate(rules, self.archive.endpoint, address, port)
            self.stack.callback(gate.close)
            self.gates.append(gate)
            port = gate.endpoint.port
        control_server = self.control_ca.issue("control", ["localhost"])
        self.control = ControlPort(self.archive, control_server, self.control_ca.ca_pem, CLEANUP_NAME, self.lax)
        self.stack.callback(self.control.close)
        return ConformanceConfig(
            run="r1",
            archive_ae_title=TITLE,
            gate_host="localhost",
            gate_replicas_host="replicas.test",
            gate_replicas=len(REPLICAS),
            gate_port=port,
            gate_outbound_port=self.blackholes[2].port,
            orthanc_host="localhost",
            orthanc_dicom_port=self.blackholes[0].port,
            orthanc_control_port=self.control.port,
            postgres_host="localhost",
            postgres_port=self.blackholes[1].port,
            postgres_control_port=self.control.port,
            tls_dir=str(self.folder),
            peers_ca_file=str(self.folder / "ca-peers.pem"),
            control_ca_file=str(self.folder / "ca-control.pem"),
            bounds=BOUNDS,
        )


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world without weaknesses, until the test gives it one and starts it."""
    with contextlib.ExitStack() as stack:
        built = World(tmp_path / "tls", stack)
        names = {"replicas.test": lambda: list(built.replicas), "localhost": lambda: ["127.0.0.1"]}
        resolve = _resolver(names)
        monkeypatch.setattr(networkchecks, "resolve", resolve)
        monkeypatch.setattr(run, "resolve", resolve)
        yield built


def _resolver(names: dict[str, Callable[[], list[str]]]) -> Callable[[str, int], list[str]]:
    """DNS as the cluster would answer; loopback has no names of its own for replicas."""

    def resolve(host: str, port: int) -> list[str]:
        del port
        return names[host]() if host in names else []

    return resolve


@contextlib.contextmanager
def setting_of(config: ConformanceConfig) -> Iterator[tuple[Setting, Endpoint]]:
    """The prepared setting and the first replica."""
    with prepared(config) as setting:
        yield setting, Endpoint(REPLICAS[0], config.gate_port)
