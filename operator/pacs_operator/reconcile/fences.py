"""Network policies while a pass is stopped: what closes a zone is put back whatever the spec says.

Of the last rendering that was applied, where this process made one; after a restart into a stall only default-deny
is known, which needs no spec. The gate's own ingress is left alone: whoever may come in there is `revocation`'s.
"""

from pacs_operator.domain import names
from pacs_operator.domain.errors import NotFoundError, PacsError
from pacs_operator.domain.names import ZONE_OF, Component, Zone, namespace_of
from pacs_operator.kube.inventory import NAMESPACE, POLICY, kind_of
from pacs_operator.kube.port import Manifest, key_of, labels_of, metadata
from pacs_operator.reconcile.context import Pass
from pacs_operator.render.policies import default_deny

GATE_INGRESS = f"{Component.GATE.value}-ingress"
_HEAD = (
    names.LABEL_MANAGED_BY,
    names.LABEL_ARCHIVE,
    names.LABEL_ARCHIVE_UID,
    names.LABEL_LINEAGE,
    names.LABEL_ZONE,
)


def remember(run: Pass) -> None:
    """Keep the policies of a rendering that passed all checks and is applied next."""
    run.memory.fences = [manifest for manifest in run.manifests if kind_of(manifest) is POLICY and not _gates(manifest)]


def restore(run: Pass, zones: list[Zone]) -> list[PacsError]:
    """Put back what was taken away from the policies of these zones, or changed; return what could not be done."""
    failures: list[PacsError] = []
    for zone in zones:
        try:
            _restore_zone(run, namespace_of(run.name, zone))
        except NotFoundError:
            continue  # the zone itself goes
        except PacsError as error:
            failures.append(error)
    return failures


def _restore_zone(run: Pass, namespace: str) -> None:
    wanted = [fence for fence in run.memory.fences if metadata(fence)["namespace"] == namespace]
    if not wanted:
        zone = labels_of(run.ports.kube.get(NAMESPACE, namespace) or {})
        wanted = [default_deny(namespace, {label: zone[label] for label in _HEAD if label in zone})]
    live = {key_of(item): item for item in run.ports.kube.list(POLICY, namespace)}
    for fence in wanted:
        run.memory.applier.write(fence, live.get(key_of(fence)))


def _gates(policy: Manifest) -> bool:
    data = metadata(policy)
    return (data["namespace"], data["name"]) == (
        namespace_of(labels_of(policy)[names.LABEL_ARCHIVE], ZONE_OF[Component.GATE]),
        GATE_INGRESS,
    )
