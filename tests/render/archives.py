"""Archives to render: one plain, and ways to vary it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from pacs_operator.domain.archive import Archive
from pacs_operator.domain.catalog import Images, Release
from pacs_operator.domain.facts import ClusterSettings, Desired, Importing, VaultSettings
from pacs_operator.domain.gatepeers import LivePeer, LivePeers
from pacs_operator.domain.importing import ImportSpec
from pacs_operator.domain.peer import Right

CASES = sorted(path for path in (Path(__file__).parent / "golden").iterdir() if path.is_dir())
LINEAGE = "0123456789abcdef0123456789abcdef"
UID = "6f1c1f6e-6f0f-4f57-9a0b-2f1d1c2b3a49"
CA_PEM = "-----BEGIN CERTIFICATE-----\nMIIBTESTONLY\n-----END CERTIFICATE-----\n"


def image(name: str, digit: str = "a") -> str:
    return f"registry.example/pacs-operator/{name}@sha256:{digit * 64}"


RELEASE = Release(
    version="2026.11.0",
    images=Images(archive=image("archive"), gate=image("gate"), database=image("database"), tools=image("tools")),
)
VAULT = VaultSettings(
    address="https://vault.example:8200",
    ca_pem=CA_PEM,
    auth_path="pacs-kubernetes",
    audience="vault",
    cidrs=("198.18.0.10/32",),
    port=8200,
)
CLUSTER = ClusterSettings(
    operator_namespace="pacs-operator",
    operator_service_account="pacs-operator",
    operator_pod_labels={"app.kubernetes.io/name": "pacs-operator"},
)
SPEC: dict[str, Any] = {
    "release": {"catalog": "stable", "version": "2026.11.0"},
    "dicom": {"aeTitle": "RADIOLOGY"},
    "peers": {
        "namespaceSelector": {"matchLabels": {"pacs-operator.io/peers-of": "radiology"}},
        "allowedCIDRs": ["198.18.0.0/16"],
        "maxRights": ["Echo", "Store", "Find", "Get"],
    },
    "storage": {"sizeGi": 20, "storageClassName": "hostpath"},
    "database": {"mode": "Managed", "sizeGi": 5, "storageClassName": "hostpath"},
    "encryption": {"mode": "None", "reason": "skeleton; becomes Transit"},
    "gate": {"service": {"type": "NodePort", "nodePort": 30762}, "replicas": 2},
}
NOBODY = LivePeers(revision="none", peers=[])


def desired(
    spec: dict[str, Any] | None = None,
    *,
    name: str = "radiology",
    peers: LivePeers = NOBODY,
    run: str | None = None,
) -> Desired:
    """Return the plain archive with some top-level fields of its spec replaced."""
    archive = Archive.model_validate({"name": name, "uid": UID, "generation": 1, "spec": SPEC | (spec or {})})
    return Desired(archive, LINEAGE, RELEASE, VAULT, CLUSTER, peers, run)


def live_peer(key: str, cidrs: list[str], dns_name: str = "ct1.imaging.example", title: str = "CT1") -> LivePeer:
    return LivePeer(
        id=key,
        dns_name=dns_name,
        ae_titles=[title],
        source_cidrs=cidrs,
        rights=[Right.ECHO, Right.STORE],
        max_associations=8,
    )


def pod_templates(manifests: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each workload and its pod template."""
    for manifest in manifests:
        template = manifest.get("spec", {}).get("template")
        if template:
            yield manifest, template


def config_data(manifests: list[dict[str, Any]], component: str) -> dict[str, str]:
    """Return the files of a component's own ConfigMap."""
    [found] = [m for m in manifests if m["kind"] == "ConfigMap" and m["metadata"]["name"] == component]
    return found["data"]


def containers(template: dict[str, Any]) -> list[dict[str, Any]]:
    return [*template["spec"]["initContainers"], *template["spec"]["containers"]]


def with_vault(base: Desired, **changes: Any) -> Desired:
    return replace(base, vault=replace(base.vault, **changes))


def from_files(folder: Path) -> Desired:
    """Return the archive of a golden case: ``archive.yaml``, ``peers.yaml`` and the facts in ``facts.yaml``.

    ``import.yaml``, where there is one, is the import whose slice is due.
    """
    resource = yaml.safe_load((folder / "archive.yaml").read_text())
    peers = yaml.safe_load((folder / "peers.yaml").read_text())
    facts = yaml.safe_load((folder / "facts.yaml").read_text())
    archive = Archive.model_validate(
        {
            "name": resource["metadata"]["name"],
            "uid": facts["uid"],
            "generation": 1,
            "spec": resource["spec"],
        }
    )
    vault = VaultSettings(**{**facts["vault"], "cidrs": tuple(facts["vault"]["cidrs"])})
    return Desired(
        archive,
        facts["lineageID"],
        RELEASE,
        vault,
        ClusterSettings(**facts["cluster"]),
        LivePeers.model_validate(peers),
        facts.get("conformanceRun"),
        _importing(folder / "import.yaml"),
    )


def _importing(file: Path) -> Importing | None:
    if not file.exists():
        return None
    resource = yaml.safe_load(file.read_text())
    data = resource["metadata"]
    return Importing(data["name"], data["uid"], ImportSpec.model_validate(resource["spec"]), "i0123456789a")


def certificate_pem() -> str:
    """Return a certificate that can be read: what is rendered looks at its form alone."""
    return EXTERNAL_CA.read_text()


EXTERNAL_CA = Path(__file__).parent / "known" / "external-ca.pem"
