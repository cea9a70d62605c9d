"""A shadow has the archive's release and configuration, and nothing that leads to the hospital or keeps data."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from pacs_operator.domain.archive import ArchiveSpec
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.peer import PeerSpec
from pacs_operator.domain.shadow import LABEL_SHADOW_OF, SUFFIX, NoShadowError, shadow_name, shadow_of, visitor_of

CIDR = "198.18.10.9/32"
EXAMPLE = Path(__file__).parents[2] / "examples" / "radiology.yaml"


@pytest.fixture
def archive() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    found["spec"] |= {
        "bootstrap": {"mode": "Adopt", "lineageID": "0" * 32},
        "dicomweb": {"nodePort": 30443, "limits": {"maxConcurrent": 7}},
        "deletionPolicy": "Delete",
        "deletion": {"confirmName": "radiology"},
        "retention": {"minimumYears": 10, "legalHold": True},
        "containment": {"mode": "Isolated", "reason": "suspected"},
    }
    found["spec"]["gate"]["service"]["annotations"] = {"lb.example/address": "198.18.0.77"}
    found["spec"]["dicom"] |= {
        "legacyPorts": {"first": 11112, "last": 11115, "firstNodePort": 31112},
        "staffedHours": {"schedule": "0 8-16 * * 1-5", "timeZone": "Europe/Zurich"},
    }
    return found


def test_release_and_configuration_are_the_archives(archive: dict[str, Any]) -> None:
    before = copy.deepcopy(archive)
    real, made = archive["spec"], shadow_of(archive, CIDR)["spec"]
    assert archive == before, "the archive's own manifest is not changed"
    for same in ("release", "encryption"):
        assert made[same] == real[same]
    for same in ("aeTitle", "accept", "staffedHours"):
        assert made["dicom"][same] == real["dicom"][same]
    assert made["dicomweb"] == {"limits": {"maxConcurrent": 7}}
    ArchiveSpec.model_validate(made)


def test_nothing_leads_to_the_hospital(archive: dict[str, Any]) -> None:
    made = shadow_of(archive, CIDR)["spec"]
    assert made["peers"]["allowedCIDRs"] == [CIDR]
    assert made["peers"]["namespaceSelector"] == {"matchLabels": {"pacs-operator.io/peers-of": "radiology-shadow"}}
    assert made["gate"] == {"service": {"type": "NodePort"}, "replicas": 1}
    assert made["dicom"]["legacyPorts"] == {"first": 11112, "last": 11115}


def test_an_index_elsewhere_is_not_used(archive: dict[str, Any]) -> None:
    archive["spec"]["database"] = {"mode": "External", "external": {"host": "db.example"}}
    assert shadow_of(archive, CIDR)["spec"]["database"] == {
        "mode": "Managed",
        "sizeGi": 5,
        "storageClassName": "hostpath",
    }


def test_others_authorities_vouch_for_nobody(archive: dict[str, Any]) -> None:
    archive["spec"]["peers"]["issuers"] = [{"name": "hospital"}]
    assert "issuers" not in shadow_of(archive, CIDR)["spec"]["peers"]


def test_nothing_keeps_it(archive: dict[str, Any]) -> None:
    made = shadow_of(archive, CIDR)["spec"]
    assert made.keys().isdisjoint({"bootstrap", "retention", "deletion", "deletionPolicy", "containment"})
    assert (made["storage"]["sizeGi"], made["database"]["sizeGi"]) == (5, 5)


def test_volumes_are_no_larger_than_the_archives(archive: dict[str, Any]) -> None:
    archive["spec"]["storage"]["sizeGi"] = 2
    assert shadow_of(archive, CIDR)["spec"]["storage"]["sizeGi"] == 2


def test_the_visitor_is_a_peer_that_the_shadow_takes(archive: dict[str, Any]) -> None:
    archive["spec"]["peers"]["maxRights"] = ["Echo"]
    namespace, peer = visitor_of(archive, CIDR)
    made = shadow_of(archive, CIDR)
    spec = PeerSpec.model_validate(peer["spec"])
    bounds = ArchiveSpec.model_validate(made["spec"]).peers
    assert spec.archive_ref.name == made["metadata"]["name"]
    assert bounds.namespace_selector.match_labels.items() <= namespace["metadata"]["labels"].items()
    assert peer["metadata"]["namespace"] == namespace["metadata"]["name"]
    assert set(spec.rights) <= set(bounds.max_rights)
    assert spec.source_cidrs == bounds.allowed_cidrs
    assert all(LABEL_SHADOW_OF in each["metadata"]["labels"] for each in (made, namespace, peer))


@pytest.mark.parametrize(("letters", "taken"), [(40 - len(SUFFIX), True), (41 - len(SUFFIX), False)])
def test_the_name_has_to_fit(archive: dict[str, Any], letters: int, taken: bool) -> None:
    archive["metadata"]["name"] = "r" * letters
    if taken:
        assert len(shadow_name(archive)) == 40
    else:
        with pytest.raises(NoShadowError, match="41 characters"):
            shadow_of(archive, CIDR)


def test_a_shadow_has_none_itself(archive: dict[str, Any]) -> None:
    with pytest.raises(NoShadowError, match="is a shadow itself"):
        shadow_of(shadow_of(archive, CIDR), CIDR)


def test_a_network_that_is_none_is_refused(archive: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpecError, match="allowedCIDRs"):
        shadow_of(archive, "everywhere")
