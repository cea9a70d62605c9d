"""Keeps everything in ``/tls`` fresh: one patient loop for each leaf and each authority."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pacs_operator.agent.clock import sleep_until
from pacs_operator.agent.context import Context
from pacs_operator.agent.errors import AgentConfigError, AgentError, CertificateMismatchError
from pacs_operator.agent.files import require_memory, sweep_temporaries
from pacs_operator.agent.keeping import Kept, KeptLeaf, KeptTrust
from pacs_operator.agent.neighbour import Changes
from pacs_operator.agent.schedule import backoff_seconds
from pacs_operator.domain.errors import PacsError, VaultError
from pacs_operator.domain.names import CaName

T = TypeVar("T")


class Keeper:
    """All leaves and authorities of one pod.

    Parameters
    ----------
    context
        Which leaves, where, from which Vault, by which clock. Vault's blocking calls run one at a time in a thread.
    changed
        Called in the event loop with what is new on the volume.
    """

    def __init__(self, context: Context, changed: Callable[[Changes], None]) -> None:
        self.trust: dict[CaName, KeptTrust] = {ca: KeptTrust(ca, context) for ca in context.config.trust}
        self.leaves: dict[str, KeptLeaf] = {}
        for leaf in context.config.leaves:
            if leaf.ca not in self.trust:
                raise AgentConfigError(
                    f"agent.json: leaf {leaf.name} is signed by {leaf.ca.value}, which is not in trust",
                    action="add the authority to trust",
                )
            self.leaves[leaf.name] = KeptLeaf(leaf, self.trust[leaf.ca], context)
        self._refuse_expired = bool(context.config.refuse_expired_lists)
        self._surroundings = context.surroundings
        self._clock = context.clock
        self._problems = context.problems
        self._changed = changed
        self.overdue: frozenset[str] = frozenset()  # subjects that did not come from Vault and are to be renewed
        self.renewing = 0  # calls to Vault under way or queued
        self._vault_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vault")

    @property
    def everything(self) -> Changes:
        """Return all files as changes: what a neighbour of unknown age has to be told."""
        known = frozenset(self.trust)
        return Changes(leaves=frozenset(self.leaves), roots=known, crls=known)

    async def obtain_all(self, rescue: Callable[[PacsError], bool] = lambda _: False) -> None:
        """Return when every file is in ``/tls``: found there and still good, or fetched however long it takes.

        Parameters
        ----------
        rescue
            Asked each time that Vault did not help; tells whether it put something into ``/tls`` instead.

        Raises
        ------
        KeysNotInMemoryError
            ``/tls`` is not memory-backed; nothing was written.
        """
        require_memory(self._surroundings.tls)
        sweep_temporaries(self._surroundings.tls)
        for one in self._kept():
            if not one.load():
                await self._until_renewed(one, lambda error, one=one: rescue(error) and one.load())  # type: ignore[misc]

    def renew_all(self) -> None:
        """Have everything renewed as soon as Vault answers: none of it is from this start."""
        self.overdue = frozenset(one.subject for one in self._kept())

    async def run(self) -> None:
        """Renew whatever is due, for ever."""
        for one in self._kept():
            if one.subject in self.overdue:
                one.due = self._clock.now()
        async with asyncio.TaskGroup() as group:
            for one in self._kept():
                group.create_task(self._keep(one))

    def _kept(self) -> list[Kept]:
        return [*self.trust.values(), *self.leaves.values()]  # roots first: a leaf is checked against its root

    async def _keep(self, one: Kept) -> None:
        while True:
            await sleep_until(self._clock, one.due)
            self._changed(await self._until_renewed(one))

    async def _until_renewed(self, one: Kept, rescued: Callable[[PacsError], bool] = lambda _: False) -> Changes:
        failures = 0
        while True:
            self.renewing += 1
            try:
                changes = await asyncio.get_running_loop().run_in_executor(self._vault_thread, one.renew)
            except (VaultError, CertificateMismatchError, OSError, KeyError, TypeError, ValueError) as error:
                failures += 1
                self.renewing -= 1
                typed = _typed(error)
                self._problems.report(one.subject, typed)
                if rescued(typed):
                    return Changes()
                await self._clock.sleep(backoff_seconds(failures, self._clock.jitter()))
            else:
                self.renewing -= 1
                self._problems.clear(one.subject)
                self.overdue -= {one.subject}
                return changes

    async def in_vault_thread(self, act: Callable[[], T]) -> T:
        """Ask Vault something of one's own, in turn with the certificates."""
        self.renewing += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._vault_thread, act)
        finally:
            self.renewing -= 1

    def look_at_ages(self) -> None:
        """Report what is expired or has not been refreshed for too long; what serves keeps serving."""
        now = self._clock.now()
        for name, leaf in self.leaves.items():
            subject = f"age/leaf/{name}"
            if leaf.credential and leaf.credential.certificate.not_valid_after_utc <= now:
                self._problems.report(subject, LeafExpiredError(name))
            else:
                self._problems.clear(subject)
        for ca, trust in self.trust.items():
            subject, half_life = f"age/crl/{ca.value}", trust.crl_half_life()
            if half_life is None or now < half_life:
                self._problems.clear(subject)
                continue
            expired = trust.crl is not None and (trust.crl.next_update_utc or now) <= now
            refused = self._refuse_expired and ca is CaName.PEERS
            problem = CrlExpiredError(ca, refused=refused) if expired else CrlPastHalfLifeError(ca)
            self._problems.report(subject, problem)

    def close(self) -> None:
        """Let go of the thread; a call under way is not waited for."""
        self._vault_thread.shutdown(wait=False, cancel_futures=True)


class LeafExpiredError(AgentError):
    """A certificate of our own is past its end."""

    reason = "LeafExpired"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"certificate of leaf {name} has expired; peers will refuse it",
            action="see the other problems of this agent: Vault has not signed a new one; it keeps trying",
        )


class CrlPastHalfLifeError(AgentError):
    """A revocation list was not refreshed for half of its validity."""

    reason = "CrlPastHalfLife"

    def __init__(self, ca: CaName) -> None:
        super().__init__(
            f"the revocation list of {ca.value} is past half of its validity; new revocations do not arrive",
            action="see that Vault answers and rebuilds its lists (auto_rebuild)",
        )


class CrlExpiredError(AgentError):
    """A revocation list is past its end; what it lists stays refused, or everybody is, as the archive says."""

    reason = "CrlExpired"

    def __init__(self, ca: CaName, *, refused: bool) -> None:
        super().__init__(
            f"the revocation list of {ca.value} has expired; "
            + ("everybody is refused until there is a newer one" if refused else "only what it lists stays refused"),
            action="see that Vault answers and rebuilds its lists (auto_rebuild)",
        )


def _typed(error: Exception) -> PacsError:
    """Return an error with a reason: whatever Vault or a proxy before it answers, the loop goes on."""
    match error:
        case PacsError():
            return error
        case OSError():
            return TlsNotWritableError(error)
        case _:
            return CertificateMismatchError(
                f"the answer of Vault cannot be understood ({type(error).__name__})",
                action="see that nothing between the pods and Vault alters answers",
            )


class TlsNotWritableError(AgentError):
    """The memory volume took no file; what lies there stays in use."""

    reason = "TlsNotWritable"

    def __init__(self, error: OSError) -> None:
        super().__init__(
            f"the folder for keys and certificates cannot be written (errno {error.errno})",
            action="look at the size limit and the group of the memory volume /tls",
        )
