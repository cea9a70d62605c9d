"""Provisioning in Vault: what the archive needs is there, and nothing that is gone still signs.

Vault's trouble never stops a pass: what runs keeps running, and the rest of the truth is still applied.
"""

from datetime import timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from pacs_operator.domain.conditions import ConditionType
from pacs_operator.domain.errors import InvalidSpecError, VaultError
from pacs_operator.domain.issuers import clashing
from pacs_operator.domain.names import CaName, peer_role
from pacs_operator.domain.peer import Peer
from pacs_operator.kube.events import Notice
from pacs_operator.reconcile import imports, issuers, peers, workloads
from pacs_operator.reconcile.context import Pass
from pacs_operator.vault.errors import VaultMisconfiguredError
from pacs_operator.vault.port import Changes, VaultPort

#: An event wakes a pass many times a minute; Vault is asked again only after this.
CHECK_AGAIN = timedelta(seconds=60)
ROLES_AGAIN = timedelta(minutes=10)


def provision(run: Pass) -> None:
    """Bring the archive's mounts and roles to what they should be."""
    if run.archive is None or run.lineage is None:
        return
    memory = run.memory
    if memory.vault != (run.vault_settings, run.lineage):
        # What was found in another Vault, or for another lineage of that name, says nothing of this one.
        memory.vault = run.vault_settings, run.lineage
        memory.vault_checked = memory.roles_checked = memory.import_checked = None
        memory.peer_roles = {}
        memory.own_root = None
    if memory.vault_checked and run.now - memory.vault_checked < CHECK_AGAIN:
        run.set(ConditionType.VAULT_READY, "True", "Provisioned", _text(run))
        return
    try:
        vault = run.ports.vault(run.vault_settings)
        changes = vault.ensure_archive(run.name, run.lineage, run.vault_settings.audience)
        _know_root(run, vault, run.lineage)
    except VaultError as error:
        failed(run, error)
        return
    _report(run, changes)
    memory.vault_checked = run.now
    run.set(ConditionType.VAULT_READY, "True", "Provisioned", _text(run))


def _know_root(run: Pass, vault: VaultPort, lineage: str) -> None:
    """Learn the root of the archive's own peers CA, which stays; none of the hospital's may be taken for it."""
    if run.memory.own_root is not None:
        return
    run.memory.own_root = _read_root(vault.ca_pem(lineage, CaName.PEERS))
    if run.peers is not None and issuers.live_issuers(run.archive, run.memory.own_root) != run.peers.issuers:
        peers.accept(run)
        _render_again(run)


def _read_root(pem: str) -> x509.Certificate:
    """Return the root that Vault publishes; one that cannot be read is Vault's trouble, and stops no pass."""
    try:
        root = x509.load_pem_x509_certificate(pem.encode("ascii"))
        clashing((), root)  # name and key are decoded when they are asked for, as they will be
    except (ValueError, UnsupportedAlgorithm) as error:
        raise VaultMisconfiguredError(
            f"Vault publishes no certificate that can be read as the archive's own authority: {type(error).__name__}",
            action="have Vault's administrator look at the archive's mount of peers below pacs/<lineage>/",
        ) from error
    return root


def _render_again(run: Pass) -> None:
    run.desired = workloads.desired_of(run, run.archive) if run.archive else None
    run.manifests = workloads.render(run, run.desired) if run.desired else []


def provision_import(run: Pass) -> None:
    """Have the import's roles before its Job asks for a certificate; Vault's refusal holds up the import alone."""
    memory = run.memory
    if run.importing is None or run.lineage is None:
        memory.import_checked = None
        return
    if memory.import_checked and run.now - memory.import_checked < CHECK_AGAIN:
        return
    try:
        vault = run.ports.vault(run.vault_settings)
        _report(run, vault.ensure_importer(run.name, run.vault_settings.audience))
    except VaultError as error:
        memory.import_checked = None
        imports.hold(run, error)
        _render_again(run)
        return
    memory.import_checked = run.now


def provision_peers(run: Pass) -> None:
    """Have one role for each accepted peer and none for any other.

    A peer that the backend's rules refuse, though ours accepted it, is refused like any other; the rest goes on.
    """
    while _provision_peers(run):  # each round refuses at least one of the accepted
        peers.accept(run)
        _render_again(run)


def _provision_peers(run: Pass) -> bool:
    """Return whether a peer was refused, so that all has to be decided again: others may have wanted what it held."""
    if run.vault_error or run.lineage is None:
        return False
    wanted = {
        peer_role(peer.namespace, peer.name): peer
        for decision in run.decisions
        if decision.accepted and (peer := decision.claim.peer) and peer.spec.certificate and peer.spec.certificate.own
    }
    identities = {role: peer.spec.identity for role, peer in wanted.items()}
    readers = {box.what.role: box.what for box in run.glass or ()}
    identities |= {role: f"{what.dns_name} for {what.hours} hours" for role, what in readers.items()}
    memory = run.memory
    everything = memory.roles_checked is None or run.now - memory.roles_checked >= ROLES_AGAIN
    if not everything and memory.peer_roles == identities:
        return False
    try:
        vault = run.ports.vault(run.vault_settings)
        _report(run, _narrow(vault, run.lineage, identities, memory.peer_roles, everything))
        stale = [role for role in wanted if everything or memory.peer_roles.get(role) != identities[role]]
        for role, what in readers.items():
            if everything or memory.peer_roles.get(role) != identities[role]:
                _report(run, vault.ensure_break_glass_role(run.lineage, role, what.dns_name, what.hours))
        refused = [wanted[role] for role in stale if not _ensured(run, vault, run.lineage, wanted[role])]
    except VaultError as error:
        memory.roles_checked = None
        failed(run, error)
        return any(memory.refused.get(peer.key, (None,))[0] == _edition(peer) for peer in wanted.values())
    # With those refused: a role that one of them had before is then taken away as that of a peer that is gone.
    memory.peer_roles = identities
    if everything:
        memory.roles_checked = run.now
    return bool(refused)


def _ensured(run: Pass, vault: VaultPort, lineage: str, peer: Peer) -> bool:
    try:
        changes = vault.ensure_peer_role(lineage, peer.namespace, peer.name, peer.spec.identity)
    except InvalidSpecError as error:
        run.memory.refused[peer.key] = (_edition(peer), error)
        return False
    _report(run, changes)
    return True


def _edition(peer: Peer) -> tuple[str, int]:
    """Return what tells one wording of a peer from another: one made anew begins at the same generation again."""
    return peer.uid, peer.generation


def _narrow(vault: VaultPort, lineage: str, wanted: dict[str, str], known: dict[str, str], everything: bool) -> Changes:
    """Take away first: a revoked identity must not be signed while others are being added."""
    if everything or known.keys() - wanted.keys():
        return vault.delete_peer_roles_except(lineage, set(wanted))
    return Changes()


def failed(run: Pass, error: VaultError) -> None:
    """Record that Vault could not do what was asked."""
    run.vault_error = error
    run.memory.vault_checked = None
    run.set(ConditionType.VAULT_READY, "False", error.reason, str(error))


def _report(run: Pass, changes: Changes) -> None:
    if changes.repaired:
        shown = ", ".join(changes.repaired[:5])
        run.notices.append(Notice("Warning", "VaultDriftRepaired", f"Put back in Vault: {shown}"))


def _text(run: Pass) -> str:
    return f"Authorities and roles of lineage {run.lineage} are in place at {run.vault_settings.address}"
