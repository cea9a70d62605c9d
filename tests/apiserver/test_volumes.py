"""Volumes that grow, on a real API server: what it lets be resized, and which sizes a PacsArchive may take back."""

from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiException

from .test_bad_input import changed

WHERE = ("pacs-operator.io", "v1alpha1", "pacsarchives")
SPACE = "volumes"


@pytest.fixture(scope="module")
def core(api: client.ApiClient) -> Iterator[client.CoreV1Api]:
    core, storage = client.CoreV1Api(api), client.StorageV1Api(api)
    core.create_namespace(client.V1Namespace(metadata={"name": SPACE}))
    for name, expands in (("grows", True), ("fixed", False)):
        made: Any = {"metadata": {"name": name}, "provisioner": "example.org/none", "allowVolumeExpansion": expands}
        storage.create_storage_class(made)
    yield core
    core.delete_namespace(SPACE)
    for name in ("grows", "fixed"):
        storage.delete_storage_class(name)


def claim(core: client.CoreV1Api, name: str, storage_class: str, *, bound: bool = True, has: str = "20Gi") -> None:
    """Make a claim of 20 GiB; bound to a volume as a provisioner and the controller do it."""
    spec: Any = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "20Gi"}},
        "storageClassName": storage_class,
    }
    body: Any = {"metadata": {"name": name}, "spec": spec}
    core.create_namespaced_persistent_volume_claim(SPACE, body)
    if bound:
        core.patch_namespaced_persistent_volume_claim(name, SPACE, {"spec": {"volumeName": f"pv-{name}"}})
        status = {"status": {"phase": "Bound", "capacity": {"storage": has}, "accessModes": ["ReadWriteOnce"]}}
        core.patch_namespaced_persistent_volume_claim_status(name, SPACE, status)


def resize(core: client.CoreV1Api, name: str, size: str) -> str:
    """Ask for another size; empty when that was taken, else what the server said."""
    try:
        core.patch_namespaced_persistent_volume_claim(
            name, SPACE, {"spec": {"resources": {"requests": {"storage": size}}}}
        )
    except ApiException as error:
        return str(error.body)
    return ""


def test_what_the_operator_holds_back_the_server_would_refuse(core: client.CoreV1Api) -> None:
    claim(core, "bound", "grows")
    claim(core, "of-fixed-size", "fixed")
    claim(core, "unbound", "grows", bound=False)
    assert resize(core, "bound", "40Gi") == ""
    assert "storageclass that provisions the pvc must support resize" in resize(core, "of-fixed-size", "40Gi")
    assert "immutable" in resize(core, "unbound", "40Gi")


def test_a_growth_that_failed_goes_back_to_more_than_the_volume_has(core: client.CoreV1Api) -> None:
    claim(core, "failed", "grows")
    assert resize(core, "failed", "4000Gi") == ""
    assert "can not be less than status.capacity" in resize(core, "failed", "20Gi")
    assert resize(core, "failed", "21Gi") == ""


@pytest.mark.parametrize(
    ("volumes", "size", "taken"),
    [
        (None, 99, False),  # nothing is known of the claims
        ([{"name": "images", "requestedGi": 100, "capacityGi": 20}], 30, True),
        ([{"name": "images", "requestedGi": 100, "capacityGi": 20}], 20, False),
        ([{"name": "images", "requestedGi": 20, "capacityGi": 20}], 20, True),  # never asked of the cluster
        ([{"name": "images", "requestedGi": 100, "capacityGi": 100}], 99, False),
        ([{"name": "images", "requestedGi": 100}], 99, False),
        ([{"name": "database", "requestedGi": 20, "capacityGi": 20}], 30, False),  # another volume's
    ],
)
def test_only_a_growth_that_did_not_come_about_is_taken_back(
    crds: client.CustomObjectsApi, archive: dict[str, Any], volumes: list[Any] | None, size: int, taken: bool
) -> None:
    created: Any = crds.create_cluster_custom_object(*WHERE, changed(archive, "spec.storage.sizeGi", 100))
    try:
        if volumes is not None:
            told = {**created, "status": {"volumes": volumes}}
            created = crds.replace_cluster_custom_object_status(*WHERE, "radiology", told)
        smaller = changed(created, "spec.storage.sizeGi", size)
        if taken:
            crds.replace_cluster_custom_object(*WHERE, "radiology", smaller, dry_run="All")
            return
        with pytest.raises(ApiException) as caught:
            crds.replace_cluster_custom_object(*WHERE, "radiology", smaller, dry_run="All")
        assert "spec.storage.sizeGi: less than before; volumes only grow" in str(caught.value.body)
    finally:
        crds.delete_cluster_custom_object(*WHERE, "radiology")
