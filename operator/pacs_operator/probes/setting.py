"""What a run works with: the probe's identities, what it trusts, and how it calls."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pacs_operator.domain.conformanceconfig import ConformanceConfig, ProbeIdentity
from pacs_operator.domain.errors import PacsError
from pacs_operator.probes.client import Session
from pacs_operator.probes.tls import Credentials, Forge, Trust, client_context
from pacs_operator.probes.weak import SERVER_NAME, WeakServer
from pacs_operator.probes.wire import Caller, Endpoint, Waits


class ProbeError(PacsError):
    """The run cannot begin."""

    reason = "ProbeCannotRun"
    retry = True


@dataclass(frozen=True)
class Setting:
    """Everything a check needs; nothing here tells how the archive is configured."""

    config: ConformanceConfig
    peer: Credentials
    store_only: Credentials
    cleanup: Credentials
    server_only: Credentials
    expired: Credentials
    foreign: Credentials
    foreign_ca_pem: str
    imitated: Credentials
    imitated_ca_pem: str
    padded: Credentials
    gate_trust: Trust
    control_trust: Trust
    weak: WeakServer
    weak_trust: Trust

    @property
    def waits(self) -> Waits:
        """Return how long attempts on the wire wait."""
        bounds = self.config.bounds
        return Waits(connect=bounds.connect_millis / 1000, answer=bounds.answer_millis / 1000)

    def good_caller(self) -> Caller:
        """Return the good peer as it calls the gate: the twin of every attack on an association."""
        return Caller(
            calling=self.config.peer.ae_title,
            called=self.config.archive_ae_title,
            context=client_context(self.gate_trust, self.peer),
            server_name=self.gate_trust.server_name,
        )

    def store_only_caller(self) -> Caller:
        """Return the peer that may store and nothing else, as it calls the gate."""
        context = client_context(self.gate_trust, self.store_only)
        return self.good_caller().but(calling=self.config.store_only.ae_title, context=context)

    def session(self, endpoint: Endpoint, identity: ProbeIdentity) -> Session:
        """Return how one of the probe's identities opens an association for real work."""
        credentials = self.peer if identity is self.config.peer else self.store_only
        bounds = self.config.bounds
        return Session(
            endpoint=endpoint,
            calling=identity.ae_title,
            called=self.config.archive_ae_title,
            context=client_context(self.gate_trust, credentials),
            server_name=self.gate_trust.server_name,
            connect_seconds=bounds.connect_millis / 1000,
            dimse_seconds=bounds.dimse_millis / 1000,
        )


@contextlib.contextmanager
def prepared(config: ConformanceConfig) -> Iterator[Setting]:
    """Read certificates, forge the foreign ones and start the weak server.

    Raises
    ------
    ProbeError
        A certificate, key or root is absent or unreadable.
    """
    names = (
        config.peer.leaf,
        config.store_only.leaf,
        config.cleanup_leaf,
        config.server_only_leaf,
        config.expired_leaf,
    )
    peer, store_only, cleanup, server_only, expired = (Credentials.of_leaf(config.tls_dir, name) for name in names)
    roots = {name: _read(name) for name in (config.peers_ca_file, config.control_ca_file)}
    for credentials in (peer, store_only, cleanup, server_only, expired):
        _read(str(credentials.certificate))
        _read(str(credentials.key))
    with contextlib.ExitStack() as stack:
        peers_ca = roots[config.peers_ca_file]
        forge, imitation = Forge(), Forge.imitating(peers_ca)
        for each in (forge, imitation):
            stack.callback(each.close)
        weak = stack.enter_context(WeakServer([peers_ca, forge.ca_pem, imitation.ca_pem]))
        imitated = imitation.issue("imitated", peer.dns_names())
        yield Setting(
            config=config,
            peer=peer,
            store_only=store_only,
            cleanup=cleanup,
            server_only=server_only,
            expired=expired,
            foreign=forge.issue("foreign", peer.dns_names()),
            foreign_ca_pem=forge.ca_pem,
            imitated=imitated,
            imitated_ca_pem=imitation.ca_pem,
            padded=imitated.padded(imitation.ca_pem, peers_ca),
            gate_trust=Trust(peers_ca, config.gate_host),
            control_trust=Trust(roots[config.control_ca_file], config.orthanc_host),
            weak=weak,
            weak_trust=Trust(weak.ca_pem, SERVER_NAME),
        )


def _read(name: str) -> str:
    try:
        return Path(name).read_text(encoding="ascii")
    except (OSError, UnicodeError) as error:
        raise ProbeError(
            f"{name} cannot be read: {type(error).__name__}",
            action="see why the agent that fetches the probe's certificates did not write it",
        ) from error
