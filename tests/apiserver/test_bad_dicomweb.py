"""`spec.dicomweb` that the API server itself refuses, each beside what it takes."""

import pytest
from kubernetes.client import CustomObjectsApi

from .test_bad_input import changed, put, refusal


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ({"nodePort": 70000}, "nodePort"),
        ({"limits": {"maxBodyMi": 0}}, "maxBodyMi"),
        ({"limits": {"requestsPerMinute": 60001}}, "requestsPerMinute"),
        ({"limits": {"maxConcurrent": 257}}, "maxConcurrent"),
    ],
)
def test_dicomweb_beyond_its_limits_is_refused(crds: CustomObjectsApi, archive: dict, value: dict, word: str) -> None:
    whole = {"maxBodyMi": 16384, "requestsPerMinute": 60000, "maxConcurrent": 256}
    for good in ({}, {"nodePort": 30443}, {"limits": whole}):
        put(crds, changed(archive, "spec.dicomweb", good))
    assert word in refusal(crds, changed(archive, "spec.dicomweb", value))


def test_ports_of_dicomweb_that_are_taken_are_refused(crds: CustomObjectsApi, archive: dict) -> None:
    fixed = changed(archive, "spec.gate.service.nodePort", 30762)
    assert "spec.dicomweb.nodePort" in refusal(crds, changed(fixed, "spec.dicomweb", {"nodePort": 30762}))
    put(crds, changed(fixed, "spec.dicomweb", {"nodePort": 30443}))
    hours = {"schedule": "0 8-16 * * 1-5", "timeZone": "Europe/Zurich"}
    dicom = archive["spec"]["dicom"] | {"legacyPorts": {"first": 4440, "last": 4445}, "staffedHours": hours}
    put(crds, changed(archive, "spec.dicom", dicom))
    both = changed(changed(archive, "spec.dicom", dicom), "spec.dicomweb", {})
    assert "spec.dicom.legacyPorts" in refusal(crds, both)
