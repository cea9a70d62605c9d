"""A start while Vault is away: what the pod needs is sealed on its disk, and restored when a person opened it.

A reboot of the node empties the pod's memory volumes; the pod itself, and with it its volume on the node's disk, stays.
Nothing here replaces a yes of Vault that was a no: only while Vault gives no answer is anything restored.
"""

import asyncio
import re
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import ValidationError

from pacs_operator.agent.content import KeyMissingError, Keys
from pacs_operator.agent.context import Context
from pacs_operator.agent.errors import AgentConfigError, AgentError, CertificateMismatchError
from pacs_operator.agent.files import PRIVATE, PUBLIC, read_if_there, sweep_temporaries, sync_folder, write_atomic
from pacs_operator.agent.keeper import Keeper
from pacs_operator.agent.log import Event, emit
from pacs_operator.agent.sealedstart import OfflineStartError, Pod, seal, unseal
from pacs_operator.agent.x509tools import check_credential, load_crl, load_root, parse_credential
from pacs_operator.domain import offline
from pacs_operator.domain.agentconfig import OfflineTold
from pacs_operator.domain.errors import PacsError
from pacs_operator.domain.times import parse_time, rfc3339
from pacs_operator.vault.errors import VaultFailedError, VaultSealedError, VaultUnreachableError

FILE = "sealed.json"
MARK = "offline-start.json"  # in the pod's memory; an agent that restarts alone knows by it what the pod lives on
MAX_BYTES = 8 * 2**20  # twice what the memory volume of certificates holds
LOOK_SECONDS = 5.0  # how late a renewed certificate or a new data key is sealed
SUBJECT = "offline"
_AWAY = (VaultSealedError, VaultUnreachableError, VaultFailedError)  # the last one: no active node, a full disk
_TIME = re.compile(r"[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}Z")


class OfflineStart:
    """Seals what the pod has in memory, and restores it.

    Parameters
    ----------
    context
        Whose folders, clock and pod.
    recipient
        The hospital's public half, base64.
    keeper
        Whose certificates these are; tells when Vault has renewed what was restored.

    Raises
    ------
    AgentConfigError
        The pod's uid is not known, or the recipient is no key.
    """

    def __init__(self, context: Context, recipient: str, keeper: Keeper) -> None:
        if not context.pod_uid:
            raise AgentConfigError(
                "agent.json: offline is set, and the pod's uid is not in the environment",
                action="use the agent's image and the operator of one release together",
            )
        self._context, self._keeper, self._recipient = context, keeper, recipient
        self._fingerprint = offline.fingerprint(recipient)
        config, self._surroundings = context.config, context.surroundings
        self._pod = Pod(component=config.component, lineage_id=config.lineage_id, uid=context.pod_uid)
        self._file = self._surroundings.offline / FILE
        self._mark = self._surroundings.run / MARK
        self._last: dict[str, bytes] | None = None
        self.told = OfflineTold(recipient=self._fingerprint)

    def resume(self) -> None:
        """Go on as one that started offline, when an agent before this one in the same pod did and Vault is not back.

        Without that the restored certificates would seem to be Vault's: not renewed, and sealed again as if new.
        """
        try:
            before = read_if_there(self._mark)
            if before is not None:
                self.told = OfflineTold.model_validate_json(before)
                self._keeper.renew_all()
        except OSError as error:
            self._context.problems.report(SUBJECT, _not_written(error))
        except ValidationError:  # of another release: Vault is asked for everything all the same
            self._keeper.renew_all()

    def rescue(self, error: PacsError) -> bool:
        """Restore what is missing in memory, when Vault is away and a person let this pod start; tell whether it did.

        Parameters
        ----------
        error
            What Vault, or the way to it, answered.
        """
        if not (self._surroundings.offline_key / offline.PRIVATE_FILE).exists():
            self._context.problems.clear(SUBJECT)
            return False
        try:
            sealed, restored = self._restore(error)
        except OSError as failure:
            self._context.problems.report(SUBJECT, _not_written(failure))
        except OfflineStartError as refusal:
            self._context.problems.report(SUBJECT, refusal)
        else:
            if restored:
                self._context.problems.clear(SUBJECT)
                emit(Event.STARTED_OFFLINE, recipient=self._fingerprint, sealed=sealed)
            return restored
        return False

    async def run(self) -> None:
        """Seal whatever is new, for ever."""
        while True:
            await self._follow()
            await self._context.clock.sleep(LOOK_SECONDS)

    def _remember(self, sealed: str) -> None:
        """Note what the pod lives on from now, before it does: it may end in the middle of what follows."""
        started = self.told.started or rfc3339(self._context.clock.now())
        told = OfflineTold(recipient=self._fingerprint, sealed=sealed, started=started)
        write_atomic(self._mark, told.model_dump_json(by_alias=True).encode(), PRIVATE)
        self.told = told
        self._keeper.renew_all()

    async def _follow(self) -> None:
        """Write the file anew when something in it is; what was restored stays as it is until Vault renewed it."""
        if self._keeper.overdue:
            return
        try:
            self._mark.unlink(missing_ok=True)
            self.told = self.told.model_copy(update={"started": None})
            content = {name: path.read_bytes() for name, (path, _) in self._wanted().items()}
            if content != self._last:
                self.told = OfflineTold(
                    recipient=self._fingerprint, sealed=await asyncio.to_thread(self._write, content)
                )
                self._last = content
                self._context.problems.clear(SUBJECT)
        except OSError as error:
            self._context.problems.report(SUBJECT, _not_written(error))
        except OfflineStartError as error:
            self._context.problems.report(SUBJECT, error)

    def _write(self, content: dict[str, bytes]) -> str:
        """Return when the file was sealed that lies on the disk now; blocks."""
        now = rfc3339(self._context.clock.now())
        data = seal(self._pod, content, self._recipient, now)
        if len(data) > MAX_BYTES:
            raise OfflineStartError(
                f"what is to be sealed takes {len(data)} bytes, more than {MAX_BYTES}",
                action="revocation lists have grown too large; have Vault tidy expired certificates (pki tidy)",
                reason="OfflineNotSealed",
            )
        sweep_temporaries(self._file.parent)
        write_atomic(self._file, data, PRIVATE)
        sync_folder(self._file.parent)
        emit(Event.START_SEALED, recipient=self._fingerprint, bytes=len(data))
        return now

    def _wanted(self) -> dict[str, tuple[Path, int]]:
        """Return the files in memory that a start needs, and their permissions; all else is made from these."""
        config, surroundings = self._context.config, self._surroundings
        files = {f"root/{ca.value}": (surroundings.root(ca), PUBLIC) for ca in config.trust}
        files |= {f"crl/{ca.value}": (surroundings.crl(ca), PUBLIC) for ca in config.trust}
        files |= {f"leaf/{leaf.name}": (surroundings.bundle(leaf.name), PRIVATE) for leaf in config.leaves}
        return files | ({"data-keys": (surroundings.ring, PRIVATE)} if config.storage is not None else {})

    def _restore(self, error: PacsError) -> tuple[str, bool]:
        """Return when the file was sealed, and whether anything of it was missing in memory and is there now."""
        if not isinstance(error, _AWAY):
            raise OfflineStartError(
                f"Vault answers, and what it says is {error.reason}: that is no outage",
                action="do what that reason asks for; the sealed file stays closed",
                reason="OfflineVaultAnswers",
            )
        key = opened(self._surroundings.offline_key, self._fingerprint, self._context.clock.now())
        data = read_if_there(self._file)
        if data is None:
            raise OfflineStartError(
                "this pod has sealed nothing yet: it is new since Vault went away",
                action="wait for Vault; pods that were there before can start, do not delete them",
                reason="OfflineFileMissing",
            )
        sealed, found = unseal(data, self._pod, key)
        wanted = self._wanted()
        if not wanted.keys() <= found.keys():
            raise OfflineStartError(
                f"the sealed file lacks {', '.join(sorted(wanted.keys() - found.keys()))}",
                action="wait for Vault: the pod's configuration changed since it was sealed",
                reason="OfflineFileIncomplete",
            )
        self._check(found)
        missing = {name: place for name, place in wanted.items() if not place[0].exists()}
        if missing:
            self._remember(sealed)
        for name, (path, mode) in missing.items():  # what is there came from Vault later than this
            write_atomic(path, found[name], mode)
        return sealed, bool(missing)

    def _check(self, found: dict[str, bytes]) -> None:
        """Refuse certificates that have ended, and anything that is not this archive's.

        A revocation list that has ended is taken, as running gates take it: what it lists stays refused.
        """
        config, now = self._context.config, self._context.clock.now()
        try:
            roots = {ca: load_root(found[f"root/{ca.value}"]) for ca in config.trust}
            for ca, root in roots.items():
                load_crl(found[f"crl/{ca.value}"], root)
            for leaf in config.leaves:
                pem = found[f"leaf/{leaf.name}"]
                credential = parse_credential(pem, pem)
                check_credential(credential, leaf, roots[leaf.ca])
                if (end := credential.certificate.not_valid_after_utc) <= now:
                    raise OfflineStartError(
                        f"the sealed certificate of leaf {leaf.name} ended at {rfc3339(end)}",
                        action="only Vault can help now; look at the node's clock if that is not so",
                        reason="OfflineLeafExpired",
                    )
            if config.storage is not None and Keys.parse(found["data-keys"].decode("ascii")).lineage != (
                config.lineage_id
            ):
                raise KeyMissingError
        except (ValueError, CertificateMismatchError, KeyMissingError):
            raise OfflineStartError(
                "what is in the sealed file is not what this pod needs",
                action="wait for Vault; the pod's configuration may have changed since it was sealed",
                reason="OfflineFileIncomplete",
            ) from None


def opened(folder: Path, fingerprint: str, now: datetime) -> X25519PrivateKey:
    """Return the private half that a person brought, while its time lasts.

    Parameters
    ----------
    folder
        The mounted Secret.
    fingerprint
        Of the public half that the archive declares.
    now
        Time.

    Raises
    ------
    OfflineStartError
        ``OfflineKeyInvalid``, ``OfflineKeyExpired``, ``OfflineKeyTooLong`` or ``OfflineKeyWrong``.
    """
    try:
        end = (folder / offline.NOT_AFTER_FILE).read_text("ascii").strip()
        if not _TIME.fullmatch(end):
            raise ValueError
        not_after = parse_time(end)
        key = load_pem_private_key((folder / offline.PRIVATE_FILE).read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        raise _invalid() from None
    if not isinstance(key, X25519PrivateKey):
        raise _invalid()
    if not_after <= now:
        raise OfflineStartError(
            f"{offline.NOT_AFTER_FILE} of Secret {offline.SECRET} was {end}",
            action="delete the Secret; if the outage goes on, make it again with a later time",
            reason="OfflineKeyExpired",
        )
    if not_after - now > offline.MAX_OPEN:
        raise OfflineStartError(
            f"{offline.NOT_AFTER_FILE} of Secret {offline.SECRET} is {end}, more than 72 hours ahead",
            action="make it again with a time within the next 72 hours",
            reason="OfflineKeyTooLong",
        )
    if offline.fingerprint_of(key.public_key()) != fingerprint:
        raise OfflineStartError(
            f"the private half in Secret {offline.SECRET} is not that of {fingerprint}",
            action="bring the half whose fingerprint the archive's status shows",
            reason="OfflineKeyWrong",
        )
    return key


def _invalid() -> OfflineStartError:
    return OfflineStartError(
        f"Secret {offline.SECRET} lacks {offline.PRIVATE_FILE} (PEM of an X25519 private key, without passphrase) or "
        f"{offline.NOT_AFTER_FILE} (RFC 3339, UTC, whole seconds)",
        action="make it again as docs/offline-start.md says",
        reason="OfflineKeyInvalid",
    )


def _not_written(error: OSError) -> AgentError:
    return OfflineStartError(
        f"the sealed file, or what is in it, cannot be read or written (errno {error.errno})",
        action="look at the node's disk: full, or failing",
        reason="OfflineNotSealed",
    )
