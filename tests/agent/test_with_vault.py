"""Against a real OpenBao, bootstrapped by the administrator's script and provisioned by the operator's code."""

import asyncio
import contextlib
import io
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from pacs_operator.agent.context import Context
from pacs_operator.agent.keeper import Keeper
from pacs_operator.agent.paths import Surroundings
from pacs_operator.domain.agentconfig import AgentConfig, VaultAccess
from pacs_operator.domain.leaves import leaves_of
from pacs_operator.domain.names import ZONE_OF, CaName, Component, namespace_of, pki_mount
from pacs_operator.vault.layout import login_role
from pacs_operator.vault.pods import PodVault
from tests.agent.support import WEEK, FakeClock, eventually
from tests.vault.openbao import OpenBao
from tests.vault.world import AUDIENCE, AUTH_PATH, World, leaf

POD_ROOT = Path(__file__).with_name("pod_root.py")
TRUST = {
    Component.GATE: list(CaName),
    Component.ORTHANC: [CaName.INTERNAL, CaName.CONTROL],
    Component.POSTGRES: [CaName.INTERNAL, CaName.CONTROL],
    Component.CONFORMANCE: [CaName.PEERS, CaName.CONTROL],
    Component.IMPORTER: [CaName.PEERS],
}


class Pod:
    """A component's pod: its configuration, its token file, its folders."""

    def __init__(self, site: "Provisioned", component: Component) -> None:
        world, archive, lineage = site.world, site.archive, site.lineage
        self.token_file = world.token_file(namespace_of(archive, ZONE_OF[component]), component.value, AUDIENCE)
        self.config = AgentConfig(
            component=component,
            lineage_id=lineage,
            vault=VaultAccess(
                address=world.bao.address,
                ca_file=str(world.bao.ca_file),
                auth_path=AUTH_PATH,
                role=login_role(archive, component),
                token_file=str(self.token_file),
            ),
            leaves=[leaf(archive, component, one.name) for one in leaves_of(component, archive)],
            trust=TRUST[component],
            crl_refresh_seconds=30 * 86400,
            control_leaf=None if component in (Component.CONFORMANCE, Component.IMPORTER) else "control",
            ae_title="RADIOLOGY",
            postgres_socket_dir="/run/pacs" if component is Component.POSTGRES else None,
        )

    def keeper(self, surroundings: Surroundings, clock: FakeClock) -> Keeper:
        self.context = Context(self.config, surroundings, PodVault(self.config.vault), clock)
        keeper = Keeper(self.context, lambda _: None)
        clock.busy = lambda: keeper.renewing > 0
        return keeper


@dataclass(frozen=True)
class Provisioned:
    """An archive that the operator's code has set up in Vault."""

    world: World
    archive: str
    lineage: str

    @property
    def bao(self) -> OpenBao:
        return self.world.bao

    def signatures(self) -> int:
        """Count by Vault's own record."""
        return sum(f"pacs/{self.lineage}/" in write and "/sign/" in write for write in self.bao.audited_writes())


@pytest.fixture
def provisioned(world: World, archive: str, lineage: str) -> Provisioned:
    world.client().ensure_archive(archive, lineage, AUDIENCE)
    world.client().ensure_importer(archive, AUDIENCE)
    return Provisioned(world, archive, lineage)


@pytest.fixture
def clock() -> FakeClock:
    """Begin now, so that what Vault issues fits; the longest jitter keeps calls few."""
    return FakeClock(datetime.now(UTC), jitter=0.999)


@pytest.mark.parametrize("component", list(Component))
async def test_every_leaf_of_every_component(
    component: Component, provisioned: Provisioned, surroundings: Surroundings, clock: FakeClock
) -> None:
    await Pod(provisioned, component).keeper(surroundings, clock).obtain_all()
    for spec in leaves_of(component, provisioned.archive):
        chain = x509.load_pem_x509_certificates(surroundings.chain(spec.name).read_bytes())
        root = x509.load_pem_x509_certificate(surroundings.root(spec.ca).read_bytes())
        chain[0].verify_directly_issued_by(root)
        life = chain[0].not_valid_after_utc - chain[0].not_valid_before_utc
        assert spec.ttl_seconds <= life.total_seconds() <= spec.ttl_seconds + 120
        usages = set(chain[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        wanted = {ExtendedKeyUsageOID.SERVER_AUTH} if spec.server else set()
        assert usages == wanted | ({ExtendedKeyUsageOID.CLIENT_AUTH} if spec.client else set())
    for ca in TRUST[component]:
        root = x509.load_pem_x509_certificate(surroundings.root(ca).read_bytes())
        assert x509.load_pem_x509_crl(surroundings.crl(ca).read_bytes()).issuer == root.subject


async def test_sealed_beyond_a_renewal_keeps_what_serves_and_recovers(
    provisioned: Provisioned, surroundings: Surroundings, clock: FakeClock
) -> None:
    pod = Pod(provisioned, Component.POSTGRES)
    keeper = pod.keeper(surroundings, clock)
    await keeper.obtain_all()
    before = surroundings.bundle("postgres-server").read_bytes()
    task = asyncio.create_task(keeper.run())
    try:
        await asyncio.to_thread(provisioned.bao.seal)
        await clock.advance(WEEK * 2 / 3 + 1800)
        assert pod.context.problems.standing() == {
            "leaf/postgres-server": "VaultSealed",
            "leaf/control": "VaultSealed",
        }
        assert surroundings.bundle("postgres-server").read_bytes() == before
        await asyncio.to_thread(provisioned.bao.stop)
        await clock.advance(300)
        assert pod.context.problems.standing()["leaf/control"] == "VaultUnreachable"
        await asyncio.to_thread(provisioned.bao.start)  # unseals itself
        await clock.advance(61)
        assert pod.context.problems.standing() == {}
        assert surroundings.bundle("postgres-server").read_bytes() != before
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await asyncio.to_thread(_make_sure_it_runs, provisioned.bao)


def _make_sure_it_runs(bao: OpenBao) -> None:
    """Leave the session's server as it was found, also after a failure in the middle."""
    bao.stop()
    bao.start()


async def test_vaults_own_record_shows_one_signature_a_leaf_whatever_restarts(
    provisioned: Provisioned, surroundings: Surroundings, clock: FakeClock
) -> None:
    pod = Pod(provisioned, Component.ORTHANC)
    await pod.keeper(surroundings, clock).obtain_all()
    for _ in range(3):
        await pod.keeper(surroundings, clock).obtain_all()
    assert provisioned.signatures() == len(pod.config.leaves) == 3


async def test_a_revocation_reaches_the_pod(
    provisioned: Provisioned, surroundings: Surroundings, clock: FakeClock
) -> None:
    pod = Pod(provisioned, Component.GATE)
    keeper = pod.keeper(surroundings, clock)
    del keeper.leaves["server-rsa"]  # not needed here, and slow to make
    await keeper.obtain_all()
    serial = keeper.leaves["server-ec"].credential.certificate.serial_number  # type: ignore[union-attr]
    mount = pki_mount(provisioned.lineage, CaName.PEERS)
    digits = f"{serial:040x}"
    colons = ":".join(digits[i : i + 2] for i in range(0, 40, 2))
    provisioned.bao.call("POST", f"{mount}/revoke", {"serial_number": colons})
    provisioned.bao.call("GET", f"{mount}/crl/rotate")
    changes = await asyncio.to_thread(keeper.trust[CaName.PEERS].renew)
    assert changes.crls == {CaName.PEERS}
    crl = x509.load_pem_x509_crl(surroundings.crl(CaName.PEERS).read_bytes())
    assert crl.get_revoked_certificate_by_serial_number(serial) is not None


async def test_neither_token_nor_key_is_logged_or_on_a_disk(
    provisioned: Provisioned,
    surroundings: Surroundings,
    clock: FakeClock,
    log: io.StringIO,
    tmp_path: Path,
) -> None:
    pod = Pod(provisioned, Component.ORTHANC)
    keeper = pod.keeper(surroundings, clock)
    await keeper.obtain_all()
    pod.token_file.write_text(provisioned.world.identity.token("elsewhere", "thief"))
    stranger = Pod(provisioned, Component.GATE)
    stranger.token_file.write_text(pod.token_file.read_text())
    refused = stranger.keeper(Surroundings(tls=_folder(surroundings.tls / "other")), clock)
    task = asyncio.create_task(refused.obtain_all())
    try:
        await eventually(lambda: '"VaultForbidden"' in log.getvalue(), "the refused login is logged")
    finally:
        task.cancel()
    text = log.getvalue()
    secrets = [part for part in pod.token_file.read_text().split(".") if len(part) > 20]
    for kept in keeper.leaves.values():
        secrets += [line for line in surroundings.key(kept.leaf.name).read_text().splitlines() if "-----" not in line]
    assert len(secrets) > 8 and "CertificateObtained" in text
    assert [secret for secret in secrets if secret in text] == []
    assert _files_with(b"PRIVATE KEY", tmp_path, but=surroundings.tls) == []
    assert len(_files_with(b"PRIVATE KEY", surroundings.tls)) == 6  # the search finds what is there


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _files_with(needle: bytes, folder: Path, but: Path | None = None) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file() and not (but and path.is_relative_to(but))]
    return [path for path in files if needle in path.read_bytes()]


@pytest.fixture
def command(tmp_path: Path, memory: Path) -> Iterator["Command"]:
    made = Command(tmp_path, memory)
    yield made
    made.stop()


class Command:
    """``pacs-agent`` as a process, with ``/tls`` where the pod has it."""

    def __init__(self, folder: Path, memory: Path) -> None:
        self.folder = folder
        for name in ("tls", "run"):
            (memory / name).mkdir(exist_ok=True)
        (folder / "scratch").mkdir()
        (folder / "disk").mkdir()
        self.memory = memory
        self.process: subprocess.Popen[bytes] | None = None

    def arguments(self, *arguments: str, tls: Path | None = None, net: bool = False) -> list[str]:
        spaces = ["unshare", "--mount", *(["--net"] if net else [])]
        folders = [f"{tls or self.memory / 'tls'}:/tls", f"{self.memory / 'run'}:/run/pacs"]
        program = [sys.executable, "-m", "pacs_operator.agent", *arguments]
        return [*spaces, sys.executable, str(POD_ROOT), str(self.folder / "scratch"), *folders, "--", *program]

    def run(self, *arguments: str, tls: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.arguments(*arguments, tls=tls), capture_output=True, text=True, timeout=120, check=False
        )

    def start(self, *arguments: str) -> None:
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(self.arguments(*arguments, net=True), stdout=log, stderr=log)

    def inside(self, path: str) -> str:
        """Ask the health port from inside the pod's network."""
        assert self.process is not None
        ask = (
            "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8080, timeout=5); "
            f"c.request('GET', {path!r}); print(c.getresponse().status)"
        )
        enter = ["nsenter", "--net", f"--target={self.process.pid}", sys.executable, "-c", ask]
        return subprocess.run(enter, capture_output=True, text=True, timeout=30, check=False).stdout.strip()

    def up(self) -> bool:
        """Bring up loopback once the process has left our own network."""
        assert self.process is not None
        if Path(f"/proc/{self.process.pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink():
            return False
        enter = ["nsenter", "--net", f"--target={self.process.pid}", "ip", "link", "set", "lo", "up"]
        return subprocess.run(enter, capture_output=True, check=False).returncode == 0

    def stop(self) -> int | None:
        if self.process is None:
            return None
        self.process.terminate()
        code = self.process.wait(30)
        self.process = None
        return code


async def test_init_then_run_without_vault_as_processes(
    provisioned: Provisioned, command: Command, tmp_path: Path
) -> None:
    pod = Pod(provisioned, Component.POSTGRES)
    file = tmp_path / "agent.json"
    file.write_text(pod.config.model_dump_json(by_alias=True, exclude_none=True))
    on_disk = command.run("init", "--config", str(file), tls=tmp_path / "disk")
    assert on_disk.returncode == 1 and '"KeysNotInMemory"' in on_disk.stdout and on_disk.stderr == ""
    assert list((tmp_path / "disk").iterdir()) == []
    done = command.run("init", "--config", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (command.memory / "tls" / "postgres-server.key").stat().st_mode & 0o777 == 0o600
    # A network of its own: neither Vault nor PostgreSQL can be reached, and yet the pod may start.
    command.start("run", "--config", str(file))
    await eventually(command.up, "the network namespace is there")
    await eventually(lambda: command.inside("/startupz") == "200", "started without Vault", seconds=60)
    assert command.inside("/livez") == "200" and command.inside("/readyz") == "503"
    assert command.stop() == 0
    assert provisioned.signatures() == 2


@pytest.mark.parametrize(
    ("content", "reason", "message"),
    [
        (None, "AgentConfigInvalid", "cannot be read (FileNotFoundError)"),
        ("{", "AgentConfigInvalid", "json_invalid"),
        ('{"component": "gate"}', "AgentConfigInvalid", "lineageId: missing"),
    ],
)
def test_a_bad_configuration_ends_with_a_reason_and_no_trace(
    content: str | None, reason: str, message: str, command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "agent.json"
    if content is not None:
        file.write_text(content)
    for act in ("init", "run"):
        done = command.run(act, "--config", str(file))
        assert done.returncode == 1 and done.stderr == ""
        assert f'"{reason}"' in done.stdout and message in done.stdout and "Traceback" not in done.stdout


def test_init_gives_up_in_time_and_says_why(provisioned: Provisioned, command: Command, tmp_path: Path) -> None:
    pod = Pod(provisioned, Component.CONFORMANCE)
    file = tmp_path / "agent.json"
    text = pod.config.model_dump_json(by_alias=True, exclude_none=True)
    file.write_text(text.replace(provisioned.bao.address, "https://127.0.0.1:1"))
    begun = time.monotonic()
    done = command.run("init", "--config", str(file), "--deadline-seconds", "3")
    assert done.returncode == 1 and time.monotonic() - begun < 30
    assert '"VaultUnreachable"' in done.stdout.splitlines()[-1]
