"""What the engine asks of Vault, in memory."""

from datetime import UTC, datetime
from functools import partial

from pacs_operator.domain import names
from pacs_operator.domain.errors import VaultError
from pacs_operator.domain.issuers import PEM
from pacs_operator.domain.leaves import leaves_of
from pacs_operator.domain.names import CaName, Component, component_role, peer_role
from pacs_operator.vault.port import Changes, ClientCredentials
from tests.engine.readers import ReaderRoles
from tests.engine.simapi import WriteLog
from tests.gate.pki import Authority

_ROOT = Authority("pacs-operator peers")
_UNTIL = datetime(2026, 11, 21, 8, 0, 0, tzinfo=UTC)


class RecordingVault(ReaderRoles):
    """``VaultPort`` in memory: each mount, root and role is one write, and each can be the process's last."""

    def __init__(self, log: WriteLog) -> None:
        self.log = log
        self.paths: set[str] = set()
        self.roots_made: list[str] = []
        self.peer_roles: dict[tuple[str, str], str] = {}
        self.shredded: set[tuple[str, str]] = set()  # archive and lineage whose data key an administrator destroyed
        self.root = _ROOT  # of each archive's own peers CA
        self.error: VaultError | None = None
        self.import_error: VaultError | None = None  # of the import's roles alone

    def _add(self, path: str) -> tuple[str, ...]:
        self._check()
        if path in self.paths:
            return ()
        self.log.around(f"vault {path}", lambda: self.paths.add(path))
        if path.endswith("/root"):
            self.roots_made.append(path)
        return (path,)

    def _check(self) -> None:
        if self.error:
            raise self.error

    def ensure_archive(self, archive_name: str, lineage_id: str, audience: str) -> Changes:
        made: tuple[str, ...] = ()
        for ca in CaName:
            mount = names.pki_mount(lineage_id, ca)
            made += self._add(mount) + self._add(f"{mount}/root")
        for component in Component:
            if component is not Component.IMPORTER:
                made += self._add(f"auth/{archive_name}/{component.value}")
            for leaf in leaves_of(component, archive_name):
                made += self._add(f"role/{lineage_id}/{component_role(archive_name, component, leaf.name)}")
        return Changes(created=made)

    def ensure_importer(self, archive_name: str, audience: str) -> Changes:
        if self.import_error:
            raise self.import_error
        return Changes(created=self._add(f"auth/{archive_name}/{Component.IMPORTER.value}"))

    def ensure_peer_role(self, lineage_id: str, namespace: str, name: str, dns_name: str) -> Changes:
        self._check()
        key = (lineage_id, peer_role(namespace, name))
        if self.peer_roles.get(key) == dns_name:
            return Changes()
        self.log.around(f"vault {key[1]}", lambda: self.peer_roles.update({key: dns_name}))
        return Changes(created=(key[1],))

    def delete_peer_roles_except(self, lineage_id: str, keep: set[str]) -> Changes:
        self._check()
        gone = sorted(key for key in self.peer_roles if key[0] == lineage_id and key[1] not in keep)
        for key in gone:
            self.log.around(f"vault delete {key[1]}", partial(self.peer_roles.pop, key))
        return Changes(deleted=tuple(key[1] for key in gone))

    def delete_archive_roles(self, archive_name: str, lineage_id: str) -> Changes:
        self._check()
        gone = sorted(path for path in self.paths if path.startswith((f"auth/{archive_name}/", f"role/{lineage_id}/")))
        for path in gone:
            self.log.around(f"vault delete {path}", partial(self.paths.discard, path))
        return Changes(deleted=tuple(gone))

    def data_key_gone(self, archive_name: str, lineage_id: str) -> bool:
        self._check()
        return (archive_name, lineage_id) in self.shredded

    def status_client_credentials(self, lineage_id: str) -> ClientCredentials:
        self._check()
        return ClientCredentials("chain", "key", "ca", _UNTIL)

    def ca_pem(self, lineage_id: str, ca: CaName) -> str:
        self._check()
        return self.root.certificate.public_bytes(PEM).decode()
