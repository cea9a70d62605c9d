"""How large the largest object is, and the memory that follows from it."""

from typing import Annotated

from pydantic import Field

from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.model import Model

MEMORY_COPIES = 4  # of an object while it is stored, measured with Orthanc 1.13.0
MEMORY_BASE_MI = 164  # Orthanc itself, about 100, and its /tmp, which is memory


class LargestObject(Model):
    """What ``spec.storage`` says of the largest object; without it nothing is refused by size."""

    max_object_mi: Annotated[int, Field(ge=1, le=65536)] | None = None
    max_object_senders: Annotated[int, Field(ge=1, le=64)] | None = None

    @property
    def orthanc_memory_mi(self) -> int | None:
        """Return the memory that Orthanc needs for the largest objects (MiB); None when nobody said how large."""
        if self.max_object_mi is None:
            return None
        return MEMORY_COPIES * self.max_object_mi * (self.max_object_senders or 1) + MEMORY_BASE_MI


def check_memory(largest: LargestObject, given: int | None) -> None:
    """Refuse a memory limit that cannot hold the largest objects.

    Parameters
    ----------
    largest
        ``spec.storage``.
    given
        ``spec.scheduling.orthanc.memoryMi`` (MiB); None when it follows from the objects.

    Raises
    ------
    InvalidSpecError
        It is too small, or senders are counted of objects whose size nobody said.
    """
    if largest.max_object_senders and largest.max_object_mi is None:
        raise InvalidSpecError(
            "spec.storage.maxObjectSenders: given while maxObjectMi is not",
            action="say how large the largest object is, or leave it out",
        )
    needed = largest.orthanc_memory_mi
    if needed is not None and given is not None and given < needed:
        raise InvalidSpecError(
            f"spec.scheduling.orthanc.memoryMi: {given} holds less than {MEMORY_COPIES} x maxObjectMi x "
            f"maxObjectSenders + {MEMORY_BASE_MI} = {needed}",
            action="give it that much or leave it out; or lower spec.storage.maxObjectMi or maxObjectSenders",
        )
