"""The resource is being deleted: stop what runs, keep what holds data, take back what Vault would still sign.

Nothing here creates an object, since a namespace on its way out takes none.
"""

from datetime import timedelta

from pacs_operator.domain import names
from pacs_operator.domain.acceptance import decide
from pacs_operator.domain.conditions import ConditionType
from pacs_operator.domain.errors import InvalidSpecError, PacsError, UnexpectedError, VaultError
from pacs_operator.domain.names import GROUP, Component
from pacs_operator.domain.times import parse_time
from pacs_operator.kube.inventory import ARCHIVE, DEPLOYMENT, JOB, POLICY, STATEFUL_SET, Kind, kind_of
from pacs_operator.kube.port import Manifest, annotations_of, labels_of, metadata
from pacs_operator.reconcile import peers, status, zones
from pacs_operator.reconcile.context import Outcome, Pass
from pacs_operator.reconcile.observe import check_vault, read_claims, read_owned, typed_archive

#: After this, what Vault still holds is reported as orphaned; removing it is tried on.
VAULT_DEADLINE = timedelta(minutes=10)
#: The way out: a person states the archive's name here, and the roles are left to Vault's administrator.
ANNOTATION_ABANDON = f"{GROUP}/abandon-vault-roles"

RETAINED = "its data are retained"
#: The gate first, so that associations drain before the archive behind it goes.
_STOP_ORDER: tuple[tuple[Component, Kind], ...] = (
    (Component.GATE, DEPLOYMENT),
    (Component.ORTHANC, STATEFUL_SET),
    (Component.POSTGRES, STATEFUL_SET),
)


def step(run: Pass) -> Outcome:
    """Do the next step of a deletion with policy Retain."""
    if names.FINALIZER not in (metadata(run.live).get("finalizers") or []):
        return Outcome("Deleting")
    try:
        run.archive = typed_archive(run.live)
    except InvalidSpecError:
        run.archive = None  # a broken spec must not hold a deletion up; the operator's own Vault settings serve
    failure = refuse_peers(run)
    outcome = _advance(run)
    if failure is not None:
        raise failure
    return outcome


def _advance(run: Pass) -> Outcome:
    run.namespaces = zones.read(run)
    run.lineage = zones.own_lineage(run)
    read_owned(run)
    if any(condition.type is ConditionType.DELETION_BLOCKED for condition in run.observed.conditions):
        text = "spec.deletionPolicy is Retain: namespaces and volumes stay"
        run.set(ConditionType.DELETION_BLOCKED, "False", "Retained", text)
    still_running = stop(run)
    if still_running:
        progress(run, "Stopping", f"Waiting for {still_running}; namespaces and volumes are retained", RETAINED)
        return Outcome("Deleting", 2.0)
    remove_rest(run)
    if clear_roles(run, RETAINED):
        let_go(run)
        return Outcome("Deleting")
    return Outcome("Deleting", 15.0)


def clear_roles(run: Pass, data: str) -> bool:
    """Have our roles in Vault away; False while Vault does not let us and nobody said to leave them.

    Parameters
    ----------
    run
        The pass.
    data
        What becomes of the data, in words, for the status.
    """
    error = clear_vault(run)
    if error is None or annotations_of(run.live).get(ANNOTATION_ABANDON) == run.name:
        return True
    _orphaned(run, error, data)
    if isinstance(error, UnexpectedError):
        raise error
    return False


def refuse_peers(run: Pass) -> PacsError | None:
    """Tell the peers; what stops that is returned, since it must not hold up that the gate goes."""
    try:
        claims = read_claims(run.ports.kube, run.name)
        decisions = decide(None, [claim for _, claim in claims], set(), run.name)
        facts = peers.StatusFacts(None, run.now)
        peers.write_statuses(run.ports.kube, decisions, {claim.key: live for live, claim in claims}, facts)
    except PacsError as error:
        return error
    except Exception as error:
        return UnexpectedError.of(error)
    return None


def stop(run: Pass) -> str | None:
    """Delete workloads one after the other; return what is still there, None when all pods are gone."""
    _delete(run, [item for item in run.owned.values() if kind_of(item) is JOB])
    for component, kind in _STOP_ORDER:
        controllers = [
            item for item in run.owned.values() if kind_of(item) is kind and metadata(item)["name"] == component.value
        ]
        _delete(run, controllers)
        pods = [pod for pod in run.pods if labels_of(pod).get(names.LABEL_COMPONENT) == component.value]
        if controllers or pods:
            return f"{component.value} ({len(pods)} pods)"
    return None


def remove_rest(run: Pass) -> None:
    _delete(run, [item for item in run.owned.values() if kind_of(item).prunable and not _fence(item)])


def _fence(item: Manifest) -> bool:
    """Tell whether an object keeps a retained zone closed: the policies that allow nothing, quota and limits."""
    if kind_of(item) is POLICY:
        spec = item.get("spec") or {}
        return not spec.get("podSelector") and not spec.get("ingress") and not spec.get("egress")
    return kind_of(item).kind in ("ResourceQuota", "LimitRange")


def _delete(run: Pass, items: list[Manifest]) -> None:
    for item in items:
        if not metadata(item).get("deletionTimestamp"):
            run.ports.kube.delete(item)


def clear_vault(run: Pass) -> PacsError | None:
    """Have our roles away; return why that cannot be done, a Vault that we may not log in to included."""
    if run.lineage is None or zones.rival(run, run.lineage):
        return None  # nothing of ours is there; what another archive's lineage holds is that archive's
    try:
        check_vault(run)
        vault = run.ports.vault(run.vault_settings)
        vault.delete_peer_roles_except(run.lineage, set())
        vault.delete_archive_roles(run.name, run.lineage)
    except (VaultError, InvalidSpecError) as error:
        return error
    except Exception as error:
        return UnexpectedError.of(error)
    return None


def _orphaned(run: Pass, error: PacsError, data: str) -> None:
    began = parse_time(str(metadata(run.live)["deletionTimestamp"]))
    run.set(ConditionType.VAULT_READY, "False", error.reason, str(error))
    if run.now - began >= VAULT_DEADLINE:
        run.set(
            ConditionType.ORPHANED,
            "True",
            error.reason,
            f"Roles of lineage {run.lineage} remain in Vault: {error.message}. Removing them is tried on; to let the "
            f"resource go and leave them to Vault's administrator, annotate it {ANNOTATION_ABANDON}={run.name}",
        )
    progress(run, "RemovingVaultRoles", f"Vault: {error}", data)


def progress(run: Pass, reason: str, message: str, data: str) -> None:
    """Write how far a deletion is, and what becomes of the data."""
    run.set(ConditionType.RECONCILING, "True", reason, message)
    run.set(ConditionType.READY, "False", "Deleting", f"The archive is being deleted; {data}")
    before = run.observed
    run.status = run.observed
    if status.write(run):
        status.tell(run, before)


def let_go(run: Pass) -> None:
    data = metadata(run.live)
    rest = [finalizer for finalizer in data.get("finalizers") or [] if finalizer != names.FINALIZER]
    patch = {"metadata": {"uid": data["uid"], "resourceVersion": data["resourceVersion"], "finalizers": rest}}
    run.ports.kube.patch(ARCHIVE, run.name, None, patch)
