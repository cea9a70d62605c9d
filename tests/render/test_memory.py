"""Orthanc's memory follows from the largest object, and the largest object from nothing else."""

import json
from dataclasses import replace
from typing import Any

import pytest

from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.facts import Importing
from pacs_operator.domain.importing import ImportSpec
from pacs_operator.render import render_archive
from tests.render.archives import SPEC, config_data, containers, desired, pod_templates


def of(storage: dict[str, Any], **orthanc: int) -> tuple[str, object]:
    """Return the memory limit, and the largest object that Orthanc's plugin takes."""
    spec: dict[str, Any] = {"storage": SPEC["storage"] | storage}
    if orthanc:
        spec["scheduling"] = {"orthanc": {"memoryMi": orthanc["memory_mi"]}}
    manifests = render_archive(desired(spec))
    pods = [pod for workload, pod in pod_templates(manifests) if workload["metadata"]["name"] == "orthanc"]
    (container,) = [one for one in containers(pods[0]) if one["name"] == "orthanc"]
    section = json.loads(config_data(manifests, "orthanc")["orthanc.json"])["PacsArchive"]
    return container["resources"]["limits"]["memory"], section.get("MaxObjectBytes")


@pytest.mark.parametrize(
    ("storage", "orthanc", "expected"),
    [
        ({}, {}, ("2Gi", None)),
        ({"maxObjectMi": 471}, {}, ("2Gi", 471 * 2**20)),
        ({"maxObjectMi": 472}, {}, ("2052Mi", 472 * 2**20)),
        ({"maxObjectMi": 1024, "maxObjectSenders": 3}, {}, ("12452Mi", 2**30)),
        ({"maxObjectMi": 1024}, {"memory_mi": 8000}, ("8000Mi", 2**30)),
        ({}, {"memory_mi": 3000}, ("3000Mi", None)),
    ],
)
def test_the_limit_holds_the_largest_objects_at_once(
    storage: dict[str, Any], orthanc: dict[str, int], expected: tuple[str, object]
) -> None:
    assert of(storage, **orthanc) == expected


def test_a_limit_that_cannot_hold_them_is_refused() -> None:
    large = {"maxObjectMi": 500, "maxObjectSenders": 2}
    with pytest.raises(InvalidSpecError, match=r"4163 holds less than .* = 4164"):
        of(large, memory_mi=4163)
    assert of(large, memory_mi=4164)[0] == "4164Mi"


def test_senders_without_a_size_say_nothing() -> None:
    with pytest.raises(InvalidSpecError, match="maxObjectSenders"):
        of({"maxObjectSenders": 2})


@pytest.mark.parametrize(
    ("storage", "associations", "expected"),
    [
        ({}, 4, "1536Mi"),
        ({"maxObjectMi": 359}, 1, "1536Mi"),
        ({"maxObjectMi": 360}, 1, "1540Mi"),
        ({"maxObjectMi": 360}, 4, "5860Mi"),
    ],
)
def test_an_import_has_memory_for_the_largest_object_of_each_association(
    storage: dict[str, Any], associations: int, expected: str
) -> None:
    source = {
        "address": "198.18.50.1", "port": 104, "calledAETitle": "A", "callingAETitle": "B",
        "tls": {"mode": "Plaintext", "reason": "the old archive speaks no TLS"},
    }  # fmt: skip
    spec = {"archiveRef": {"name": "radiology"}, "source": source, "rateLimit": {"associations": associations}}
    importing = Importing("old-pacs", "u1", ImportSpec.model_validate(spec), "i1")
    manifests = render_archive(replace(desired({"storage": SPEC["storage"] | storage}), importing=importing))
    pods = [pod for workload, pod in pod_templates(manifests) if workload["metadata"]["name"] == "import-i1"]
    (container,) = [one for one in containers(pods[0]) if one["name"] == "importer"]
    assert container["resources"]["limits"]["memory"] == expected
