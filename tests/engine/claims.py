"""Volume claims and node ports as a cluster treats them: given only where the API server lets them be."""

from typing import TYPE_CHECKING

from pacs_operator.kube.diff import smaller
from pacs_operator.kube.errors import ApiForbiddenError, ApiInvalidError
from pacs_operator.kube.port import Manifest

if TYPE_CHECKING:
    from tests.engine.simapi import Key, SimulatedApi


def requested(claim: Manifest) -> str:
    return str(((claim.get("spec") or {}).get("resources") or {}).get("requests", {}).get("storage", "0"))


def check_resize(api: "SimulatedApi", before: Manifest, after: Manifest) -> None:
    """Refuse what the API server refuses (validation, and the admission plugin PersistentVolumeClaimResize)."""
    old, new, status = requested(before), requested(after), before.get("status") or {}
    if old == new:
        return
    if status.get("phase") != "Bound":
        raise ApiInvalidError("spec is immutable after creation except for bound claims", action="none")
    if smaller(new, old) and not smaller(status["capacity"]["storage"], new):
        raise ApiInvalidError("field can not be less than status.capacity", action="none")
    storage_class = api.objects.get(("StorageClass", "", before["spec"]["storageClassName"])) or {}
    if smaller(old, new) and storage_class.get("allowVolumeExpansion") is not True:
        raise ApiForbiddenError("only dynamically provisioned pvc can be resized and the storageclass ...", action="no")


def check_service(api: "SimulatedApi", service: Manifest) -> None:
    """Refuse a Service in the API server's words (tests/apiserver/test_exposure.py asks a real one for them)."""
    for index, port in enumerate(service["spec"].get("ports") or []):
        words = api.refused_ports.get(port.get("nodePort") or 0)
        if words:
            where = f"spec.ports[{index}].nodePort: Invalid value: {port['nodePort']}"
            name = service["metadata"]["name"]
            raise ApiInvalidError(f'Service "{name}" is invalid: {where}: {words}', action="none")


def settle(api: "SimulatedApi", key: "Key", resizes: str) -> None:
    """Bind a claim, and resize its volume: ``works``, or the condition at which it stays."""
    claim = api.objects[key]
    wanted, status = requested(claim), claim.get("status") or {}
    have = (status.get("capacity") or {}).get("storage")
    if resizes == "unbound":
        return
    if have is None or resizes == "works" or not smaller(have, wanted):
        api.set_status(key, {"phase": "Bound", "capacity": {"storage": wanted}})
        return
    standing = [{"type": resizes, "status": "True"}]
    api.set_status(key, {"phase": "Bound", "capacity": {"storage": have}, "conditions": standing})
