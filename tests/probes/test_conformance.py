"""The whole run: green on an archive as it should be, and red in the one right place for each single cause."""

from collections.abc import Callable

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from pacs_operator.domain.checkcatalog import CHECKS
from pacs_operator.domain.checks import Check, Group, checks_of
from pacs_operator.domain.messages import MAX_MESSAGE_BYTES
from pacs_operator.domain.names import PROBE_PATIENT_PREFIX, PROBE_UID_ROOT
from pacs_operator.domain.probepeers import probe_dns_name
from pacs_operator.domain.results import CheckResult, RunResult
from pacs_operator.probes.objects import ProbeObjects
from pacs_operator.probes.run import Run, conform
from pacs_operator.probes.setting import prepared
from pacs_operator.probes.tls import ForgedLeaf
from pacs_operator.probes.verdict import Row
from tests.probes.conftest import ARCHIVE, REPLICAS, World


def run_on(world: World, checks: frozenset[Check] = frozenset(Check)) -> tuple[RunResult, list[Row]]:
    with prepared(world.start()) as setting:
        run = Run(setting, checks)
        return run.go(), run.rows


def of(*groups: Group) -> frozenset[Check]:
    return frozenset(check for check, info in CHECKS.items() if info.group in groups)


PROBE_NAME = probe_dns_name(ARCHIVE, store_only=False)
GATE = of(Group.TRANSPORT, Group.IDENTITY)
WORK = of(Group.SERVICE, Group.CLEANUP)
RIGHTS = of(Group.SERVICE, Group.RIGHTS)
STORES = frozenset({Check.STORE_IMAGE})
OLD = frozenset({Check.OLD_TLS_REFUSED, Check.PLAINTEXT_REFUSED})
SUITES = frozenset({Check.OLD_TLS_REFUSED, Check.STATIC_RSA_REFUSED, Check.CBC_SUITES_REFUSED})
CERTIFICATES = frozenset(
    {
        Check.NO_CERTIFICATE_REFUSED,
        Check.FOREIGN_CERTIFICATE_REFUSED,
        Check.IMITATED_AUTHORITY_REFUSED,
        Check.PADDED_CHAIN_REFUSED,
        Check.SERVER_CERTIFICATE_REFUSED,
        Check.EXPIRED_CERTIFICATE_REFUSED,
    }
)
TITLES = frozenset({Check.BORROWED_AE_TITLE_REFUSED, Check.UNKNOWN_AE_TITLE_REFUSED})
CROWDS = frozenset(
    {
        Check.IDLE_CONNECTIONS_HARMLESS,
        Check.SLOW_REQUESTS_HARMLESS,
        Check.SILENT_ASSOCIATIONS_HARMLESS,
        Check.ASSOCIATION_LIMIT_HELD,
    }
)
NOTHING_STORED = {Check.DIFFERING_DUPLICATE_REFUSED: "nothing-stored"}


EVERY = checks_of(managed_database=True)  # DICOMweb's: tests/images/test_web_probes.py


def by_check(result: RunResult) -> dict[Check, CheckResult]:
    return {Check(each.check): each for each in result.checks}


REFUSALS = {
    Check.OLD_TLS_REFUSED: ("tls", "alert-protocol-version"),
    Check.NO_CERTIFICATE_REFUSED: ("tls", "alert-certificate-required"),
    Check.FOREIGN_CERTIFICATE_REFUSED: ("tls", "alert-unknown-ca"),
    Check.BORROWED_AE_TITLE_REFUSED: ("gate", "rj-1-1-3"),
    Check.WRONG_CALLED_AE_TITLE_REFUSED: ("gate", "rj-1-1-7"),
    Check.STATIC_RSA_REFUSED: ("tls", "alert-handshake-failure"),
    Check.CBC_SUITES_REFUSED: ("tls", "alert-handshake-failure"),
    Check.IMITATED_AUTHORITY_REFUSED: ("tls", "alert-unknown-ca"),
    Check.PADDED_CHAIN_REFUSED: ("tls", "alert-unknown-ca"),
    Check.SERVER_CERTIFICATE_REFUSED: ("tls", "alert-unsupported-certificate"),
    Check.EXPIRED_CERTIFICATE_REFUSED: ("tls", "alert-certificate-expired"),
    Check.UNKNOWN_AE_TITLE_REFUSED: ("gate", "rj-1-1-3"),
    Check.CALLED_AE_TITLE_CASE_REFUSED: ("gate", "rj-1-1-7"),
    Check.SESSION_RESUMPTION_REFUSED: ("tls", "full-handshake"),
    Check.UNLISTED_SOP_CLASS_REFUSED: ("dicom", "context-refused"),
    Check.UNLISTED_TRANSFER_SYNTAX_REFUSED: ("dicom", "context-refused"),
    Check.DIFFERING_DUPLICATE_REFUSED: ("dicom", "status-0111"),
    Check.IDLE_CONNECTIONS_HARMLESS: ("gate", "held-10"),
    Check.SLOW_REQUESTS_HARMLESS: ("gate", "held-5"),
    Check.SILENT_ASSOCIATIONS_HARMLESS: ("gate", "held-16"),
    Check.ASSOCIATION_LIMIT_HELD: ("gate", "rj-2-3-1"),
    Check.OUTBOUND_GATE_UNREACHABLE: ("network", "timeout"),
    Check.LEGACY_PORTS_CLOSED: ("network", "ports-0"),
    Check.UNGRANTED_ECHO_REFUSED: ("dicom", "closed-after-request"),
    Check.UNGRANTED_FIND_REFUSED: ("dicom", "status-0122"),
    Check.UNGRANTED_GET_REFUSED: ("dicom", "status-0124"),
    Check.PROBE_CONFINED: ("dicom", "status-0124"),
    Check.ORTHANC_UNREACHABLE: ("network", "timeout"),
    Check.POSTGRES_UNREACHABLE: ("network", "timeout"),
    Check.CONTROL_ROUTE_REFUSED: ("control", "http-403"),
}


def test_an_archive_as_it_should_be_passes_and_every_refusal_is_named_beside_its_twin(world: World) -> None:
    result, rows = conform(world.start())
    results = by_check(result)
    assert {check: (each.layer, each.code) for check, each in results.items() if each.outcome != "Passed"} == {}
    assert result.proves(EVERY)
    assert set(results) == EVERY
    assert {check: (results[check].layer, results[check].code) for check in REFUSALS} == REFUSALS
    assert results[Check.PLAINTEXT_REFUSED].layer == "tls"
    for check, info in CHECKS.items():
        if check not in EVERY:
            continue
        assert results[check].twin == ("Served" if info.twin else "NotNeeded"), check
    assert world.archive.objects == {}, "every object of the run was removed"
    assert result.replicas == len(REPLICAS)
    assert {row.replica for row in rows if CHECKS[row.check].each_replica} == {1, 2}
    assert all(gate.connections > 0 for gate in world.gates)
    message = result.to_message()
    assert len(message) <= MAX_MESSAGE_BYTES
    assert RunResult.from_message(message) == result


def weaken(**what: object) -> Callable[[World], None]:
    """Return what sets one switch; ``foreign`` needs the probe's own forged authority, so it has a test of its own."""

    def apply(world: World) -> None:
        for path, value in what.items():
            part, _, switch = path.partition("__")
            setattr(getattr(world, part), switch, value)

    return apply


CT = "1.2.840.10008.5.1.4.1.1.2"
SR = "1.2.840.10008.5.1.4.1.1.88.11"
PDF = "1.2.840.10008.5.1.4.1.1.104.1"

# Cause, the checks made, those among them that it must turn red, and the code they must name.
CAUSES: dict[str, tuple[Callable[[World], None], frozenset[Check], dict[Check, str]]] = {
    "gate serves plaintext": (weaken(weak__plaintext=True), GATE, {Check.PLAINTEXT_REFUSED: "accepted"}),
    "gate speaks TLS 1.1": (weaken(weak__old_tls=True), OLD, {Check.OLD_TLS_REFUSED: "accepted"}),
    "gate exchanges keys by RSA": (weaken(weak__static_rsa=True), SUITES, {Check.STATIC_RSA_REFUSED: "accepted"}),
    "gate takes CBC": (weaken(weak__cbc=True), SUITES, {Check.CBC_SUITES_REFUSED: "accepted"}),
    "gate looks at no date": (weaken(weak__expired=True), GATE, {Check.EXPIRED_CERTIFICATE_REFUSED: "accepted"}),
    "gate looks at no certificate": (
        weaken(weak__any_certificate=True),
        CERTIFICATES,
        dict.fromkeys(CERTIFICATES, "accepted"),
    ),
    "gate resumes sessions": (weaken(weak__resumes=True), GATE, {Check.SESSION_RESUMPTION_REFUSED: "resumed"}),
    "gate knows no case": (weaken(weak__any_case=True), GATE, {Check.CALLED_AE_TITLE_CASE_REFUSED: "accepted"}),
    "gate knows no limit": (weaken(weak__no_limit=True), CROWDS, {Check.ASSOCIATION_LIMIT_HELD: "accepted"}),
    "unlisted class": (
        weaken(faults__lists_class=f"{PROBE_UID_ROOT}.0"),
        of(Group.INGEST),
        {Check.UNLISTED_SOP_CLASS_REFUSED: "accepted"} | NOTHING_STORED,
    ),
    "unlisted syntax": (
        weaken(faults__lists_syntax=f"{PROBE_UID_ROOT}.0"),
        of(Group.INGEST),
        {Check.UNLISTED_TRANSFER_SYNTAX_REFUSED: "accepted"} | NOTHING_STORED,
    ),
    "duplicate is taken": (
        weaken(faults__takes_duplicates=True),
        STORES | of(Group.INGEST),
        {Check.DIFFERING_DUPLICATE_REFUSED: "status-0000"},
    ),
    "duplicate replaces though refused": (
        weaken(faults__replaces_duplicates=True),
        STORES | of(Group.INGEST),
        {Check.DIFFERING_DUPLICATE_REFUSED: "differs"},
    ),
    "gate asks for no certificate": (
        weaken(weak__no_certificate=True),
        GATE,
        {Check.NO_CERTIFICATE_REFUSED: "accepted"},
    ),
    "gate binds no title": (weaken(weak__any_title=True), GATE, dict.fromkeys(TITLES, "accepted")),
    "gate takes any called title": (
        weaken(weak__any_called=True),
        GATE,
        {Check.WRONG_CALLED_AE_TITLE_REFUSED: "accepted", Check.CALLED_AE_TITLE_CASE_REFUSED: "accepted"},
    ),
    "archive echoes to anybody": (
        weaken(faults__echo_to_anybody=True),
        RIGHTS,
        {Check.UNGRANTED_ECHO_REFUSED: "status-0000"},
    ),
    "right Find widened": (weaken(faults__find_for_anybody=True), RIGHTS, {Check.UNGRANTED_FIND_REFUSED: "matches-1"}),
    "right Get widened": (weaken(faults__get_for_anybody=True), RIGHTS, {Check.UNGRANTED_GET_REFUSED: "matches-13"}),
    "probe may store anything": (weaken(faults__store_anything=True), RIGHTS, {Check.PROBE_CONFINED: "status-0000"}),
    "images are refused": (weaken(faults__refuses_class=CT), WORK, {Check.STORE_IMAGE: "status-a700"}),
    "reports are lost after success": (
        weaken(faults__loses_class=SR),
        WORK,
        {Check.FIND_SERIES: "missing", Check.FIND_IMAGE: "missing", Check.GET_EQUAL: "missing"},
    ),
    "documents are refused": (weaken(faults__refuses_class=PDF), WORK, {Check.STORE_DOCUMENT: "status-a700"}),
    "archive alters": (weaken(faults__alters=True), WORK, {Check.GET_EQUAL: "differs"}),
    "removal removes nothing": (
        weaken(faults__keeps_removed=True),
        WORK,
        {Check.OBJECTS_REMOVED: "remains-1", Check.NO_RESIDUE: "remains-1"},
    ),
    "clean-up certificate reads status": (
        weaken(lax__serves_status=True),
        RIGHTS,
        {Check.CONTROL_ROUTE_REFUSED: "http-200"},
    ),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_one_cause_turns_exactly_its_checks_red(world: World, cause: str) -> None:
    weakening, checks, expected = CAUSES[cause]
    weakening(world)
    result, _ = run_on(world, checks)
    red = {check: each.code for check, each in by_check(result).items() if each.outcome != "Passed"}
    assert red == expected
    assert not result.proves(EVERY)


def test_a_weak_second_replica_is_found_although_the_first_is_strict(world: World) -> None:
    world.weak.any_called = True
    world.weak_replica = 2
    result, rows = run_on(world, GATE)
    verdicts = {row.replica: row.verdict.outcome for row in rows if row.check is Check.WRONG_CALLED_AE_TITLE_REFUSED}
    assert verdicts == {1: "Passed", 2: "Failed"}
    assert by_check(result)[Check.WRONG_CALLED_AE_TITLE_REFUSED].outcome == "Failed"


def test_a_modalitys_certificate_that_opens_the_control_port_is_found(world: World) -> None:
    world.lax.trusts_peers_ca_pem = world.peers_ca.ca_pem
    result, _ = run_on(world, GATE)
    found = by_check(result)[Check.CONTROL_FOREIGN_REFUSED]
    assert (found.outcome, found.layer, found.code) == ("Failed", "control", "http-200")


@pytest.mark.parametrize(("answers", "outcome", "code"), [(3, "Passed", None), (200, "Failed", "rj-2-3-1")])
def test_an_archive_that_has_only_just_come_up_is_waited_for(
    world: World, answers: int, outcome: str, code: str | None
) -> None:
    world.weak.still_starting = answers
    config = world.start()
    bounds = config.bounds.model_copy(update={"settle_seconds": 3})
    with prepared(config.model_copy(update={"bounds": bounds})) as setting:
        (echo,) = Run(setting, frozenset({Check.ECHO})).go().checks
    assert (echo.outcome, echo.code) == (outcome, code)


def test_a_missing_replica_is_found(world: World) -> None:
    world.replicas = REPLICAS[:1]
    found = by_check(run_on(world, of(Group.AVAILABILITY))[0])[Check.GATE_REPLICAS]
    assert (found.outcome, found.layer, found.code) == ("Failed", "network", "replicas-1")


def test_objects_of_a_run_that_died_are_found_removed_and_told(world: World) -> None:
    with prepared(world.start()) as setting:
        leave_behind(world, "dead")
        found = by_check(Run(setting, WORK).go())[Check.NO_RESIDUE]
    assert (found.outcome, found.code) == ("Passed", "removed-earlier-1")
    assert world.archive.objects == {}


def test_residue_that_no_run_can_have_left_stays_and_is_told(world: World) -> None:
    with prepared(world.start()) as setting:
        leave_behind(world, "NOT/A/RUN")
        found = by_check(Run(setting, WORK).go())[Check.NO_RESIDUE]
    assert (found.outcome, found.code) == ("Failed", "remains-1")
    assert len(world.archive.objects) == 1


def leave_behind(world: World, run: str) -> None:
    dataset = ProbeObjects("dead", PROBE_PATIENT_PREFIX, PROBE_UID_ROOT).small()
    dataset.PatientID = PROBE_PATIENT_PREFIX + run
    world.archive.objects[dataset.SOPInstanceUID] = dataset


def test_a_gate_that_trusts_any_authority_is_found(world: World) -> None:
    with prepared(world.start()) as setting:
        world.weak.foreign_ca_pem = setting.foreign_ca_pem
        results = by_check(Run(setting, GATE).go())
    red = {check: each.code for check, each in results.items() if each.outcome != "Passed"}
    assert red == {Check.FOREIGN_CERTIFICATE_REFUSED: "accepted"}


def test_a_gate_that_takes_an_authority_for_its_name_is_found(world: World) -> None:
    with prepared(world.start()) as setting:
        world.weak.imitated_ca_pem = setting.imitated_ca_pem
        results = by_check(Run(setting, CERTIFICATES).go())
    red = {check: each.code for check, each in results.items() if each.outcome != "Passed"}
    assert red == dict.fromkeys((Check.IMITATED_AUTHORITY_REFUSED, Check.PADDED_CHAIN_REFUSED), "accepted")


def test_silent_associations_that_take_every_place_are_found(world: World) -> None:
    world.weak.places = 16
    found = by_check(run_on(world, frozenset({Check.SILENT_ASSOCIATIONS_HARMLESS}))[0])
    assert found[Check.SILENT_ASSOCIATIONS_HARMLESS].outcome == "Failed"
    assert found[Check.SILENT_ASSOCIATIONS_HARMLESS].twin == "Served"


@pytest.mark.parametrize("left", [-30, 1])
def test_a_certificate_is_used_once_its_life_is_over(world: World, left: int) -> None:
    world.leaf(world.peers_ca, "expired", PROBE_NAME, ForgedLeaf((ExtendedKeyUsageOID.CLIENT_AUTH,), seconds=left))
    found = by_check(run_on(world, frozenset({Check.EXPIRED_CERTIFICATE_REFUSED}))[0])
    assert found[Check.EXPIRED_CERTIFICATE_REFUSED].code == "alert-certificate-expired"


def test_a_certificate_that_lives_on_is_not_waited_for(world: World) -> None:
    world.leaf(world.peers_ca, "expired", PROBE_NAME, ForgedLeaf((ExtendedKeyUsageOID.CLIENT_AUTH,), seconds=600))
    found = by_check(run_on(world, frozenset({Check.EXPIRED_CERTIFICATE_REFUSED}))[0])
    assert found[Check.EXPIRED_CERTIFICATE_REFUSED].outcome == "NotRun"
    assert found[Check.EXPIRED_CERTIFICATE_REFUSED].code == "client-cannot"


def test_a_server_certificate_of_another_authority_proves_nothing(world: World) -> None:
    foreign = ForgedLeaf((ExtendedKeyUsageOID.SERVER_AUTH,))
    world.leaf(world.control_ca, "server-only", PROBE_NAME, foreign)
    found = by_check(run_on(world, frozenset({Check.SERVER_CERTIFICATE_REFUSED}))[0])
    assert found[Check.SERVER_CERTIFICATE_REFUSED].outcome == "NotRun"


@pytest.mark.parametrize("check", [Check.IDLE_CONNECTIONS_HARMLESS, Check.SLOW_REQUESTS_HARMLESS])
def test_a_listener_that_waits_for_each_caller_in_turn_is_found(world: World, check: Check) -> None:
    world.weak.one_at_a_time = True
    found = by_check(run_on(world, frozenset({check}))[0])[check]
    assert (found.outcome, found.twin) == ("Failed", "Served")
    assert found.code in ("timeout", "late", "closed", "reset")


def test_a_run_past_its_time_is_called_off_but_still_removes_its_objects(world: World) -> None:
    times = iter(range(0, 100_000, 30))
    with prepared(world.start()) as setting:
        leave_behind(world, setting.config.run)
        result = Run(setting, clock=lambda: float(next(times))).go()
    results = by_check(result)
    late = {check for check, each in results.items() if each.code == "out-of-time"}
    assert Check.PLAINTEXT_REFUSED in late
    assert all(results[check].outcome == "NotRun" for check in late)
    assert world.archive.objects == {}
    assert not result.proves(EVERY)


def test_the_runs_objects_are_searched_by_web_before_attacks_store_more(world: World) -> None:
    config = world.start()
    asked = frozenset({Check.WEB_QUERY, Check.PLAINTEXT_REFUSED})
    # No DICOMweb there: what is looked at is the order.
    with prepared(config.model_copy(update={"gate_web_port": config.gate_port})) as setting:
        run = Run(setting, asked)
        run.go()
    assert [row.check for row in run.rows] == [
        *[Check.WEB_QUERY] * len(REPLICAS),
        *[Check.PLAINTEXT_REFUSED] * len(REPLICAS),
    ]


def test_without_the_archive_nothing_is_passed_that_was_not_proven(world: World) -> None:
    config = world.start()
    for gate in world.gates:
        gate.close()
    result, _ = conform(config)
    passed = {Check(each.check) for each in result.checks if each.outcome == "Passed"}
    assert passed <= of(Group.NETWORK) | {
        Check.GATE_REPLICAS,
        Check.CONTROL_FOREIGN_REFUSED,
        Check.CONTROL_ROUTE_REFUSED,
    }
