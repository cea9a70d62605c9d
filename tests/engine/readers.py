"""Roles of break-glass readers in the Vault of a simulated world."""

from pacs_operator.vault.port import Changes
from tests.engine.simapi import WriteLog


class ReaderRoles:
    """The part of ``RecordingVault`` that signs for break-glass readers."""

    log: WriteLog
    peer_roles: dict[tuple[str, str], str]

    def _check(self) -> None:
        raise NotImplementedError

    def ensure_break_glass_role(self, lineage_id: str, role: str, dns_name: str, hours: int) -> Changes:
        self._check()
        key, value = (lineage_id, role), f"{dns_name} {hours} h"
        if self.peer_roles.get(key) == value:
            return Changes()
        self.log.around(f"vault {role}", lambda: self.peer_roles.update({key: value}))
        return Changes(created=(role,))
