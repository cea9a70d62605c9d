"""The operator's surroundings from its environment, and kopf's settings, each with its reason."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import kopf

from pacs_operator.domain import names
from pacs_operator.domain.agentconfig import TOKEN_FILE
from pacs_operator.domain.errors import InvalidSpecError, PacsError
from pacs_operator.domain.facts import ClusterSettings, VaultSettings
from pacs_operator.domain.identifiers import check_disjoint
from pacs_operator.reconcile.context import Settings


class SettingsError(PacsError):
    """The operator's own environment is not usable."""

    reason = "InvalidSettings"
    retry = False


@dataclass(frozen=True)
class Environment:
    """All that the process is told from outside.

    Parameters
    ----------
    settings
        What reconciling needs.
    identity
        Name of this process in the Lease.
    vault_token_file
        Projected token with Vault's audience.
    health_port, metrics_port
        TCP ports.
    """

    settings: Settings
    identity: str
    vault_token_file: Path
    health_port: int
    metrics_port: int


def read_environment(env: Mapping[str, str] = os.environ) -> Environment:
    """Return the settings of ``PACS_*`` variables.

    Raises
    ------
    SettingsError
        Names the variable, its value and the rule.
    """
    cidrs = tuple(part.strip() for part in _need(env, "PACS_VAULT_CIDRS").split(",") if part.strip())
    try:
        check_disjoint(cidrs, "PACS_VAULT_CIDRS")
    except InvalidSpecError as error:
        raise SettingsError(error.message, action=error.action) from None
    address = _https(_need(env, "PACS_VAULT_ADDRESS"), "PACS_VAULT_ADDRESS", "vault.address")
    vault = VaultSettings(
        address=address,
        ca_pem=_file(_need(env, "PACS_VAULT_CA_FILE")),
        auth_path=_need(env, "PACS_VAULT_AUTH_PATH").strip("/"),
        audience=_need(env, "PACS_VAULT_AUDIENCE"),
        cidrs=cidrs,
        port=_url_port(address),
    )
    cluster = ClusterSettings(
        operator_namespace=_need(env, "PACS_OPERATOR_NAMESPACE"),
        operator_service_account=_need(env, "PACS_OPERATOR_SERVICE_ACCOUNT"),
        operator_pod_labels=_labels(env, "PACS_OPERATOR_POD_LABELS"),
        cluster_domain=env.get("PACS_CLUSTER_DOMAIN", "cluster.local"),
        dns_namespace=env.get("PACS_DNS_NAMESPACE", "kube-system"),
        dns_pod_labels=_labels(env, "PACS_DNS_POD_LABELS")
        if env.get("PACS_DNS_POD_LABELS")
        else {"k8s-app": "kube-dns"},
    )
    return Environment(
        settings=Settings(cluster, vault, _vaults(env.get("PACS_VAULT_OTHERS", ""))),
        identity=env.get("PACS_POD_NAME") or os.uname().nodename,
        vault_token_file=Path(env.get("PACS_VAULT_TOKEN_FILE", TOKEN_FILE)),
        health_port=_number(env, "PACS_HEALTH_PORT", 8080),
        metrics_port=_number(env, "PACS_METRICS_PORT", 9090),
    )


def _need(env: Mapping[str, str], name: str) -> str:
    value = env.get(name, "").strip()
    if not value:
        raise SettingsError(f"{name}: not set", action="set it in the chart's values, which fill the environment")
    return value


def _https(address: str, variable: str, value: str) -> str:
    if not address.startswith("https://"):
        raise SettingsError(f"{variable}: {address!r} is not an https URL", action=f"set {value}")
    return address.rstrip("/")


def _vaults(text: str) -> frozenset[str]:
    parts = [part.strip() for part in text.split(",")]
    return frozenset(_https(part, "PACS_VAULT_OTHERS", "vault.others") for part in parts if part)


def _file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"PACS_VAULT_CA_FILE: {path} cannot be read: {type(error).__name__}",
            action="give Vault's CA certificates as vault.caPem in the chart's values",
        ) from None


def _labels(env: Mapping[str, str], name: str) -> dict[str, str]:
    text = _need(env, name)
    try:
        labels = json.loads(text)
    except ValueError:
        labels = None
    if not isinstance(labels, dict) or not labels or not all(isinstance(value, str) for value in labels.values()):
        raise SettingsError(f"{name}: {text[:64]!r} is not a JSON object of labels", action="leave it to the chart")
    return labels


def _number(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, str(default))
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise SettingsError(f"{name}: {text!r} is not a TCP port", action="use 1 to 65535")
    return int(text)


def _url_port(address: str) -> int:
    _, separator, port = address.removeprefix("https://").rstrip("/").rpartition(":")
    return int(port) if separator and port.isdigit() else 443


def configure_kopf(settings: kopf.OperatorSettings) -> None:
    """Set what kopf does and, mostly, what it does not do for us."""
    # No peering objects: a Lease decides who works, and only the leader starts kopf.
    settings.peering.standalone = True
    # Scanning lists and watches namespaces and CRDs to find new ones; our kinds are known and RBAC is minimal.
    settings.scanning.disabled = True
    # Events are posted by the reconcile, once per hour and statement; kopf would post from logs.
    settings.posting.enabled = False
    # Nothing is persisted, but were it ever, it would bear our name and not collide with another kopf operator's.
    settings.persistence.finalizer = f"{names.GROUP}/kopf"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=f"kopf.{names.GROUP}")
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=f"kopf.{names.GROUP}")
    # A handler marks a key and returns; one worker per kind is plenty and gentle on memory.
    settings.queueing.worker_limit = 8
    # A lost answer must not block a watcher for the default five minutes.
    settings.networking.request_timeout = 30
    # Long lists come in pages, so that a big cluster does not arrive in one answer.
    settings.watching.chunk_size = 500
    # Half-open connections are noticed: server ends each watch after this, and silence is cut sooner (70 s default).
    settings.watching.server_timeout = 300
    # Children are filtered by the server. Policies are not: a foreign one in a zone matters as much as ours.
    # Namespaces are not: peers' namespaces consent by labels of the archive's own choosing.
    for plural in ("pods", "resourcequotas", "limitranges", "serviceaccounts", "configmaps", "services"):
        settings.watching.label_selectors["", "v1", plural] = _MANAGED
    settings.watching.label_selectors["", "v1", "persistentvolumeclaims"] = _MANAGED
    settings.watching.label_selectors["apps", "v1", "deployments"] = _MANAGED
    settings.watching.label_selectors["apps", "v1", "statefulsets"] = _MANAGED
    settings.watching.label_selectors["batch", "v1", "jobs"] = _MANAGED


_MANAGED = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"
