"""What a run tries with pynetdicom, tried with DCMTK too, on the real gate and Orthanc: both are told the same."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydicom import Dataset

from pacs_operator.domain.checkcatalog import SECOND_STACK
from pacs_operator.domain.checks import Check
from pacs_operator.probes.gatechecks import NOBODY, other_case
from pacs_operator.probes.objects import ProbeObject, ProbeObjects, unreserved
from pacs_operator.probes.run import STORES, Run
from pacs_operator.probes.setting import Setting
from pacs_operator.probes.tls import Credentials
from pacs_operator.probes.verdict import Verdict
from pacs_operator.probes.wire import Endpoint
from tests.gate.test_probed import probed

from .conftest import Image
from .dcmtk import Call, Programs, Said
from .hospital import running_hospital

_CBC = ("+pa", "+cs", "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "+cs", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256")


@dataclass
class Stage:
    """The archive, what pynetdicom found there, and DCMTK's programs beside it."""

    setting: Setting
    gate: Endpoint
    found: dict[Check, Verdict]
    programs: Programs
    objects: ProbeObjects
    sent: list[ProbeObject]

    @property
    def good(self) -> Call:
        return Call(self.setting.config.peer.ae_title, self.setting.peer)

    @property
    def store_only(self) -> Call:
        return Call(self.setting.config.store_only.ae_title, self.setting.store_only)

    def echo(self, call: Call) -> Said:
        return self.run("echoscu", call)

    def run(self, program: str, call: Call, *more: str) -> Said:
        return self.programs.run(program, self.gate, call, self.setting.gate_trust.ca_pem, *more)

    def weak(self, call: Call) -> Said:
        weak = self.setting.weak
        to = weak.plaintext if call.plaintext else weak.secured
        return self.programs.run("echoscu", to, call, self.setting.weak_trust.ca_pem)

    def store(self, call: Call, *datasets: Dataset, profile: tuple[str, ...] = ("-R",)) -> Said:
        return self.run("storescu", call, *profile, "--", *self.programs.write(*datasets))

    def find(self, call: Call, model: str, level: str, keyword: str, **keys: str) -> tuple[Said, list[str]]:
        asked = [f"QueryRetrieveLevel={level}", *([] if keyword in keys else [keyword])]
        asked += [f"{key}={value}" for key, value in keys.items()]
        into = self.programs.arriving()
        arguments = [word for key in asked for word in ("-k", key)]
        said = self.run("findscu", call, model, "-X", "-od", str(into), *arguments)
        return said, [str(each[keyword].value) for each in self.programs.arrived()]


@pytest.fixture(scope="module")
def stage(image: Callable[[str], Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with running_hospital(image("archive"), tmp_path_factory.mktemp("second")) as hospital:
        folder = tmp_path_factory.mktemp("dcmtk")
        with probed(hospital.gate.site, hospital.gate, folder / "tls") as (setting, replica):
            # As DCMTK is asked: by address.
            config = setting.config.model_copy(update={"gate_host": "127.0.0.1"})
            run = Run(replace(setting, config=config), TRIED)
            run.go()
            found = {row.check: row.verdict for row in run.rows}
            objects = ProbeObjects("second", config.patient_prefix, config.uid_root)
            stage = Stage(setting, replica, found, Programs(folder), objects, objects.all())
            for check in STORES:
                stored(stage, check)
            yield stage


def shown(stage: Stage, credentials: Credentials | None) -> Call:
    """Return a call by TLS 1.2, where the alert comes before the request: of TLS 1.3's, DCMTK tells only the end."""
    return replace(stage.good, credentials=credentials, newest="TLSv1.2")


# Not TLS 1.1: DCMTK's profiles decide on the version by themselves.
ATTACKS: dict[Check, Callable[[Stage], Call]] = {
    Check.PLAINTEXT_REFUSED: lambda stage: replace(stage.good, plaintext=True),
    Check.STATIC_RSA_REFUSED: lambda stage: replace(stage.good, newest="TLSv1.2", profile=("+pa",)),
    Check.CBC_SUITES_REFUSED: lambda stage: replace(stage.good, newest="TLSv1.2", profile=_CBC),
    Check.NO_CERTIFICATE_REFUSED: lambda stage: shown(stage, None),
    Check.FOREIGN_CERTIFICATE_REFUSED: lambda stage: shown(stage, stage.setting.foreign),
    Check.IMITATED_AUTHORITY_REFUSED: lambda stage: shown(stage, stage.setting.imitated),
    Check.PADDED_CHAIN_REFUSED: lambda stage: shown(stage, stage.setting.padded),
    Check.SERVER_CERTIFICATE_REFUSED: lambda stage: shown(stage, stage.setting.server_only),
    Check.EXPIRED_CERTIFICATE_REFUSED: lambda stage: shown(stage, stage.setting.expired),
    Check.BORROWED_AE_TITLE_REFUSED: lambda stage: replace(stage.good, calling=stage.store_only.calling),
    Check.UNKNOWN_AE_TITLE_REFUSED: lambda stage: replace(stage.good, calling=NOBODY),
    Check.WRONG_CALLED_AE_TITLE_REFUSED: lambda stage: replace(stage.good, called=NOBODY),
    Check.CALLED_AE_TITLE_CASE_REFUSED: lambda stage: replace(stage.good, called=other_case(stage.good.called)),
}
FINDS = {
    Check.FIND_PATIENT: ("-P", "PATIENT", "PatientID"),
    Check.FIND_STUDY: ("-S", "STUDY", "StudyInstanceUID"),
    Check.FIND_SERIES: ("-S", "SERIES", "SeriesInstanceUID"),
    Check.FIND_IMAGE: ("-S", "IMAGE", "SOPInstanceUID"),
}
UNGRANTED: dict[Check, Callable[[Stage, Call], Said]] = {
    Check.UNGRANTED_ECHO_REFUSED: lambda stage, call: stage.echo(call),
    Check.UNGRANTED_FIND_REFUSED: lambda stage, call: stage.find(
        call, "-S", "STUDY", "StudyInstanceUID", PatientID=stage.objects.patient_id
    )[0],
}
UNLISTED = (Check.UNLISTED_SOP_CLASS_REFUSED, Check.UNLISTED_TRANSFER_SYNTAX_REFUSED)
OTHERS = (Check.ECHO, Check.PROBE_CONFINED, Check.DIFFERING_DUPLICATE_REFUSED)
# Not C-GET: Debian's getscu speaks no TLS.
TRIED = frozenset({*ATTACKS, *STORES, *FINDS, *UNGRANTED, *UNLISTED, *OTHERS})


def stored(stage: Stage, check: Check) -> None:
    mine = [each.dataset for each in stage.sent if each.check is check]
    profile = ("-R", "-xr") if check is Check.STORE_COMPRESSED else ("-R",)
    said = stage.store(stage.good, *mine, profile=profile)
    assert said.statuses == [0] * len(mine), said.text


def test_the_catalog_says_which_rows_have_two_stacks() -> None:
    assert TRIED == SECOND_STACK


def test_the_first_stack_finds_nothing_wrong(stage: Stage) -> None:
    """The stores of the second one were good before any test began."""
    assert {check: each for check, each in stage.found.items() if each.outcome != "Passed"} == {}
    assert set(stage.found) == TRIED


@pytest.mark.parametrize("check", ATTACKS)
def test_an_attack_is_refused_by_the_same_word(stage: Stage, check: Check) -> None:
    call = ATTACKS[check](stage)
    if check is not Check.SERVER_CERTIFICATE_REFUSED:  # no server takes one from a client, however weak
        assert stage.weak(call).associated
    said, twin = stage.echo(call), stage.echo(replace(stage.good, newest=call.newest))
    assert not said.associated
    assert twin.served, twin.text
    if check is Check.NO_CERTIFICATE_REFUSED:  # TLS 1.2 has no alert of its own for that
        assert said.code == "alert-handshake-failure", said.text
    elif check is not Check.PLAINTEXT_REFUSED:  # an end of the connection, which each stack tells in its own way
        assert said.code == stage.found[check].code, said.text


def test_an_echo_is_answered(stage: Stage) -> None:
    assert stage.echo(stage.good).served


@pytest.mark.parametrize("check", FINDS)
def test_what_was_stored_is_found(stage: Stage, check: Check) -> None:
    model, level, keyword = FINDS[check]
    study, first = str(stage.objects.study_uid), stage.sent[0].dataset
    keys = {"PatientID": stage.objects.patient_id} if level in ("PATIENT", "STUDY") else {"StudyInstanceUID": study}
    sent = [each.dataset for each in stage.sent]
    if level == "IMAGE":
        keys["SeriesInstanceUID"] = str(first.SeriesInstanceUID)
        sent = [each for each in sent if each.SeriesInstanceUID == first.SeriesInstanceUID]
    said, found = stage.find(stage.good, model, level, keyword, **keys)
    assert said.served, said.text
    assert sorted(found) == sorted({str(each[keyword].value) for each in sent})


@pytest.mark.parametrize("check", UNGRANTED)
def test_a_peer_that_may_only_store_gets_no_more(stage: Stage, check: Check) -> None:
    act = UNGRANTED[check]
    said = act(stage, stage.store_only)
    assert said.associated
    assert said.code == stage.found[check].code, said.text
    assert act(stage, stage.good).served
    assert stage.store(stage.store_only, stage.objects.small()).statuses == [0]


def test_the_probe_stores_nobody_else(stage: Stage) -> None:
    inside = stage.objects.small()
    said = stage.store(stage.good, unreserved(inside, "UNRESERVED-1"))
    assert said.code == stage.found[Check.PROBE_CONFINED].code, said.text
    assert stage.store(stage.good, inside).served


def test_another_image_under_the_same_uid_is_refused(stage: Stage) -> None:
    original = stage.objects.small()
    other = copy.deepcopy(original)
    other.SeriesDescription = "another"
    assert [stage.store(stage.good, original).served for _ in range(2)] == [True, True]
    said = stage.store(stage.good, other)
    assert said.code == stage.found[Check.DIFFERING_DUPLICATE_REFUSED].code, said.text


@pytest.mark.parametrize("check", UNLISTED)
def test_what_is_on_no_list_is_refused_beside_what_is(stage: Stage, check: Check, tmp_path: Path) -> None:
    invented = f"{stage.setting.config.uid_root}.0"
    attack = f"{invented}\\Good" if check is Check.UNLISTED_SOP_CLASS_REFUSED else "CTImageStorage\\Bad"
    profile = tmp_path / "profile.cfg"
    profile.write_text(
        "[[TransferSyntaxes]]\n[Good]\nTransferSyntax1 = LittleEndianExplicit\n"
        f"[Bad]\nTransferSyntax1 = {invented}\n"
        "[[PresentationContexts]]\n[Both]\nPresentationContext1 = CTImageStorage\\Good\n"
        f"PresentationContext2 = {attack}\n"
        "[[Profiles]]\n[Both]\nPresentationContexts = Both\n"
    )
    said = stage.store(stage.good, stage.sent[0].dataset, profile=("-xf", str(profile), "Both"))
    assert said.contexts == [True, False], said.text
    assert said.served
