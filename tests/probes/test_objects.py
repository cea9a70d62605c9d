"""Synthetic objects stay in the reserved range, and comparison sees every difference but the listed ones."""

import copy
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless

from pacs_operator.domain.checkcatalog import CHECKS, NETWORK_CHECKS
from pacs_operator.domain.checks import Check, Group
from pacs_operator.domain.names import PROBE_PATIENT_PREFIX, PROBE_UID_ROOT
from pacs_operator.probes.compare import decode, differences, encode
from pacs_operator.probes.objects import ProbeObjects, unreserved

RUNS = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=20)


def made(run: str = "r1") -> ProbeObjects:
    return ProbeObjects(run, PROBE_PATIENT_PREFIX, PROBE_UID_ROOT)


@settings(deadline=None, max_examples=25)
@given(RUNS)
def test_every_identifier_is_reserved_and_valid(run: str) -> None:
    objects = made(run)
    for each in objects.all():
        assert each.dataset.PatientID == PROBE_PATIENT_PREFIX + run
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
            uid = UID(each.dataset[keyword].value)
            assert uid.startswith(PROBE_UID_ROOT + ".")
            assert uid.is_valid


@settings(deadline=None, max_examples=25)
@given(RUNS, RUNS)
def test_two_runs_share_no_object(one: str, other: str) -> None:
    mine, theirs = ({each.uid for each in made(run).all()} for run in (one, other))
    assert mine == theirs if one == other else mine.isdisjoint(theirs)


def test_only_the_patient_differs_in_the_unreserved_object() -> None:
    inside = made().small()
    outside = unreserved(inside, "SOMEBODY")
    assert [each.path for each in differences(inside, outside)] == ["(0010,0020) PatientID"]
    assert inside.PatientID.startswith(PROBE_PATIENT_PREFIX)


def test_objects_are_made_without_numpy() -> None:
    """The image of the probes carries none."""
    program = (
        "import sys; sys.modules['numpy'] = None\n"
        "from pacs_operator.probes.objects import ProbeObjects\n"
        "print(len(ProbeObjects('r1', 'P-', '2.25.1').all()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 10


@pytest.mark.parametrize("number", range(len(made().all())))
def test_encoding_and_decoding_changes_nothing(number: int) -> None:
    each = made().all()[number]
    assert differences(each.dataset, decode(encode(each.dataset, each.transfer_syntax), each.transfer_syntax)) == []


def received(dataset: Dataset, syntax: UID = ExplicitVRLittleEndian) -> Dataset:
    return decode(encode(dataset, syntax), syntax)


def test_every_single_change_is_seen() -> None:
    sent = received(made().all()[0].dataset)
    for tag in list(sent.keys()):
        back = copy.deepcopy(sent)
        del back[tag]
        assert len(differences(sent, back)) == 1
        assert [each.what for each in differences(back, sent)] == ["was added"]


def test_a_flipped_bit_of_pixels_is_seen() -> None:
    each = next(each for each in made().all() if each.transfer_syntax == RLELossless)
    back = copy.deepcopy(each.dataset)
    back.PixelData = back.PixelData[:-20] + bytes([back.PixelData[-20] ^ 1]) + back.PixelData[-19:]
    found = differences(received(each.dataset, RLELossless), received(back, RLELossless))
    assert [str(each) for each in found] == ["(7FE0,0010) PixelData has another value"]


def test_a_change_deep_inside_is_named_by_its_path_and_no_value_is_told() -> None:
    report = next(each.dataset for each in made().all() if each.check is Check.STORE_REPORT)
    back = copy.deepcopy(report)
    back.ContentSequence[0].TextValue = "secret finding"
    (found,) = differences(report, back)
    assert str(found) == "(0040,A730) ContentSequence[1] (0040,A160) TextValue has another value"


def test_what_may_differ_is_not_told() -> None:
    sent = received(made().small())
    back = copy.deepcopy(sent)
    back.add_new(0x00080000, "UL", 4)
    back.add_new(0xFFFCFFFC, "OB", b"\0\0")
    assert differences(sent, back) == []


def test_pixel_data_may_change_only_its_name_from_ow_to_ob() -> None:
    each = next(each for each in made().all() if each.transfer_syntax == RLELossless)
    encoded = encode(each.dataset, RLELossless)
    as_word = encoded.replace(b"\xe0\x7f\x10\x00OB", b"\xe0\x7f\x10\x00OW")
    assert as_word != encoded
    assert differences(decode(as_word, RLELossless), decode(encoded, RLELossless)) == []
    assert len(differences(decode(encoded, RLELossless), decode(as_word, RLELossless))) == 1


def test_the_catalog_says_of_every_check_what_it_is() -> None:
    assert set(CHECKS) == set(Check)
    assert {
        Check.ORTHANC_UNREACHABLE,
        Check.POSTGRES_UNREACHABLE,
        Check.OUTBOUND_GATE_UNREACHABLE,
        Check.LEGACY_PORTS_CLOSED,
    } == NETWORK_CHECKS
    positive = (Group.SERVICE, Group.CLEANUP)
    for check, info in CHECKS.items():
        assert info.title and info.threat
        assert (info.twin is not None) == (info.group not in positive and check is not Check.GATE_REPLICAS), check
