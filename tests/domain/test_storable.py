"""What may be stored: the archive's own lists, and what a spec makes of them."""

import pytest
from pydicom._uid_dict import UID_dictionary

from pacs_operator.domain.archive import ArchiveSpec
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.storable import SOP_CLASSES, TRANSFER_SYNTAXES, expand
from pacs_operator.domain.validation import parse
from tests.engine.world import archive_manifest

LEFT_OUT = {  # storage of what is no patient's
    "CT Defined Procedure Protocol Storage",
    "Color Palette Storage",
    "Generic Implant Template Storage",
    "Hanging Protocol Storage",
    "Implant Assembly Template Storage",
    "Implant Template Group Storage",
    "Inventory Storage",
    "Protocol Approval Storage",
    "XA Defined Procedure Protocol Storage",
}


def test_the_default_is_every_storage_class_of_the_standard_but_those_named() -> None:
    standard = {
        name: uid
        for uid, (name, kind, *_) in UID_dictionary.items()
        if kind == "SOP Class" and "Storage" in name and uid.startswith("1.2.840.10008.5.")
    }
    assert {name for name, uid in standard.items() if uid not in SOP_CLASSES} == LEFT_OUT
    assert len(set(SOP_CLASSES)) == len(SOP_CLASSES)


def test_the_default_leaves_out_what_unfolds_or_lies_elsewhere() -> None:
    names = {uid: UID_dictionary[uid][0] for uid in UID_dictionary if UID_dictionary[uid][1] == "Transfer Syntax"}
    left_out = {name for uid, name in names.items() if uid not in TRANSFER_SYNTAXES and "(Retired)" not in name}
    assert {name for name in left_out if "Deflate" in name or "JPIP" in name} == {
        name for name in names.values() if "Deflate" in name or "JPIP" in name
    }
    jpeg_xl = {f"1.2.840.10008.1.2.4.{end}" for end in (110, 111, 112)}  # newer than the dictionary
    assert set(TRANSFER_SYNTAXES) <= names.keys() | jpeg_xl


def test_default_stands_for_the_archives_own_list_and_each_uid_stands_once() -> None:
    assert expand(["1.2.10", "1.2.9", "1.2.10"], SOP_CLASSES) == ["1.2.9", "1.2.10"]
    assert expand(["Default", "1.2.9", SOP_CLASSES[0]], SOP_CLASSES) == ["1.2.9", *SOP_CLASSES]


@pytest.mark.parametrize(
    ("accept", "words"),
    [
        ({"transferSyntaxes": ["1.2.840.10008.1.2.1"]}, "spec.dicom.accept.transferSyntaxes: 1.2.840.10008.1.2 is"),
        ({"sopClasses": ["CT"]}, "spec.dicom.accept.sopClasses"),
        ({"sopClasses": []}, "spec.dicom.accept.sopClasses"),
        ({"sopClass": ["1.2.3"]}, "spec.dicom.accept.sopClass: unknown field"),
    ],
)
def test_a_wrong_list_is_refused_with_the_way_out(accept: dict, words: str) -> None:
    good = {"sopClasses": ["1.2.3"], "transferSyntaxes": ["1.2.840.10008.1.2"]}
    spec = archive_manifest()["spec"]
    assert parse(ArchiveSpec, {**spec, "dicom": {"aeTitle": "A", "accept": good}}, "spec").dicom.accept.sop_classes
    with pytest.raises(InvalidSpecError, match=words):
        parse(ArchiveSpec, {**spec, "dicom": {"aeTitle": "A", "accept": accept}}, "spec")
