"""Taking peers away when the rest of a pass cannot be done.

A spec that nobody can honour, an object that the API refuses: neither may keep a revoked device in service. What
runs is then the measure: live lists and sources are cut down to what the peers' resources still say, and nothing is
added until a full pass succeeds.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from pacs_operator.domain import containment, names
from pacs_operator.domain.acceptance import accepted_peers
from pacs_operator.domain.archive import Archive, ArchiveSpec, Dicom, LabelSelector, PeerBounds
from pacs_operator.domain.breakglass import MAX_HOURS, BreakGlassBounds
from pacs_operator.domain.conditions import ConditionType
from pacs_operator.domain.containment import contain
from pacs_operator.domain.destinations import by_key
from pacs_operator.domain.errors import InvalidSpecError, NotFoundError, PacsError
from pacs_operator.domain.gatepeers import PEERS_FILE, LiveIssuer, LivePeer, LivePeers
from pacs_operator.domain.issuers import Issuer
from pacs_operator.domain.legacy import LegacyPorts
from pacs_operator.domain.names import ZONE_OF, Component, Zone, namespace_of
from pacs_operator.domain.narrowing import common_networks, narrowed
from pacs_operator.domain.peer import Right, TlsTier
from pacs_operator.domain.probepeers import CONFORMANCE_PEER_ID, IMPORT_PEER_ID, STORE_ONLY_PEER_ID, own_peers
from pacs_operator.kube.inventory import CONFIG_MAP, NAMESPACE, POD, POLICY
from pacs_operator.kube.port import Manifest, labels_of, metadata
from pacs_operator.reconcile import breakglass, fences, imports, issuers, legacy, peers, status, zones
from pacs_operator.reconcile.context import Pass
from pacs_operator.render.manifests import document
from pacs_operator.render.pods import PEERS_CONFIG_MAP

_ENFORCERS = (Component.GATE, Component.ORTHANC)
_ANY_SOURCE = ["0.0.0.0/0", "::/0"]
PROBE_IDS = (CONFORMANCE_PEER_ID, STORE_ONLY_PEER_ID)
_OWN_IDS = (*PROBE_IDS, IMPORT_PEER_ID)
_SHOWN = 8


@dataclass
class Cut:
    """What the live lists come to.

    ``lists`` holds each enforcing component's ConfigMap, its list as it stands and as it may be; ``unreadable`` those
    that hold no list; ``consent_unknown`` says that no selector tells which namespaces consent; ``removed`` and
    ``waiting`` are ids of peers that lose everything or something, and of those that have to wait for something;
    ``imports`` are the uids of those that may go on.
    """

    lists: dict[Component, tuple[Manifest, LivePeers, LivePeers]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    consent_unknown: bool = False
    removed: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    imports: set[str] = field(default_factory=set)

    @property
    def provisioned(self) -> bool:
        """Tell whether there is anything to take away from."""
        return bool(self.lists or self.unreadable)

    def has_way_in(self, key: str) -> bool:
        """Tell whether a peer is left in any list."""
        return any(peer.id == key for _, _, after in self.lists.values() for peer in after.peers)


def enforce(run: Pass, error: PacsError) -> None:
    """Take from gate and Orthanc what the peers' resources no longer say, put fences back; add nothing.

    Parameters
    ----------
    run
        A pass that an error has stopped; its conditions and status are those to be written.
    error
        What stopped it. One that trying again can help leaves status and peers' conditions to that next pass.

    Raises
    ------
    PacsError
        Something could not be taken away; everything else was.
    """
    failures = fences.restore(run, [zone for zone in Zone if _ours(run, namespace_of(run.name, zone))])
    cut = survey(run)
    breakglass.keep_apart(run, cut.has_way_in)
    failures += [failure for act in (cut_lists, cut_sources, cut_imports) for failure in act(run, cut)]
    if not error.retry and cut.provisioned:
        _show(run, cut, error)
    if failures:
        raise failures[0]


def survey(run: Pass) -> Cut:
    """Compare the live lists with the peers' resources; read only."""
    cut = read_lists(run)
    if not cut.provisioned:
        return cut
    archive, consenting = _bounds(run, cut)
    cut.consent_unknown = consenting is not None
    peers.judge(run, archive, consenting)
    hours = archive.spec.dicom.staffed_hours
    known = by_key(accepted_peers(run.decisions))
    there = any(peer.id == IMPORT_PEER_ID for _, before, _ in cut.lists.values() for peer in before.peers)
    cut.imports = _imports(run, archive)
    accepted = [
        *own_peers(run.name, importing=bool(cut.imports) and there),
        *(peers.live_peer(peer, known, hours) for peer in known.values()),
        *(box.peer for box in breakglass.admit(run, archive, zones.written(run.live) or run.observed.lineage_id)),
    ]
    wanted = {peer.id: peer for peer in contain(accepted, containment.wanted(run.live.get("spec")))}
    trusted = issuers.live_issuers(archive, run.memory.own_root)
    for component, (live, before, _) in cut.lists.items():
        after = _narrow(before, wanted, trusted)
        left = {peer.id: peer for peer in after.peers}
        same = len(before.peers) == len(left) and all(left.get(peer.id) == peer for peer in before.peers)
        same = same and before.issuers == after.issuers
        cut.lists[component] = (live, before, before if same else after)
        cut.removed |= {peer.id for peer in before.peers if left.get(peer.id) != peer}
        cut.waiting |= {key for key, peer in wanted.items() if left.get(key) != peer}
    return cut


def read_lists(run: Pass) -> Cut:
    """Return the live lists of gate and Orthanc as they stand; read only."""
    cut = Cut()
    for component in _ENFORCERS:
        namespace = namespace_of(run.name, ZONE_OF[component])
        live = run.ports.kube.get(CONFIG_MAP, PEERS_CONFIG_MAP, namespace) if _ours(run, namespace) else None
        if live is None:
            continue
        try:
            before = LivePeers.model_validate_json((live.get("data") or {}).get(PEERS_FILE) or "")
        except ValidationError:
            cut.unreadable.append(f"{namespace}/{PEERS_CONFIG_MAP}")
            continue
        cut.lists[component] = (live, before, before)
    return cut


def _narrow(before: LivePeers, wanted: dict[str, LivePeer], trusted: list[LiveIssuer] | None) -> LivePeers:
    """Return the list without what is no longer wanted, in the order in which a full pass would list it."""
    left = {peer.id: kept for peer in before.peers if (want := wanted.get(peer.id)) and (kept := narrowed(peer, want))}
    return in_order(left.values(), issuers.narrowed(before.issuers, trusted))


def in_order(left: Iterable[LivePeer], trusted: list[LiveIssuer] | None) -> LivePeers:
    """Return the list in the order in which a full pass makes it, so that the same peers have the same revision."""
    return peers.as_list(sorted(left, key=lambda peer: (peer.id not in _OWN_IDS, peer.id)), trusted)


def _ours(run: Pass, namespace: str) -> bool:
    """Tell whether a zone was provisioned for this resource: a name alone proves nothing."""
    labels = labels_of(run.ports.kube.get(NAMESPACE, namespace) or {})
    lineage = zones.written(run.live) or run.observed.lineage_id
    return bool(
        labels.get(names.LABEL_ARCHIVE_UID) == metadata(run.live).get("uid")
        or (lineage and labels.get(names.LABEL_LINEAGE) == lineage)
    )


def _bounds(run: Pass, cut: Cut) -> tuple[Archive, set[str] | None]:
    """Return the archive to judge peers by, and the namespaces that consent where no selector tells.

    Of a spec that is no good as a whole each bound is used that can be read; one that cannot be is no bound: a slip
    of the pen takes nobody's access away, and what was in force stays the most that a peer can have.
    """
    if run.archive is not None:
        return run.archive, None
    spec = _mapping(run.live.get("spec"))
    said = _mapping(spec.get("peers"))
    try:
        selector = LabelSelector.model_validate(said.get("namespaceSelector"))
        consenting = None
    except ValidationError:
        selector = LabelSelector.model_construct(match_labels={})
        consenting = {metadata(item)["name"] for item in run.ports.kube.list(NAMESPACE)}
    bounds = PeerBounds.model_construct(
        namespace_selector=selector,
        allowed_cidrs=_readable_networks(said.get("allowedCIDRs")) or _ANY_SOURCE,
        max_rights=_readable_rights(said.get("maxRights")) or list(Right),
        tls_exceptions=list(TlsTier),  # what the gate takes is in its configuration, which stays
        issuers=_readable_issuers(said["issuers"], cut) if "issuers" in said else None,
        legacy="Allowed" if not said or said.get("legacy") == "Allowed" else "Forbidden",
    )
    data = metadata(run.live)
    # Not validated on purpose: these two are all that a judgement of peers looks at.
    dicom = Dicom.model_construct(ae_title="", legacy_ports=_readable_ports(spec.get("dicom")))
    looked_at: dict[str, Any] = {"peers": bounds, "dicom": dicom, "break_glass": _readable_hours(spec)}
    known = ArchiveSpec.model_construct(**looked_at)
    return Archive.model_construct(name=run.name, uid=data["uid"], generation=run.generation, spec=known), consenting


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _readable_issuers(said: Any, cut: Cut) -> list[Issuer]:
    """Return the issuers that can be read, and of those that cannot what is in force under their names."""
    live = {issuer.name: issuer for _, before, _ in cut.lists.values() for issuer in before.issuers or ()}
    if not isinstance(said, list):
        return [_as_spec(issuer) for issuer in live.values()]
    found = []
    for entry in said:
        try:
            found.append(Issuer.model_validate(entry))
        except (ValidationError, InvalidSpecError):
            name = _mapping(entry).get("name")
            found += [_as_spec(issuer) for issuer in live.values() if issuer.name == name]
    return found


def _as_spec(issuer: LiveIssuer) -> Issuer:
    values: dict[str, Any] = issuer.model_dump()
    return Issuer.model_construct(**values, no_crl_reason=None, allowed_domains=[])


def _readable_hours(spec: dict[str, Any]) -> BreakGlassBounds | None:
    if "breakGlass" not in spec:
        return None
    try:
        return BreakGlassBounds.model_validate(spec["breakGlass"])
    except ValidationError:
        return BreakGlassBounds(max_hours=MAX_HOURS)


def _readable_ports(said: Any) -> LegacyPorts:
    try:
        return LegacyPorts.model_validate(_mapping(said).get("legacyPorts"))
    except (ValidationError, InvalidSpecError):
        return LegacyPorts.model_construct(first=1, last=65535)


def _readable_networks(said: Any) -> list[str]:
    try:
        return [str(ipaddress.ip_network(entry)) for entry in said]
    except (TypeError, ValueError):
        return []


def _readable_rights(said: Any) -> list[Right]:
    try:
        return [Right(entry) for entry in said]
    except (TypeError, ValueError):
        return []


def cut_lists(run: Pass, cut: Cut) -> list[PacsError]:
    """Write the shorter lists and have the kubelet carry them to the pods at once; what fails stops nothing else."""
    failures: list[PacsError] = []
    run.pods = []
    for component, (live, before, after) in cut.lists.items():
        data = metadata(live)
        try:
            if after != before:
                content = after.model_copy(update={"peers": sorted(after.peers, key=lambda peer: peer.id)})
                body = {"data": {PEERS_FILE: document(content.document())}}
                mark = {part: data[part] for part in ("uid", "resourceVersion")}
                run.ports.kube.patch(CONFIG_MAP, data["name"], data["namespace"], {"metadata": mark, **body})
            ours = {names.LABEL_ARCHIVE: run.name, names.LABEL_COMPONENT: component.value}
            run.pods = run.ports.kube.list(POD, data["namespace"], ours)
            peers.tell(run, after.revision, (component,))
        except PacsError as error:
            failures.append(error)
    return failures


def cut_sources(run: Pass, cut: Cut) -> list[PacsError]:
    """Close the gate's network policy to sources that no peer in its list has any more."""
    if Component.GATE not in cut.lists:
        return []
    namespace = namespace_of(run.name, ZONE_OF[Component.GATE])
    name = fences.GATE_INGRESS
    try:
        live = run.ports.kube.get(POLICY, name, namespace)
        if live is None:
            return []
        rules = (live.get("spec") or {}).get("ingress") or []
        allowed = [
            cidr for peer in cut.lists[Component.GATE][2].peers if not peer.contained for cidr in peer.source_cidrs
        ]
        left = [rule for rule in (_closed(rule, allowed) for rule in rules) if rule is not None]
        if left != rules:
            mark = {part: metadata(live)[part] for part in ("uid", "resourceVersion")}
            run.ports.kube.patch(POLICY, name, namespace, {"metadata": mark, "spec": {"ingress": left}})
    except NotFoundError:
        return []
    except PacsError as error:
        return [error]
    return []


def _imports(run: Pass, archive: Archive) -> set[str]:
    """Return the imports that may go on; none when nobody can tell: an import can wait."""
    if not _ours(run, namespace_of(run.name, Zone.OPS)):
        return set()
    try:
        return imports.standing(run, archive)
    except PacsError:
        return set()


def cut_imports(run: Pass, cut: Cut) -> list[PacsError]:
    """End the slices of imports that were deleted or suspended, or may not be any more."""
    if not cut.provisioned or not _ours(run, namespace_of(run.name, Zone.OPS)):
        return []
    try:
        imports.end_others(run, cut.imports)
    except NotFoundError:
        return []
    except PacsError as error:
        return [error]
    return []


def _closed(rule: Manifest, allowed: list[str]) -> Manifest | None:
    """Return a rule with the blocks that are still some peer's; None when nobody is left: an empty rule lets all in."""
    sources = rule.get("from") or []
    blocks = [source["ipBlock"]["cidr"] for source in sources if source.get("ipBlock")]
    if not blocks:
        return rule
    others = [source for source in sources if not source.get("ipBlock")]
    left = [*others, *({"ipBlock": {"cidr": cidr}} for cidr in common_networks(blocks, allowed))]
    return {**rule, "from": left} if left else None


def _show(run: Pass, cut: Cut, error: PacsError) -> None:
    """Say in the peers' and the archive's status what was taken away and what waits."""
    why = f"what is new waits until the archive is no longer stalled ({error.reason})"
    run.decisions = [
        decision
        if not decision.accepted or cut.unreadable or cut.has_way_in(decision.claim.key)
        else replace(decision, accepted=False, reason="ArchiveStalled", message=f"No way in yet: {why}")
        for decision in run.decisions
    ]
    refused = [decision for decision in run.decisions if not decision.accepted]
    facts = peers.StatusFacts(run.observed.lineage_id, run.now, hours=legacy.hours_of(run.archive))
    peers.write_statuses(run.ports.kube, refused, run.peer_objects, facts)
    run.status = run.status.model_copy(update={"peers": status.summarise(run)})
    parts = [
        f"not to be read, so the list before stays in force: {', '.join(cut.unreadable)}" if cut.unreadable else "",
        f"these wait: {_names(cut.waiting)}" if cut.waiting else "",
        f"refused: {_names(decision.claim.key for decision in refused)}" if refused else "",
        "spec.peers.namespaceSelector is not to be read: no consent counts as withdrawn" if cut.consent_unknown else "",
    ]
    text = "; ".join(["Peers are still removed and narrowed, none is added or widened", *filter(None, parts)])
    open_ends = bool(cut.unreadable or cut.waiting or refused or cut.consent_unknown)
    run.set(ConditionType.PEERS_ACCEPTED, "False" if open_ends else "Unknown", "ArchiveStalled", text)


def report_suspended(run: Pass) -> None:
    """Say which changes of peers wait for the end of a suspension, revocations above all; writes nothing."""
    kind, cut = ConditionType.PEERS_ACCEPTED, survey(run)
    before = next((condition for condition in run.observed.conditions if condition.type is kind), None)
    if cut.removed or cut.waiting or cut.unreadable:
        parts = [
            f"STILL IN FORCE although removed or narrowed: {_names(cut.removed)}" if cut.removed else "",
            f"not yet let in or widened: {_names(cut.waiting - cut.removed)}" if cut.waiting - cut.removed else "",
            f"not to be read: {', '.join(cut.unreadable)}" if cut.unreadable else "",
        ]
        run.set(kind, "False", "Suspended", f"spec.suspend is true; {'; '.join(filter(None, parts))}")
    elif before is not None and before.reason == "Suspended":
        run.set(kind, "Unknown", "Suspended", "Nothing waits any more; not confirmed while spec.suspend is true")


def _names(keys: Iterable[str]) -> str:
    listed = sorted(keys)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
