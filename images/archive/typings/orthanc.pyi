# ruff: noqa: N802 names are Orthanc's
"""The part of Orthanc's Python API (plugin 7.1) that the archive's plugin uses."""

from collections.abc import Callable

class DicomInstance:
    def GetInstanceData(self) -> bytes: ...
    def GetInstanceRemoteAet(self) -> str: ...
    def GetInstanceSimplifiedJson(self) -> str: ...

class ChangeType:
    ORTHANC_STARTED: int

class InstanceOrigin:
    DICOM_PROTOCOL: int

class MetricsType:
    DEFAULT: int

class ReceivedInstanceAction:
    KEEP_AS_IS: int
    MODIFY: int

class StorageCommitmentFailureReason:
    SUCCESS: int
    PROCESSING_FAILURE: int
    NO_SUCH_OBJECT_INSTANCE: int
    CLASS_INSTANCE_CONFLICT: int

def GetConfiguration() -> str: ...
def LogWarning(message: str) -> None: ...
def RestApiGet(uri: str) -> bytes: ...
def RestApiPost(uri: str, body: bytes) -> bytes: ...
def SetMetricsValue(name: str, value: float, type: int) -> None: ...
def RegisterIncomingCStoreInstanceFilter(callback: Callable[[DicomInstance], int]) -> None: ...
def RegisterOnChangeCallback(callback: Callable[[int, int, str], None]) -> None: ...
def RegisterReceivedInstanceCallback(callback: Callable[[bytes, int], tuple[int, bytes | None]]) -> None: ...
def RegisterStorageCommitmentScpCallback(
    factory: Callable[..., object], lookup: Callable[[str, str, str], int]
) -> None: ...
