"""Try on a shadow what would hurt an archive that serves: make it, attack it, write down what came of it, remove it.

Run from a machine that reaches the gate from outside, with the cluster rights of KUBECONFIG and a login to Vault with
policy pacs-enroller (BAO_ADDR, BAO_CACERT, BAO_TOKEN, or VAULT_...); docs/shadow.md has the steps.
"""

import datetime as dt
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kubernetes.config import ConfigException

from pacs_operator.domain import names
from pacs_operator.domain import shadow as twin
from pacs_operator.domain.conformanceconfig import ConformanceConfig, ProbeIdentity
from pacs_operator.domain.errors import PacsError
from pacs_operator.kube.client import KubeClient, load_api_client
from pacs_operator.kube.inventory import ARCHIVE, NAMESPACE, PEER, SERVICE, Kind
from pacs_operator.kube.port import KubePort, Manifest, labels_of, metadata

ROOT = Path(__file__).resolve().parents[1]
ENROL = ROOT / "deploy" / "vault" / "enrol-modality"
LABEL_UID = f"{names.GROUP}/shadow-uid"  # on the visitors' namespace: of the PacsArchive that was made
PAUSE_SECONDS, GONE_SECONDS, ADMITTED_SECONDS = 2.0, 300.0, 60.0
EXIT_PASSED, EXIT_FAILED, EXIT_COULD_NOT_RUN = 0, 1, 2

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


class ShadowError(PacsError):
    """The shadow cannot be made, tried or removed."""

    reason = "ShadowFailed"
    retry = False


def claim(kube: KubePort, archive: Manifest, cidr: str) -> None:
    """Take the shadow's name: by the visitors' namespace, which says that nothing had the shadow's names before.

    Raises
    ------
    ShadowError
        Something else has one of the names.
    """
    refuse_strangers(kube, twin.shadow_name(archive))
    kube.create(twin.visitor_of(archive, cidr)[0])


def make(kube: KubePort, archive: Manifest, cidr: str) -> None:
    """Make the shadow and its visitor, once its name is taken."""
    shadow, (_namespace, peer) = twin.shadow_of(archive, cidr), twin.visitor_of(archive, cidr)
    made = kube.create(shadow)
    uid = {"metadata": {"labels": {LABEL_UID: metadata(made)["uid"]}}}
    kube.patch(NAMESPACE, twin.visitors_namespace(metadata(made)["name"]), None, uid)
    kube.create(peer)


def refuse_strangers(kube: KubePort, name: str) -> None:
    """Refuse names that something has already: what lies there may be somebody's images.

    Raises
    ------
    ShadowError
        There is a resource or a namespace of that name.
    """
    zones = [names.namespace_of(name, zone) for zone in names.Zone]
    found = [each for each in [*zones, twin.visitors_namespace(name)] if kube.get(NAMESPACE, each)]
    if kube.get(ARCHIVE, name):
        found.insert(0, f"PacsArchive {name}")
    if found:
        raise ShadowError(
            f"{', '.join(found)} is there already",
            reason="NameTaken",
            action="remove an earlier shadow with the command remove; what is no shadow keeps its name",
        )


def remove(kube: KubePort, name: str, say: Callable[[str], None]) -> None:
    """Remove a shadow with its volumes: exactly the zones of the PacsArchive that was made, and nothing else.

    Raises
    ------
    ShadowError
        What bears the name is no shadow, or does not go.
    """
    visitors, archive = kube.get(NAMESPACE, twin.visitors_namespace(name)), kube.get(ARCHIVE, name)
    for found in (visitors, archive):
        if found is not None and twin.LABEL_SHADOW_OF not in labels_of(found):
            raise ShadowError(
                f"{found['kind']} {metadata(found)['name']} is no shadow's",
                reason="NotAShadow",
                action="nothing was removed; docs/deletion.md says how an archive is deleted",
            )
    if visitors is None:
        if archive is None:
            return
        raise ShadowError(
            f"namespace {twin.visitors_namespace(name)} is gone, which says which data are the shadow's",
            reason="NotAShadow",
            action="look what lies in its zones, and delete them as docs/deletion.md says",
        )
    uid = metadata(archive)["uid"] if archive else labels_of(visitors).get(LABEL_UID)
    for peer in kube.list(PEER, twin.visitors_namespace(name)):
        kube.delete(peer)
    if archive is not None:
        kube.delete(archive)
        _gone(kube, ARCHIVE, name)
    zones = [each for each in kube.list(NAMESPACE, labels={names.LABEL_ARCHIVE: name}) if _zone_of(each, uid)]
    for zone in zones:
        own = metadata(zone)["name"]
        say(f"removing namespace {own}")
        kube.patch(NAMESPACE, own, None, {"metadata": {"annotations": {names.ANNOTATION_RELEASE: own}}})
        kube.delete(zone)
    for zone in zones:
        _gone(kube, NAMESPACE, metadata(zone)["name"])
    kube.delete(visitors)
    _gone(kube, NAMESPACE, metadata(visitors)["name"])


def _zone_of(namespace: Manifest, uid: str | None) -> bool:
    return uid is not None and labels_of(namespace).get(names.LABEL_ARCHIVE_UID) == uid


def await_ready(kube: KubePort, name: str, seconds: float, say: Callable[[str], None]) -> Manifest:
    """Return the shadow once it is Ready and takes its visitor; each new reason is told.

    Raises
    ------
    ShadowError
        It is not Ready in time; the message says what its condition says.
    """
    deadline, told = time.monotonic() + seconds, ""
    while True:
        archive = kube.get(ARCHIVE, name) or {}
        peer = kube.get(PEER, twin.VISITOR, twin.visitors_namespace(name)) or {}
        words = _missing(archive, "Ready") or _missing(peer, "Accepted")
        if words is None:
            return archive
        if words != told:
            say(words)
            told = words
        if time.monotonic() > deadline:
            raise ShadowError(
                f"not within {seconds:.0f} s: {words}",
                reason="ShadowNotReady",
                action="docs/troubleshooting.md explains the reason; the shadow has the archive's own configuration",
            )
        time.sleep(PAUSE_SECONDS)


def _missing(manifest: Manifest, kind: str) -> str | None:
    """Return why a condition does not hold for the newest spec, or None when it does."""
    status = manifest.get("status") or {}
    for each in status.get("conditions") or []:
        if each["type"] == kind and each.get("observedGeneration") == metadata(manifest).get("generation"):
            return None if each["status"] == "True" else f"{kind}={each['status']} {each['reason']}: {each['message']}"
    return f"{kind} is not told yet"


def images_of(archive: Manifest) -> dict[str, str]:
    """Return the digests that an archive runs, by component."""
    found: dict[str, str] = ((archive.get("status") or {}).get("effective") or {}).get("images") or {}
    return found


def refuse_others_images(archive: Manifest, shadow: Manifest) -> None:
    """Refuse to try other images than the archive's.

    Raises
    ------
    ShadowError
        A digest differs, or the archive does not tell.
    """
    real, made = images_of(archive), images_of(shadow)
    differ = sorted(each for each in real if made.get(each) != real[each])
    if differ or not real:
        raise ShadowError(
            f"the archive and its shadow do not run the same images: {', '.join(differ) or 'none is told'}",
            reason="DigestsDiffer",
            action="wait until the archive has settled after its last upgrade, and begin again",
        )


def config_of(shadow: Manifest, service: Manifest, gate_address: str, folder: Path) -> ConformanceConfig:
    """Return what ``pacs-probe shadow`` is told."""
    ports = {each["name"]: each["nodePort"] for each in service["spec"]["ports"] if "nodePort" in each}
    visitor = ProbeIdentity(leaf=twin.VISITOR, ae_title=twin.VISITOR_TITLE)
    return ConformanceConfig(
        run="shadow",
        shadow=True,
        archive_ae_title=shadow["spec"]["dicom"]["aeTitle"],
        gate_host=f"{metadata(shadow)['name']}.pacs.internal",
        gate_replicas_host=gate_address,
        gate_replicas=1,
        gate_port=ports["dicom-tls"],
        gate_web_port=ports.get("https"),
        orthanc_host="not.used.invalid",
        postgres_host=None,
        peer=visitor,
        store_only=visitor,
        cleanup_leaf=twin.VISITOR,
        server_only_leaf=twin.VISITOR,
        expired_leaf=twin.VISITOR,
        tls_dir=str(folder),
        peers_ca_file=str(folder / "ca.pem"),
        control_ca_file=str(folder / "ca.pem"),
    )


def enrol(shadow: Manifest, folder: Path) -> None:
    """Have a certificate signed as any device has: key and request are made here.

    Raises
    ------
    ShadowError
        Vault signs none.
    """
    name = metadata(shadow)["name"]
    key = ec.generate_private_key(ec.SECP256R1())
    host = twin.dns_name(name)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    request = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    words, chain = folder / "request.pem", folder / f"{twin.VISITOR}.crt"
    words.write_bytes(request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{twin.VISITOR}.key").write_bytes(key.private_bytes(*form))
    peer = f"{twin.visitors_namespace(name)}/{twin.VISITOR}"
    command = [ENROL, "--lineage", shadow["status"]["lineageID"], "--peer", peer, "--csr", words, "--out", chain]
    done = subprocess.run([*map(str, command), "--days", "1"], check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise ShadowError(
            f"the visitor has no certificate: {done.stderr.strip()}",
            reason="NotEnrolled",
            action="log in to Vault with policy pacs-enroller; deploy/vault/enrol-modality --help says what it needs",
        )
    text = chain.read_text(encoding="ascii")
    (folder / "ca.pem").write_text(text[text.rindex("-----BEGIN CERTIFICATE-----") :], encoding="ascii")


def admitted(config: ConformanceConfig) -> None:
    """Wait until the gate and the network let the visitor in, which takes seconds after it was accepted.

    Raises
    ------
    ShadowError
        It is not let in.
    """
    leaf = Path(config.tls_dir) / twin.VISITOR
    where = ["--host", config.gate_replicas_host, "--port", str(config.gate_port), "--server-name", config.gate_host]
    titles = ["--called", config.archive_ae_title, "--calling", twin.VISITOR_TITLE]
    shown = ["--cert", f"{leaf}.crt", "--key", f"{leaf}.key", "--ca", config.peers_ca_file]
    echo = [*_probe("modality"), "echo", *where, *titles, *shown]
    _until(
        lambda: subprocess.run(echo, check=False, capture_output=True).returncode == 0,
        f"the visitor is not served at {config.gate_replicas_host}:{config.gate_port}",
        ADMITTED_SECONDS,
    )


def attack(config: ConformanceConfig, folder: Path) -> list[dict[str, Any]]:
    """Return what each attack came to.

    Raises
    ------
    ShadowError
        ``pacs-probe shadow`` refused to begin.
    """
    written, out = folder / "shadow.json", folder / "attacks.json"
    written.write_text(config.model_dump_json(by_alias=True), encoding="utf-8")
    words = [*_probe("shadow"), "--config", str(written), "--json", str(out)]
    done = subprocess.run(words, check=False, stdout=sys.stderr)
    if done.returncode not in (EXIT_PASSED, EXIT_FAILED) or not out.exists():
        raise ShadowError(
            f"pacs-probe shadow ended with {done.returncode}",
            reason="ProbeRefused",
            action="it says above why it did not begin",
        )
    found: list[dict[str, Any]] = json.loads(out.read_text(encoding="ascii"))
    return found


def _probe(act: str) -> list[str]:
    return [sys.executable, "-m", "pacs_operator.probes", act]


def _gone(kube: KubePort, kind: Kind, name: str) -> None:
    _until(lambda: kube.get(kind, name) is None, f"{kind.kind} {name} does not go", GONE_SECONDS)


def _until(holds: Callable[[], bool], otherwise: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise ShadowError(f"{otherwise}, {seconds:.0f} s long", action="look at its events and begin again")
        time.sleep(PAUSE_SECONDS)


def _writable(file: Path) -> None:
    """Refuse a file that cannot be written before anything is made: what came of a shadow is not to be had again."""
    try:
        file.open("a", encoding="utf-8").close()
    except OSError as error:
        words = f"--json: {file} cannot be written ({error.strerror})"
        raise ShadowError(words, reason="NotWritable", action="name a file in a folder that is yours") from None


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _cluster() -> KubePort:
    try:
        return KubeClient(load_api_client(1), manager="pacs-shadow")
    except ConfigException:
        raise ShadowError("no kubeconfig can be read", action="set KUBECONFIG", reason="NoCluster") from None


def _live(kube: KubePort, name: str) -> Manifest:
    found = kube.get(ARCHIVE, name)
    if found is None:
        raise ShadowError(f"there is no PacsArchive {name}", action="kubectl get pacsarchives", reason="NoArchive")
    return found


def _tried(kube: KubePort, archive: Manifest, gate_address: str, seconds: float) -> dict[str, Any]:
    name, began = twin.shadow_name(archive), dt.datetime.now(dt.UTC)
    shadow = await_ready(kube, name, seconds, _say)
    refuse_others_images(archive, shadow)
    service = kube.get(SERVICE, names.Component.GATE.value, names.namespace_of(name, names.Zone.EDGE)) or {}
    with tempfile.TemporaryDirectory() as folder:
        enrol(shadow, Path(folder))
        config = config_of(shadow, service, gate_address, Path(folder))
        admitted(config)
        attacks = attack(config, Path(folder))
    return {
        "archive": metadata(archive)["name"],
        "shadow": name,
        "release": shadow["spec"]["release"],
        "images": images_of(shadow),
        "began": began.isoformat(timespec="seconds"),
        "ended": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "attacks": attacks,
    }


@app.command("try")
def try_(  # noqa: PLR0913  # a command line: each is an option of its own
    archive: Annotated[str, typer.Argument(help="PacsArchive that serves; nothing of it is touched")],
    *,
    gate_address: Annotated[str, typer.Option(help="address of a node at which this machine reaches gates")],
    visitor_cidr: Annotated[str, typer.Option(help="this machine's address as that node sees it, with /32 or /128")],
    json_file: Annotated[Path, typer.Option("--json", help="where to write what came of it")],
    wait_seconds: Annotated[float, typer.Option(min=1, help="how long the shadow may take until it is Ready")] = 600,
    keep: Annotated[bool, typer.Option(help="leave the shadow there afterwards")] = False,
) -> None:
    """Make a shadow, attack it, remove it: exit 0 when it bore all, 1 when not, 2 when it could not be tried."""
    try:
        _writable(json_file)
        kube = _cluster()
        real = _live(kube, archive)
        claim(kube, real, visitor_cidr)
        try:
            make(kube, real, visitor_cidr)
            found = _tried(kube, real, gate_address, wait_seconds)
            json_file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        finally:
            if not keep:
                remove(kube, twin.shadow_name(real), _say)
    except PacsError as error:
        for each in (error.__context__, error):  # one on the way out hides what it came after
            if isinstance(each, PacsError):
                _say(f"{each.reason}: {each}")
        raise typer.Exit(EXIT_COULD_NOT_RUN) from None
    bore = all(each["outcome"] == "Passed" for each in found["attacks"])
    raise typer.Exit(EXIT_PASSED if bore else EXIT_FAILED)


@app.command("remove")
def remove_(archive: Annotated[str, typer.Argument(help="the archive that it is a shadow of")]) -> None:
    """Remove a shadow that an earlier try left there, with its volumes."""
    try:
        remove(_cluster(), archive + twin.SUFFIX, _say)
    except PacsError as error:
        _say(f"{error.reason}: {error}")
        raise typer.Exit(EXIT_COULD_NOT_RUN) from None


if __name__ == "__main__":
    app()
