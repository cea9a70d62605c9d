"""What the cluster does with the Job of an import's slice: its pod works until a test says how it ends."""

from typing import TYPE_CHECKING, Any

from pacs_operator.domain import names
from pacs_operator.domain.importing import SliceResult
from pacs_operator.kube.port import Manifest
from tests.engine.simapi import Key

if TYPE_CHECKING:
    from tests.engine.world import World

PLAINTEXT = {"mode": "Plaintext", "reason": "the old archive speaks no TLS"}


def import_manifest(name: str = "old-pacs", *, archive: str = "radiology", **spec: Any) -> Manifest:
    source = {
        "address": "198.18.10.30", "port": 11112, "calledAETitle": "OLDPACS", "callingAETitle": "PACSIMPORT",
        "tls": PLAINTEXT, **spec.pop("source", {}),
    }  # fmt: skip
    return {
        "apiVersion": names.API_VERSION,
        "kind": "PacsImport",
        "metadata": {"name": name, "namespace": "radiology-ops"},
        "spec": {"archiveRef": {"name": archive}, "source": source, **spec},
    }


def run_slice(world: "World", key: Key, job: Manifest) -> None:
    """Let a pod run; end it by the next of ``world.slices``, or let it work on."""
    if (job.get("status") or {}).get("conditions"):
        return
    pod: Key = ("Pod", key[1], f"{key[2]}-x")
    world._pod(pod[2], key, job["spec"]["template"], {"phase": "Running"})
    if not world.slices:
        return
    end = world.slices.pop(0)
    run = key[2].removeprefix("import-")
    world.slices_run.append(run)
    terminated: dict[str, Any] = {"reason": "Completed"}
    if isinstance(end, str):
        terminated = {"reason": end}
    else:
        terminated["message"] = SliceResult.model_validate({"run": run, **end}).to_message()
    world.api.set_status(
        pod, {"phase": "Succeeded", "containerStatuses": [{"name": "importer", "state": {"terminated": terminated}}]}
    )
    kind = "Failed" if isinstance(end, str) else "Complete"
    condition = {"type": kind, "status": "True", "lastTransitionTime": world.api.now}
    world.api.set_status(key, {"conditions": [condition]})
