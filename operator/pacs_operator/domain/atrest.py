"""What a StorageClass says of encryption at rest: what it asks its storage for, which proves nothing."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from pacs_operator.domain.model import Model

#: Switches, as the drivers of Amazon EBS, Ceph RBD, Longhorn and others have them.
_SWITCHES = frozenset({"encrypted", "encryption"})
#: Parameters that name a key or its keeper: EBS ``kmsKeyId``, Ceph ``encryptionKMSID``, GCE
#: ``disk-encryption-kms-key``, Azure ``diskEncryptionSetID``.
_KEYS = frozenset({"kmskeyid", "encryptionkmsid", "diskencryptionkmskey", "diskencryptionsetid"})
_ON, _OFF = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off"})

Observed = Literal["AskedFor", "NotAskedFor", "NothingSaid", "NotObservable"]


class IndexAtRest(Model):
    """The index at rest: what somebody declared, and what can be seen without privileges; never that it is so."""

    declared: Literal["StorageClass", "None", "Nothing"]
    observed: Observed
    storage_class: Annotated[str, Field(max_length=253)] | None = None
    provisioner: Annotated[str, Field(max_length=253)] | None = None


def observed(parameters: Mapping[str, str]) -> Observed:
    """Return what the parameters of a StorageClass ask for.

    A switch decides; without one, the name of a key does. Others may encrypt unasked, which is not seen.

    Parameters
    ----------
    parameters
        ``parameters`` of a ``storage.k8s.io/v1`` StorageClass.
    """
    known = {name.rpartition("/")[2].lower().replace("-", ""): value.strip() for name, value in parameters.items()}
    switches = {known[name].lower() for name in _SWITCHES & known.keys()}
    if switches & _OFF:
        return "NotAskedFor"
    if switches & _ON or any(known[name] for name in _KEYS & known.keys()):
        return "AskedFor"
    return "NothingSaid"
