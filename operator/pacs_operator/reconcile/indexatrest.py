"""Whether the index lies encrypted: declared by somebody, and beside it what its StorageClass asks for."""

from pacs_operator.domain.archive import ArchiveSpec
from pacs_operator.domain.atrest import IndexAtRest, observed
from pacs_operator.domain.status import EncryptionStatus
from pacs_operator.kube.port import Manifest
from pacs_operator.reconcile.context import Pass


def report(run: Pass) -> None:
    """Set ``status.encryption.index``; after what is known of the images."""
    if run.archive is None:
        return
    known = run.status.encryption or EncryptionStatus()
    name = run.archive.spec.database.storage_class_name
    index = _at_rest(run.archive.spec, name, run.storage_classes.get(name) if name else None)
    run.status = run.status.model_copy(update={"encryption": known.model_copy(update={"index": index})})


def _at_rest(spec: ArchiveSpec, name: str | None, found: Manifest | None) -> IndexAtRest:
    declared = spec.encryption.index.mode if spec.encryption.index else "Nothing"
    if found is None:  # an external database, whose disks nobody here can see
        return IndexAtRest(declared=declared, observed="NotObservable", storage_class=name)
    return IndexAtRest(
        declared=declared,
        observed=observed(found.get("parameters") or {}),
        storage_class=name,
        provisioner=str(found.get("provisioner") or "") or None,
    )
