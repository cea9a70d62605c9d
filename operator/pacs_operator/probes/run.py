"""One conformance run: every check in order, each replica by address, and the result."""

import time
from collections.abc import Callable, Collection, Iterator
from functools import partial

import structlog

from pacs_operator.domain.checkcatalog import NETWORK_CHECKS
from pacs_operator.domain.checks import CONTAINED, Check, Layer
from pacs_operator.domain.conformanceconfig import ConformanceConfig
from pacs_operator.domain.results import RunResult
from pacs_operator.probes import (
    control,
    crowding,
    gatechecks,
    ingestchecks,
    networkchecks,
    resumption,
    rightschecks,
    servicechecks,
    webchecks,
)
from pacs_operator.probes.client import NotAssociatedError, Session
from pacs_operator.probes.gatechecks import ATTACKS, TRY_LATER
from pacs_operator.probes.networkchecks import Doors, Forbidden, resolve
from pacs_operator.probes.objects import ProbeObjects
from pacs_operator.probes.setting import Setting, prepared
from pacs_operator.probes.verdict import PASSED, Row, Verdict, combine, failed, not_run
from pacs_operator.probes.wire import Endpoint

log = structlog.get_logger()

STORES = (
    Check.STORE_IMAGE,
    Check.STORE_REPORT,
    Check.STORE_DOCUMENT,
    Check.STORE_COMPRESSED,
    Check.STORE_CHARACTER_SETS,
)
FINDS = (Check.FIND_PATIENT, Check.FIND_STUDY, Check.FIND_SERIES, Check.FIND_IMAGE)
UNGRANTED = (Check.UNGRANTED_ECHO_REFUSED, Check.UNGRANTED_FIND_REFUSED, Check.UNGRANTED_GET_REFUSED)
UNLISTED = (Check.UNLISTED_SOP_CLASS_REFUSED, Check.UNLISTED_TRANSFER_SYNTAX_REFUSED)
SERVICE = (*STORES, *FINDS, Check.GET_EQUAL)
PAUSE_SECONDS = 0.5
#: What a contained archive can still be asked: who is turned away and how, and what the network drops.
ASKED_WHILE_CONTAINED = frozenset(
    {
        Check.GATE_REPLICAS,
        Check.ECHO,
        *ATTACKS,
        *NETWORK_CHECKS,
        Check.CONTROL_FOREIGN_REFUSED,
        Check.CONTROL_ROUTE_REFUSED,
    }
)
# These run even when the run is called off: what was stored has to go.
ALWAYS = (Check.OBJECTS_REMOVED, Check.NO_RESIDUE)
Step = tuple[Check, int | None, Callable[[], Verdict]]


class Run:
    """Does the checks of one run, one after the other.

    Parameters
    ----------
    setting
        Identities, trust and bounds.
    checks
        Which checks to do; a run that counts does all of them.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self,
        setting: Setting,
        checks: Collection[Check] = tuple(Check),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._setting = setting
        self._checks = checks
        self._config = setting.config
        self._clock = clock
        self._deadline = clock() + self._config.bounds.run_seconds
        self._settled = clock() + self._config.bounds.settle_seconds
        self._called_off: str | None = None
        objects = ProbeObjects(self._config.run, self._config.patient_prefix, self._config.uid_root)
        self._exchange = servicechecks.Exchange(objects, objects.all())
        self._replicas = [
            Endpoint(address, self._config.gate_port)
            for address in resolve(self._config.gate_replicas_host, self._config.gate_port)
        ]
        self.rows: list[Row] = []

    @property
    def result(self) -> RunResult:
        """Return what leaves the pod."""
        return RunResult(run=self._config.run, replicas=len(self._replicas), checks=combine(self.rows))

    def go(self) -> RunResult:
        """Do every check, and return the result."""
        for check, replica, step in self._steps():
            if check not in self._checks:
                continue
            begun = self._clock()
            verdict = self._verdict(check, step)
            millis = round((self._clock() - begun) * 1000)
            self.rows.append(Row(check, replica, verdict, millis))
        return self.result

    def _verdict(self, check: Check, step: Callable[[], Verdict]) -> Verdict:
        if self._called_off is None and self._clock() > self._deadline:
            self._called_off = "out-of-time"
        if self._config.contained and check not in ASKED_WHILE_CONTAINED:
            return not_run(CONTAINED)
        if self._called_off is not None and check not in ALWAYS:
            return not_run(self._called_off)
        try:
            return step()
        except NotAssociatedError:
            return (
                failed(Layer.GATE, "closed") if check in (*STORES, *FINDS, Check.GET_EQUAL) else not_run("not-reached")
            )
        except Exception as error:  # one check that breaks must not take the others with it
            # The class alone: a message may quote what was sent.
            log.error("check-broke", check=check.value, error=type(error).__name__)
            return not_run("error")

    def _steps(self) -> Iterator[Step]:
        yield Check.GATE_REPLICAS, None, self._count_replicas
        yield from self._each_replica(Check.ECHO, self._echo)
        for check in STORES:
            yield check, None, partial(self._store, check)
        for check in FINDS:
            yield check, None, partial(self._find, check)
        yield Check.GET_EQUAL, None, lambda: servicechecks.get_equal(self._good(), self._exchange)
        # Before the attacks, whose twins store more objects of the run.
        for check, act in ((Check.WEB_QUERY, webchecks.query), (Check.WEB_RETRIEVE_EQUAL, webchecks.retrieve)):
            yield from self._each_web_replica(check, partial(act, self._setting, exchange=self._exchange))
        for check in ATTACKS:
            yield from self._each_replica(check, partial(gatechecks.refused, self._setting, check))
        resumed = partial(resumption.resumption_refused, self._setting)
        yield from self._each_replica(Check.SESSION_RESUMPTION_REFUSED, resumed)
        yield from self._crowding_steps()
        for check in UNGRANTED:
            yield check, None, partial(self._ungranted, check)
        yield Check.PROBE_CONFINED, None, lambda: rightschecks.probe_confined(self._good(), self._exchange)
        for check in UNLISTED:
            yield check, None, partial(self._unlisted, check)
        for check in webchecks.ATTACKS:
            yield from self._each_web_replica(check, partial(webchecks.refused, self._setting, check))
        yield from self._network_steps()
        yield Check.CONTROL_FOREIGN_REFUSED, None, lambda: control.foreign_refused(self._setting)
        yield Check.CONTROL_ROUTE_REFUSED, None, lambda: control.route_refused(self._setting)
        # Directly before the clean-up: what the archive sets aside for a person does not lie there long.
        duplicate = partial(self._of_stored, ingestchecks.duplicate_refused)
        yield Check.DIFFERING_DUPLICATE_REFUSED, None, duplicate
        yield Check.OBJECTS_REMOVED, None, self._remove
        yield Check.NO_RESIDUE, None, lambda: control.no_residue(self._setting, self._good())

    def _crowding_steps(self) -> Iterator[Step]:
        setting = self._setting
        yield from self._each_replica(Check.IDLE_CONNECTIONS_HARMLESS, partial(crowding.idle_harmless, setting))
        yield from self._each_replica(Check.SLOW_REQUESTS_HARMLESS, partial(crowding.slow_harmless, setting))
        silent = partial(crowding.silent_harmless, setting, store=self._store_beside)
        yield from self._each_replica(Check.SILENT_ASSOCIATIONS_HARMLESS, silent)
        yield from self._each_replica(Check.ASSOCIATION_LIMIT_HELD, partial(crowding.limit_held, setting))

    def _store_beside(self, replica: Endpoint) -> str | None:
        """Let the store-only peer store one object; return what went wrong."""
        try:
            return rightschecks.stores(self._setting.session(replica, self._config.store_only), self._exchange)
        except NotAssociatedError:
            return "closed"

    def _each_replica(self, check: Check, step: Callable[[Endpoint], Verdict]) -> Iterator[Step]:
        if not self._replicas:
            yield check, None, lambda: not_run("unresolved")
        for number, replica in enumerate(self._replicas, start=1):
            yield check, number, partial(step, replica)

    def _each_web_replica(self, check: Check, step: Callable[[Endpoint], Verdict]) -> Iterator[Step]:
        return self._each_replica(check, step) if self._config.gate_web_port is not None else iter(())

    def _count_replicas(self) -> Verdict:
        found = len(self._replicas)
        if found >= self._config.gate_replicas:
            return PASSED
        return failed(Layer.NETWORK, f"replicas-{found}")

    def _echo(self, replica: Endpoint) -> Verdict:
        if self._config.contained:
            return gatechecks.contained(self._setting, replica)
        verdict, answer = gatechecks.echo(self._setting, replica)
        # One archive stands behind all replicas, and so there is one time for it to come up.
        while answer.code == TRY_LATER and self._clock() < self._settled:
            time.sleep(PAUSE_SECONDS)
            verdict, answer = gatechecks.echo(self._setting, replica)
        if answer.served and answer.millis > self._config.bounds.abort_echo_millis:
            self._called_off = "archive-slow"
        return verdict

    def _store(self, check: Check) -> Verdict:
        return servicechecks.store_kind(self._good(), self._exchange, check)

    def _find(self, check: Check) -> Verdict:
        return servicechecks.find_level(self._good(), self._exchange, check)

    def _unlisted(self, check: Check) -> Verdict:
        return ingestchecks.unlisted(self._good(), self._config.uid_root, check)

    def _of_stored(self, attack: Callable[[Session, servicechecks.Exchange], Verdict]) -> Verdict:
        return attack(self._good(), self._exchange) if self._exchange.stored else not_run("nothing-stored")

    def _ungranted(self, check: Check) -> Verdict:
        return rightschecks.ungranted(self._good(), self._store_only(), self._exchange, check)

    def _network_steps(self) -> Iterator[Step]:
        config, waits = self._config, self._setting.waits
        orthanc = Forbidden(config.orthanc_host, config.orthanc_dicom_port, config.orthanc_control_port)
        yield Check.ORTHANC_UNREACHABLE, None, partial(networkchecks.unreachable, orthanc, waits)
        if config.postgres_host is not None:
            postgres = Forbidden(config.postgres_host, config.postgres_port, config.postgres_control_port)
            yield Check.POSTGRES_UNREACHABLE, None, partial(networkchecks.unreachable, postgres, waits)
        way_out = Forbidden(config.gate_replicas_host, config.gate_outbound_port, config.gate_port)
        yield Check.OUTBOUND_GATE_UNREACHABLE, None, partial(networkchecks.unreachable, way_out, waits)
        addresses = tuple(replica.address for replica in self._replicas)
        plaintext = self._setting.good_caller().but(context=None)
        doors = Doors(addresses, tuple(config.legacy_devices), config.gate_port, plaintext)
        yield Check.LEGACY_PORTS_CLOSED, None, partial(networkchecks.legacy_closed, doors, waits)

    def _remove(self) -> Verdict:
        return control.removed(self._setting, self._good(), anything_stored=bool(self._exchange.stored))

    def _good(self) -> Session:
        return self._setting.session(self._service(), self._config.peer)

    def _store_only(self) -> Session:
        return self._setting.session(self._service(), self._config.store_only)

    def _service(self) -> Endpoint:
        addresses = resolve(self._config.gate_host, self._config.gate_port)
        if not addresses:
            raise NotAssociatedError
        return Endpoint(addresses[0], self._config.gate_port)


def conform(config: ConformanceConfig) -> tuple[RunResult, list[Row]]:
    """Do one run.

    Raises
    ------
    ProbeError
        The run could not begin: certificates are absent.
    """
    with prepared(config) as setting:
        run = Run(setting)
        return run.go(), run.rows
