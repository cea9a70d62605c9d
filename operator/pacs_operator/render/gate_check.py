"""What HAProxy sends to see whether Orthanc serves: an association like any other, opened and released.

A connection that ends without one is an error to Orthanc, and two gates that look every other second would fill its
log with them.
"""

from pacs_operator.domain.names import PROBE_UID_ROOT

_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_VERIFICATION = "1.2.840.10008.1.1"
_IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_MAX_PDU_BYTES = 16_384


def associate_request(calling: str, called: str) -> bytes:
    """Return an A-ASSOCIATE-RQ that proposes Verification and nothing else (PS3.8 9.3.2).

    Parameters
    ----------
    calling, called
        AE titles.
    """
    syntaxes = _item(0x30, _VERIFICATION.encode()) + _item(0x40, _IMPLICIT_VR_LITTLE_ENDIAN.encode())
    user = _item(0x51, _MAX_PDU_BYTES.to_bytes(4, "big")) + _item(0x52, f"{PROBE_UID_ROOT}.1".encode())
    return _pdu(
        0x01,
        bytes.fromhex("00010000")  # protocol version 1
        + called.encode("ascii").ljust(16)
        + calling.encode("ascii").ljust(16)
        + bytes(32)
        + _item(0x10, _APPLICATION_CONTEXT.encode())
        + _item(0x20, bytes.fromhex("01000000") + syntaxes)
        + _item(0x50, user),
    )


def release_request() -> bytes:
    """Return an A-RELEASE-RQ (PS3.8 9.3.6)."""
    return _pdu(0x05, bytes(4))


def _pdu(kind: int, content: bytes) -> bytes:
    return bytes((kind, 0)) + len(content).to_bytes(4, "big") + content


def _item(kind: int, content: bytes) -> bytes:
    return bytes((kind, 0)) + len(content).to_bytes(2, "big") + content
