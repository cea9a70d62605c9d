"""The administrator's and the enrolling person's scripts, run as they run them."""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from pacs_operator.domain.names import CaName, pki_mount
from pacs_operator.vault.errors import VaultFailedError
from tests.vault.world import AUDIENCE, AUTH_PATH, BOOTSTRAP, DEPLOY, OPERATOR, World, request, run

IDENTITY = "ct1.imaging.example"
SCRIPTS = ["bootstrap", "enrol-modality", "revoke-modality", "shred"]


@dataclass
class Desk:
    """A person with policy pacs-enroller, an archive with the peer imaging/ct1, and a folder of the device's."""

    world: World
    lineage: str
    folder: Path
    environment: dict[str, str]

    def request(self, *options: str, subject: str = f"/CN={IDENTITY}", san: str | None = f"DNS:{IDENTITY}") -> Path:
        """Make key and request by openssl, as the help text says."""
        key, csr = self.folder / "device.key", self.folder / "device.csr"
        kind = options or ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
        names = [] if san is None else ["-addext", f"subjectAltName={san}"]
        subprocess.run(
            ["openssl", "req", "-new", *kind, "-nodes", "-keyout", key, "-out", csr, "-subj", subject, *names],
            check=True,
            capture_output=True,
        )
        return csr

    def enrol(self, csr: Path, *more: str, peer: str = "imaging/ct1") -> subprocess.CompletedProcess[str]:
        arguments = ["--lineage", self.lineage, "--peer", peer, "--csr", str(csr), *more]
        return run(DEPLOY / "enrol-modality", *arguments, environment=self.environment)

    def verify(self, chain: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Verify the chain's leaf by openssl against the archive's published authority and CRL."""
        client = self.world.client()
        (self.folder / "chain.pem").write_text(chain)
        (self.folder / "ca.pem").write_text(client.ca_pem(self.lineage, CaName.PEERS))
        arguments = ["verify", "-CAfile", str(self.folder / "ca.pem"), *options, str(self.folder / "chain.pem")]
        return subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)

    def crl(self) -> x509.CertificateRevocationList:
        text = self.world.bao.try_call("GET", f"{pki_mount(self.lineage, CaName.PEERS)}/crl/pem", token="").text
        (self.folder / "crl.pem").write_text(text)
        return x509.load_pem_x509_crl(text.encode())


def again(act: Callable[[], object]) -> None:
    """Do it once more where Vault says that it failed, as the operator does: a busy one's store refuses a commit."""
    try:
        act()
    except VaultFailedError:
        act()


@pytest.fixture
def desk(world: World, archive: str, lineage: str, tmp_path: Path) -> Desk:
    client = world.client()
    again(lambda: client.ensure_archive(archive, lineage, AUDIENCE))
    client.ensure_peer_role(lineage, "imaging", "ct1", IDENTITY)
    data = {"policies": ["pacs-enroller"], "no_default_policy": False, "ttl": "10m"}
    token = world.bao.call("POST", "auth/token/create", data)["auth"]["client_token"]
    return Desk(world, lineage, tmp_path, world.bao.environment(token))


EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
RSA = ("-newkey", "rsa:3072")


@pytest.mark.parametrize("kind", [EC, RSA], ids=["EC", "RSA"])
def test_request_in_certificate_out(desk: Desk, kind: tuple[str, ...]) -> None:
    done = desk.enrol(desk.request(*kind))
    assert done.returncode == 0, done.stderr
    assert "PRIVATE KEY" not in done.stdout + done.stderr
    assert desk.verify(done.stdout, "-purpose", "sslclient", "-verify_hostname", IDENTITY).returncode == 0
    leaf, issuer = x509.load_pem_x509_certificates(done.stdout.encode())
    leaf.verify_directly_issued_by(issuer)
    assert f"identity {IDENTITY} for DicomPeer imaging/ct1" in done.stderr


@pytest.mark.parametrize("kind", [EC, RSA], ids=["EC", "RSA"])
@pytest.mark.parametrize("hours", [1, 5, 24])
def test_a_break_glass_reader_is_signed_for_its_hours(desk: Desk, kind: tuple[str, ...], hours: int) -> None:
    name, peer = "dr-keller.break-glass.pacs.internal", "_break-glass/dr-keller"
    role = "peer._break-glass.dr-keller"
    asked = desk.request(*kind, subject=f"/CN={name}", san=f"DNS:{name}")
    assert "does not know" in desk.enrol(asked, peer=peer).stderr
    client = desk.world.client()
    assert client.ensure_break_glass_role(desk.lineage, role, name, hours).created
    assert not client.ensure_break_glass_role(desk.lineage, role, name, hours).created
    done, longer = desk.enrol(asked, peer=peer), desk.enrol(asked, "--days", "30", peer=peer)
    assert done.returncode == 0, done.stderr
    for chain in (done.stdout, longer.stdout):  # Vault shortens what is asked for beyond the role
        leaf = x509.load_pem_x509_certificates(chain.encode())[0]
        life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        assert abs(life.total_seconds() - hours * 3600) <= 60
    assert desk.verify(done.stdout, "-purpose", "sslclient", "-verify_hostname", name).returncode == 0
    assert desk.verify(done.stdout, "-purpose", "sslserver").returncode != 0
    other = desk.request(*kind, subject="/CN=dr-meier.break-glass.pacs.internal", san=None)
    assert desk.enrol(other, peer=peer).returncode != 0
    assert client.delete_peer_roles_except(desk.lineage, {"peer.imaging.ct1"}).deleted == (
        f"pacs/{desk.lineage}/peers/roles/{role}",
    )


def test_request_with_a_common_name_alone_gets_the_subject_alternative_name(desk: Desk) -> None:
    done = desk.enrol(desk.request(san=None))
    assert done.returncode == 0, done.stderr
    leaf = x509.load_pem_x509_certificates(done.stdout.encode())[0]
    assert list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value) == [x509.DNSName(IDENTITY)]


def test_chain_goes_to_a_file_and_life_is_as_asked(desk: Desk) -> None:
    out = desk.folder / "out.pem"
    done = desk.enrol(desk.request(), "--out", str(out), "--days", "30")
    assert (done.returncode, done.stdout) == (0, "")
    leaf = x509.load_pem_x509_certificate(out.read_bytes())
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days == 30


def test_help_prints_requests_that_work(desk: Desk) -> None:
    """The lines people copy are run here, not trusted."""
    text = run(DEPLOY / "enrol-modality", "--help", environment=desk.environment).stdout
    commands = re.findall(r"openssl req (?:.*\\\n)*.*", text)
    assert len(commands) == 2
    for command in commands:
        subprocess.run(["sh", "-c", command], cwd=desk.folder, check=True, capture_output=True)
        assert desk.enrol(desk.folder / "ct1.csr").returncode == 0


def test_revoked_certificate_is_on_the_list_at_once(desk: Desk) -> None:
    first, second = (desk.enrol(desk.request()).stdout for _ in range(2))
    serials = [x509.load_pem_x509_certificate(chain.encode()).serial_number for chain in (first, second)]
    assert len(desk.crl()) == 0
    arguments = ["--lineage", desk.lineage, "--serial", f"{serials[0]:X}"]
    done = run(DEPLOY / "revoke-modality", *arguments, environment=desk.environment)
    assert done.returncode == 0, done.stderr
    crl = desk.crl()
    assert crl.get_revoked_certificate_by_serial_number(serials[0]) is not None
    assert crl.get_revoked_certificate_by_serial_number(serials[1]) is None
    check = ("-crl_check", "-CRLfile", str(desk.folder / "crl.pem"))
    assert "certificate revoked" in desk.verify(first, *check).stderr
    assert desk.verify(second, *check).returncode == 0


@pytest.mark.parametrize(
    ("subject", "san", "said"),
    [
        ("/CN=ct2.imaging.example", "DNS:ct2.imaging.example", "asks for ct2.imaging.example but DicomPeer imaging"),
        (f"/CN={IDENTITY}", f"DNS:{IDENTITY},DNS:ct2.imaging.example", "asks for ct1.imaging.example ct2.imaging.exam"),
        ("/CN=*.imaging.example", "DNS:*.imaging.example", "asks for *.imaging.example but"),
        (f"/CN={IDENTITY}", f"DNS:{IDENTITY.upper()}", "asks for CT1.IMAGING.EXAMPLE but"),
        (f"/CN={IDENTITY}", f"DNS:{IDENTITY},IP:10.0.0.1", "IP Subject Alternative Names are not allowed"),
        (f"/CN={IDENTITY}", f"DNS:{IDENTITY},URI:https://x", "URI Subject Alternative Names are not allowed"),
        (f"/CN={IDENTITY}", f"DNS:{IDENTITY},email:a@{IDENTITY}", "asks for an e-mail address"),
        ("/CN=CT1", f"DNS:{IDENTITY}", "common name CT1 not allowed by this role"),
    ],
    ids=["other", "further", "wildcard", "upper case", "address", "URI", "e-mail", "common name"],
)
def test_request_for_another_identity_is_refused(desk: Desk, subject: str, san: str, said: str) -> None:
    refused = desk.enrol(desk.request(subject=subject, san=san))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert said in refused.stderr
    assert desk.enrol(desk.request()).returncode == 0


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["ct2.imaging.example"], "ct2.imaging.example not allowed"),
        ([IDENTITY, "ct2.imaging.example"], "ct2.imaging.example not allowed"),
        (["*.imaging.example"], "not allowed by this role"),
        ([f"a.{IDENTITY}"], "not allowed by this role"),
    ],
    ids=["other", "further", "wildcard", "subdomain"],
)
def test_role_itself_signs_one_identity_only(desk: Desk, names: list[str], said: str) -> None:
    """Without the script's own look at the request, and for an administrator too."""
    path = f"{pki_mount(desk.lineage, CaName.PEERS)}/sign/peer.imaging.ct1"
    answer = desk.world.bao.try_call("POST", path, {"csr": request(names)})
    assert (answer.status_code, said in answer.text) == (400, True)
    assert desk.world.bao.try_call("POST", path, {"csr": request([IDENTITY])}).ok


def test_short_and_odd_keys_are_refused(desk: Desk) -> None:
    assert "RSA keys < 2048 bits" in desk.enrol(desk.request("-newkey", "rsa:1024")).stderr
    assert "neither EC nor RSA" in desk.enrol(desk.request("-newkey", "ed25519")).stderr


def test_key_instead_of_request_is_refused_unsent(desk: Desk) -> None:
    desk.request()
    before = desk.world.bao.audited_writes()
    refused = desk.enrol(desk.folder / "device.key")
    assert "holds a private key" in refused.stderr
    assert desk.world.bao.audited_writes() == before


def test_tampered_request_is_refused(desk: Desk) -> None:
    csr = desk.request()
    lines = csr.read_text().splitlines()
    lines[-2] = lines[-2][:-6] + "AAAA" + lines[-2][-2:]
    csr.write_text("\n".join(lines) + "\n")
    assert "no valid PKCS #10 request" in desk.enrol(csr).stderr


def test_unknown_peer_lineage_and_login_are_told_apart_from_a_bad_request(desk: Desk) -> None:
    csr = desk.request()
    assert "does not know DicomPeer imaging/ct9" in desk.enrol(csr, peer="imaging/ct9").stderr
    refused = run(
        DEPLOY / "enrol-modality",
        *("--lineage", desk.lineage, "--peer", "imaging/ct1", "--csr", str(csr)),
        environment=desk.environment | {"BAO_TOKEN": "nonsense"},
    )
    assert "permission denied" in refused.stderr
    assert refused.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--lineage is missing"),
        (["--lineage", "XYZ"], "is no lineage"),
        (["--lineage", "ab", "--peer", "ct1"], "NAMESPACE/NAME"),
        (["--lineage", "ab", "--peer", "a/b/c"], "NAMESPACE/NAME"),
        (["--lineage", "ab", "--peer", "a/b"], "--csr is missing"),
        (["--lineage", "ab", "--peer", "a/b", "--csr", "/nowhere"], "cannot be read"),
        (["--lineage", "ab", "--peer", "a/b", "--days", "x"], "is not a number"),
        (["--peer"], "needs a value"),
        (["--force"], "unknown option --force"),
    ],
)
def test_enrolment_names_the_wrong_argument(desk: Desk, arguments: list[str], said: str) -> None:
    refused = run(DEPLOY / "enrol-modality", *arguments, environment=desk.environment)
    assert refused.returncode == 2
    assert said in refused.stderr


def test_bootstrap_twice_leaves_policies_alone(world: World) -> None:
    assert world.bootstrap().returncode == 0
    before = world.bao.audited_writes()
    again = world.bootstrap()
    assert again.stdout.count("unchanged") == 3
    written = world.bao.audited_writes()[len(before) :]
    # Vault does not show the reviewer's token, so these two are always written, with the same content.
    assert written == [
        f"update auth/{AUTH_PATH}/config",
        f"update auth/{AUTH_PATH}/role/pacs-operator",
    ]


def test_bootstrap_repairs_a_policy_altered_by_hand(world: World) -> None:
    wanted = world.bao.call("GET", "sys/policies/acl/pacs-operator")["data"]["policy"]
    world.bao.call("POST", "sys/policies/acl/pacs-operator", {"policy": 'path "*" { capabilities = ["sudo"] }'})
    assert world.bootstrap().returncode == 0
    assert world.bao.call("GET", "sys/policies/acl/pacs-operator")["data"]["policy"] == wanted


def test_bootstrap_for_a_second_cluster_does_not_take_over_the_first(world: World) -> None:
    try:
        refused = world.bootstrap("--auth-path", "other-cluster")
        assert refused.returncode == 2
        assert "belongs to another cluster" in refused.stderr
        world.bao.call("POST", "sys/mounts/pacs/x/peers", {"type": "pki"}, world.operator_token())
    finally:
        world.bao.call("DELETE", "sys/auth/other-cluster")
        world.bao.call("DELETE", "sys/mounts/pacs/x/peers")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kubernetes-host", "http://plain"], "does not begin with https://"),
        (["--kubernetes-ca", "/nowhere"], "is no readable PEM certificate"),
        (["--reviewer-token", "/nowhere"], "is empty or cannot be read"),
        (["--operator-namespace", "x-edge"], "ends like an archive's zone"),
        (["--operator-service-account", "a|b"], "is no name"),
        (["--auth-path", ""], "is no name"),
        (["--auth-path"], "needs a value"),
        (["--nonsense"], "unknown option --nonsense"),
    ],
)
def test_bootstrap_names_the_wrong_argument_and_writes_nothing(world: World, arguments: list[str], said: str) -> None:
    before = world.bao.audited_writes()
    refused = world.bootstrap(*arguments)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert world.bao.audited_writes() == before


def test_bootstrap_says_what_is_missing(world: World, tmp_path: Path) -> None:
    environment = world.bao.environment()
    assert "--kubernetes-host" in run(BOOTSTRAP, environment=environment).stderr
    arguments = ["--kubernetes-host", "https://x", "--kubernetes-ca", str(world.bao.ca_file), "--local-reviewer"]
    nobody = {name: value for name, value in environment.items() if name != "BAO_ADDR"}
    assert "no server named" in run(BOOTSTRAP, *arguments, environment=nobody).stderr
    stranger = environment | {"BAO_TOKEN": "nonsense"}
    assert "does not accept this login" in run(BOOTSTRAP, *arguments, environment=stranger).stderr
    bare = environment | {"PATH": _path_without_cli(tmp_path)}
    assert "neither bao nor vault" in run(BOOTSTRAP, *arguments, environment=bare).stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_clean_posix_shell(script: str) -> None:
    checker = shutil.which("shellcheck")
    assert checker, "shellcheck is a Debian package of this name"
    done = subprocess.run([checker, DEPLOY / script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("policy", ["pacs-component", "pacs-operator", "pacs-enroller"])
def test_no_placeholder_is_left_in_a_policy(world: World, policy: str) -> None:
    text = world.bao.call("GET", f"sys/policies/acl/{policy}")["data"]["policy"]
    assert not re.search(r"@[A-Z_]+@", text)
    assert OPERATOR.namespace in text or policy != "pacs-operator"


def _path_without_cli(folder: Path) -> str:
    """Return a PATH that has the shell's tools, and neither bao nor vault."""
    for tool in ("sh", "dirname", "grep", "sed", "head", "tail", "tr", "cat"):
        found = shutil.which(tool)
        assert found
        (folder / tool).symlink_to(found)
    return str(folder)
