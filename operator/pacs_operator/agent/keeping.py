"""Things in ``/tls`` that age: leaves with their keys, and the roots and CRLs of those we trust.

Each knows whether what lies on the volume can be used, when it is due, and how to get a new one. Nothing here
waits; :mod:`pacs_operator.agent.keeper` does.
"""

from datetime import datetime, timedelta
from typing import Protocol

from cryptography import x509

from pacs_operator.agent.context import Context
from pacs_operator.agent.errors import CertificateMismatchError
from pacs_operator.agent.files import PRIVATE, PUBLIC, read_if_there, write_atomic
from pacs_operator.agent.log import Event, emit
from pacs_operator.agent.neighbour import Changes
from pacs_operator.agent.schedule import renewal_due
from pacs_operator.agent.x509tools import (
    Credential,
    check_credential,
    load_crl,
    load_root,
    make_key,
    make_request,
    parse_credential,
    serial_of,
)
from pacs_operator.domain.agentconfig import Leaf
from pacs_operator.domain.names import CaName
from pacs_operator.domain.times import rfc3339


class Kept(Protocol):
    """One thing that ages."""

    subject: str
    due: datetime

    def load(self) -> bool:
        """Use what lies on the volume from an earlier start of the agent; tell whether that works."""

    def renew(self) -> Changes:
        """Get a new one and put it on the volume; blocks.

        Raises
        ------
        VaultError, CertificateMismatchError
            Nothing was changed; what lies on the volume stays in use.
        """


class KeptTrust:
    """Root and revocation list of one authority."""

    def __init__(self, ca: CaName, context: Context) -> None:
        self.ca = ca
        self.subject = f"trust/{ca.value}"
        self.due = context.clock.now()
        self.root: x509.Certificate | None = None
        self.crl: x509.CertificateRevocationList | None = None
        self._lineage_id = context.config.lineage_id
        self._refresh = timedelta(seconds=context.config.crl_refresh_seconds)
        self._signer = context.signer
        self._surroundings = context.surroundings
        self._clock = context.clock

    def load(self) -> bool:
        """Use root and CRL of an earlier start; they are refreshed at once all the same, when Vault answers."""
        root_pem = read_if_there(self._surroundings.root(self.ca))
        crl_pem = read_if_there(self._surroundings.crl(self.ca))
        if root_pem is None or crl_pem is None:
            return False
        try:
            root = load_root(root_pem)
            self.root, self.crl = root, load_crl(crl_pem, root)
        except CertificateMismatchError:
            return False
        return True

    def renew(self) -> Changes:
        """Fetch both; an older CRL than the one in use is an answer out of a cache and is not taken."""
        root_pem = self._signer.ca_pem(self._lineage_id, self.ca).encode("ascii")
        crl_pem = self._signer.crl_pem(self._lineage_id, self.ca).encode("ascii")
        root = load_root(root_pem)
        crl = load_crl(crl_pem, root)
        new_root = root != self.root
        if self.crl is not None and not new_root and crl.last_update_utc < self.crl.last_update_utc:
            raise CertificateMismatchError(
                f"authority {self.ca.value}: Vault offers an older revocation list than the one in use",
                action="look for a stale cache or a standby between the pods and Vault",
            )
        new_crl = crl != self.crl
        if new_root:
            write_atomic(self._surroundings.root(self.ca), root_pem, PUBLIC)
        if new_crl:
            write_atomic(self._surroundings.crl(self.ca), crl_pem, PUBLIC)
        self.root, self.crl = root, crl
        self.due = self._clock.now() + self._refresh * (1 - 0.1 * self._clock.jitter())
        if new_root or new_crl:
            emit(Event.TRUST_REFRESHED, ca=self.ca.value, root_changed=new_root, crl_changed=new_crl)
        one = frozenset({self.ca})
        return Changes(roots=one if new_root else frozenset(), crls=one if new_crl else frozenset())

    def crl_half_life(self) -> datetime | None:
        """Return when half of the list's validity is over: by then hourly refreshes have failed for days."""
        if self.crl is None or self.crl.next_update_utc is None:
            return None
        return self.crl.last_update_utc + (self.crl.next_update_utc - self.crl.last_update_utc) / 2


class KeptLeaf:
    """One certificate and its key, which is made here, anew for every certificate."""

    def __init__(self, leaf: Leaf, trust: KeptTrust, context: Context) -> None:
        self.leaf = leaf
        self.subject = f"leaf/{leaf.name}"
        self.due = context.clock.now()
        self.credential: Credential | None = None
        self._lineage_id = context.config.lineage_id
        self._trust = trust
        self._signer = context.signer
        self._surroundings = context.surroundings
        self._clock = context.clock

    def load(self) -> bool:
        """Use the certificate of an earlier start, so that a restarted agent issues no second one.

        An expired one, too: the server that runs with it may not lose its readiness to a Vault that is down; it is
        due at once.
        """
        pem = read_if_there(self._surroundings.bundle(self.leaf.name))
        if pem is None or self._trust.root is None:
            return False
        try:
            credential = parse_credential(pem, pem)
            check_credential(credential, self.leaf, self._trust.root)
        except (ValueError, CertificateMismatchError):
            return False
        self._take(credential, obtained=None)
        emit(Event.CERTIFICATE_REUSED, leaf=self.leaf.name, serial=serial_of(credential.certificate))
        return True

    def renew(self) -> Changes:
        """Make a key, have it signed, check the answer, replace the files."""
        if self._trust.root is None:
            raise CertificateMismatchError(
                f"certificate of leaf {self.leaf.name}: the root of {self.leaf.ca.value} is not known yet",
                action="wait until Vault hands out the archive's authorities",
            )
        key = make_key(self.leaf)
        answer = self._signer.sign(self.leaf, self._lineage_id, make_request(self.leaf, key))
        try:
            chain = tuple(x509.load_pem_x509_certificates(answer.encode("ascii")))
        except ValueError as error:
            raise CertificateMismatchError(
                f"certificate of leaf {self.leaf.name}: Vault's answer is not a certificate",
                action=f"look at Vault's PKI role {self.leaf.role}",
            ) from error
        credential = Credential(key, chain)
        check_credential(credential, self.leaf, self._trust.root, self._clock.now())
        self._take(credential, obtained=self._clock.now())
        emit(
            Event.CERTIFICATE_OBTAINED,
            leaf=self.leaf.name,
            serial=serial_of(credential.certificate),
            not_after=rfc3339(credential.certificate.not_valid_after_utc),
            renew_at=rfc3339(self.due),
        )
        return Changes(leaves=frozenset({self.leaf.name}))

    def _take(self, credential: Credential, obtained: datetime | None) -> None:
        """Write the three forms; ``<leaf>.pem`` first, since a restart believes that one and repairs the others."""
        name, key_pem, chain_pem = self.leaf.name, credential.key_pem(), credential.chain_pem()
        for path, data, mode in (
            (self._surroundings.bundle(name), key_pem + chain_pem, PRIVATE),
            (self._surroundings.key(name), key_pem, PRIVATE),
            (self._surroundings.chain(name), chain_pem, PUBLIC),
        ):
            if read_if_there(path) != data:
                write_atomic(path, data, mode)
        self.credential = credential
        certificate = credential.certificate
        self.due = renewal_due(
            certificate.not_valid_before_utc, certificate.not_valid_after_utc, obtained, self._clock.jitter()
        )
