"""A real gate: HAProxy on the configuration that the operator renders."""

import asyncio
import contextlib
import csv
import io
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pacs_operator.agent.gate import GateNeighbour
from pacs_operator.agent.neighbour import Changes
from pacs_operator.agent.paths import Surroundings
from pacs_operator.domain import gatemaps
from pacs_operator.domain.agentconfig import AgentConfig
from pacs_operator.domain.gatepeers import LiveIssuer, LivePeer, LivePeers
from pacs_operator.domain.names import CaName
from pacs_operator.domain.peer import Right
from pacs_operator.render.gate import GateLayout, render
from tests.machine import free_port

from .archive import ORTHANC_FQDN, ORTHANC_NAME, Archive, Resolver
from .pki import Authority

T = TypeVar("T")
BACKENDS = "show stat -1 2 -1"
_IMAGES = Path(os.environ.get("PACS_IMAGES_CACHE", "/var/cache/pacs-images"))  # as images/build has it
ROOTFS = Path(os.environ.get("PACS_GATE_ROOTFS", _IMAGES / "rootfs" / "gate"))


def haproxy_command() -> list[str]:
    """Return how HAProxy is started: from the gate image's unpacked root file system, else the machine's own.

    The image's binary runs with the image's own loader and libraries; nothing is mounted or entered.
    """
    libraries = ROOTFS / "usr/lib/x86_64-linux-gnu"
    binary = ROOTFS / "usr/sbin/haproxy"
    if binary.exists():
        return [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries), str(binary)]
    own = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if own:
        version = subprocess.run([own, "-v"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"version (\d+)\.(\d+)\.(\d+)", version)
        if found and tuple(map(int, found.groups())) >= (3, 2, 26):
            return [own]
    raise RuntimeError(
        "no HAProxy 3.2.26 or later: build the gate image, or name its unpacked root by PACS_GATE_ROOTFS"
    )


def wait_for(holds: Callable[[], T], what: str, seconds: float = 60) -> T:
    """Return what a condition gives once it holds."""
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)
    return value


class Loop:
    """An event loop in a thread of its own, where an agent lives while tests block."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], seconds: float = 60) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()


@dataclass
class Site:
    """Authorities and archive of one test session."""

    folder: Path
    peers: Authority
    internal: Authority
    archive: Archive
    resolver: Resolver


@dataclass
class Gate:
    """HAProxy and the agent's part beside it."""

    site: Site
    folder: Path
    layout: GateLayout
    port: int
    loop: Loop
    agent: GateNeighbour
    process: subprocess.Popen[bytes]
    revision: int = 0
    live: dict[str, LivePeer] = field(default_factory=dict)
    issuers: list[LiveIssuer] | None = None
    legacy_port: int = 0  # the first of two plaintext ports, where a test wants such

    @property
    def outbound_port(self) -> int:
        return int(self.layout.outbound_bind.rpartition(":")[2])

    @property
    def tls(self) -> Path:
        return Path(self.layout.tls)

    def put(self, *peers: LivePeer) -> None:
        """Add or change peers, keep the others."""
        self.apply({**self.live, **{peer.id: peer for peer in peers}})

    def remove(self, *ids: str) -> None:
        self.apply({name: peer for name, peer in self.live.items() if name not in ids})

    def apply(self, peers: dict[str, LivePeer]) -> None:
        self.revision += 1
        revision = f"r{self.revision}"
        wanted = LivePeers(revision=revision, peers=list(peers.values()), issuers=self.issuers)
        assert self.loop.run(self.agent.apply_peers(wanted)) == revision
        self.live = peers

    def trust(self, *issuers: LiveIssuer) -> None:
        """Name these authorities and no others."""
        self.issuers = list(issuers)
        self.apply(self.live)

    def new_agent(self) -> None:
        """Let the agent's process end and start again; HAProxy goes on."""
        self.loop.run(self.agent.close())
        self.agent = GateNeighbour(agent_config(self.folder, self.layout), surroundings(self.folder))
        self.loop.run(self.agent.prepare(LivePeers(revision="r0", peers=[], issuers=self.issuers)))

    def refresh_crl(self, days: float = 7) -> None:
        (self.tls / "crl-peers.pem").write_bytes(self.site.peers.crl_pem(days))
        self.loop.run(self.agent.apply_certificates(Changes(crls=frozenset({CaName.PEERS}))))

    def ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.folder / "haproxy.sock"))
            client.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: client.recv(65536), b"")).decode()

    def archive_reachable(self) -> bool:
        """Tell whether HAProxy's own check of Orthanc's DICOM port succeeds; False while nobody answers."""
        try:
            answer = self.ask(BACKENDS)
        except OSError:
            return False
        rows = csv.DictReader(io.StringIO(answer.lstrip("# ")))
        return any(row["pxname"] == gatemaps.ARCHIVE_BACKEND and row["status"].startswith("UP") for row in rows)

    def sessions_ever(self, slot: str) -> int:
        """Return how many sessions a slot's backend has had."""
        rows = csv.DictReader(io.StringIO(self.ask(BACKENDS).lstrip("# ")))
        return next(int(row["stot"]) for row in rows if row["pxname"] == f"slot_{slot}")

    def activity(self, peer: str) -> Any:
        return {entry.id: entry for entry in self.loop.run(self.agent.activity())}[peer]

    def records(self) -> list[dict[str, str]]:
        """Return the records on standard output, as whoever collects the pod's logs sees them."""
        lines = (self.folder / "out.log").read_text("utf-8", "replace").splitlines()
        return [dict(word.partition("=")[::2] for word in line.split()) for line in lines if line.startswith("event=")]


def agent_config(folder: Path, layout: GateLayout) -> AgentConfig:
    return AgentConfig.model_validate(
        {
            "component": "gate",
            "lineageId": "0" * 32,
            "vault": {"address": "https://127.0.0.1:8200", "authPath": "kubernetes", "role": "gate"},
            "leaves": [],
            "trust": ["peers", "internal"],
            "aeTitle": layout.ae_title,
            "haproxySocket": str(folder / "haproxy.sock"),
            "haproxyLogSocket": str(folder / "log.sock"),
            "gateSlots": layout.slots,
            "clientIssuers": layout.issuers or None,
            "refuseExpiredLists": layout.refuse_expired_lists or None,
            "web": layout.web is not None or None,
        }
    )


def surroundings(folder: Path) -> Surroundings:
    return Surroundings(tls=folder / "tls", run=folder)


def peer(
    name: str,
    dns_name: str,
    *titles: str,
    sources: tuple[str, ...] = ("127.0.0.0/8",),
    limit: int = 8,
    rate: int | None = None,
    exception: int | None = None,
    issuer: str | None = None,
    spki: str | None = None,
    rights: tuple[Right, ...] = (Right.ECHO, Right.STORE),
) -> LivePeer:
    return LivePeer(
        id=f"imaging/{name}",
        dns_name=None if spki else dns_name,
        issuer=issuer,
        spki=spki,
        ae_titles=list(titles),
        source_cidrs=list(sources),
        rights=list(rights),
        max_associations=limit,
        associations_per_minute=rate,
        tls_exception_until=exception,
    )


def write_tls(site: Site, folder: Path) -> None:
    names = ("gate.radiology-edge.svc", "radiology.pacs.internal")
    site.peers.issue(*names, server=True).write(folder, "server-ec")
    site.peers.issue(*names, kind="RSA", server=True).write(folder, "server-rsa")
    site.internal.issue(names[0]).write(folder, "orthanc-client")
    site.internal.issue(names[0], server=True).write(folder, "outbound-server")
    site.peers.issue(*names).write(folder, "outbound-client")
    (folder / "ca-peers.pem").write_bytes(site.peers.root_pem())
    (folder / "ca-internal.pem").write_bytes(site.internal.root_pem())
    (folder / "crl-peers.pem").write_bytes(site.peers.crl_pem())


def layout_of(site: Site, folder: Path, port: int, **changes: Any) -> GateLayout:
    layout = GateLayout(
        ae_title="RADIOLOGY",
        orthanc_address=ORTHANC_FQDN,
        orthanc_port=site.archive.port,
        orthanc_name=ORTHANC_NAME,
        max_associations=64,
        bind=f"127.0.0.1:{port}",
        outbound_bind=f"127.0.0.1:{free_port()}",
        slots=16,
        tls=str(folder / "tls"),
        run=str(folder),
        lua_file=str(folder / "gate.lua"),
        nameservers=(site.resolver.address,),
    )
    return replace(layout, **changes)


def start_haproxy(folder: Path, name: str = "haproxy.cfg") -> subprocess.Popen[bytes]:
    with (folder / "out.log").open("ab") as out:
        # No master process here (the image has one): it would start its worker without the loader named above.
        command = [*haproxy_command(), "-db", "-f", str(folder / name)]
        return subprocess.Popen(command, stdout=out, stderr=out, env={"PATH": "/nonexistent"})


def stop_haproxy(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(timeout=10)


def listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def running_gate(site: Site, folder: Path, edit: Callable[[str], str] = str, **changes: Any) -> Iterator[Gate]:
    """Run a gate until the end of the block.

    ``edit`` takes a measure out of the rendered configuration: a refusal counts only when the same attack was seen
    to succeed without the measure.
    """
    (folder / "tls").mkdir(parents=True)
    port = free_port()
    layout = layout_of(site, folder, port, **changes)
    if layout.web:
        layout = replace(layout, web=replace(layout.web, lua_file=str(folder / "web.lua")))
    write_tls(site, folder / "tls")
    for name, content in render(layout).items():
        (folder / name).write_text(edit(content) if name == "haproxy.cfg" else content)
    loop = Loop()
    agent = GateNeighbour(agent_config(folder, layout), surroundings(folder))
    loop.run(agent.prepare(LivePeers(revision="r0", peers=[])))
    process = start_haproxy(folder)
    try:
        gate = Gate(site, folder, layout, port, loop, agent, process)
        # The runtime socket gets its name after the ports are open.
        ready = (folder / "haproxy.sock").exists
        wait_for(lambda: process.poll() is not None or (listening(port) and ready()), "HAProxy listens")
        assert process.poll() is None, (folder / "out.log").read_text()
        yield gate
    finally:
        stop_haproxy(process)
        loop.run(agent.close())
        loop.stop()
