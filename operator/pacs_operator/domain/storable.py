"""Which SOP classes and transfer syntaxes an archive stores, unless its spec lists others.

The default leaves no image out: all storage classes of PS3.6 annex A that hold something of a patient, retired ones
too, since old devices send them; private classes are for the spec to name. Of the transfer syntaxes that Orthanc knows
it leaves out those under which an object can be something other than what it seems: deflated ones, of which a kilobyte
unfolds to gigabytes, and JPIP references, whose pixels lie at an address of the sender's choice. Every device that
proposes one of these proposes Implicit VR Little Endian beside it (PS3.5 10.1), so that its images still come.
"""

from collections.abc import Iterable

from pacs_operator.domain.errors import InvalidSpecError

DEFAULT = "Default"  # stands for the lists below, in a list of the spec's own

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"

_CLASS_ROOT = "1.2.840.10008.5.1."
_CLASSES = """
    1.27 1.29 1.30 4.1.1.1 4.1.1.1.1 4.1.1.1.1.1 4.1.1.1.2 4.1.1.1.2.1 4.1.1.1.3 4.1.1.1.3.1 4.1.1.2 4.1.1.2.1
    4.1.1.2.2 4.1.1.3 4.1.1.3.1 4.1.1.4 4.1.1.4.1 4.1.1.4.2 4.1.1.4.3 4.1.1.4.4 4.1.1.5 4.1.1.6 4.1.1.6.1 4.1.1.6.2
    4.1.1.6.3 4.1.1.7 4.1.1.7.1 4.1.1.7.2 4.1.1.7.3 4.1.1.7.4 4.1.1.8 4.1.1.9 4.1.1.9.1 4.1.1.9.1.1 4.1.1.9.1.2
    4.1.1.9.1.3 4.1.1.9.1.4 4.1.1.9.2.1 4.1.1.9.3.1 4.1.1.9.4.1 4.1.1.9.4.2 4.1.1.9.5.1 4.1.1.9.6.1 4.1.1.9.6.2
    4.1.1.9.7.1 4.1.1.9.7.2 4.1.1.9.7.3 4.1.1.9.7.4 4.1.1.9.8.1 4.1.1.9.100.1 4.1.1.9.100.2 4.1.1.10 4.1.1.11
    4.1.1.11.1 4.1.1.11.2 4.1.1.11.3 4.1.1.11.4 4.1.1.11.5 4.1.1.11.6 4.1.1.11.7 4.1.1.11.8 4.1.1.11.9 4.1.1.11.10
    4.1.1.11.11 4.1.1.11.12 4.1.1.12.1 4.1.1.12.1.1 4.1.1.12.2 4.1.1.12.2.1 4.1.1.12.3 4.1.1.13.1.1 4.1.1.13.1.2
    4.1.1.13.1.3 4.1.1.13.1.4 4.1.1.13.1.5 4.1.1.14.1 4.1.1.14.2 4.1.1.20 4.1.1.30 4.1.1.66 4.1.1.66.1 4.1.1.66.2
    4.1.1.66.3 4.1.1.66.4 4.1.1.66.5 4.1.1.66.6 4.1.1.66.7 4.1.1.66.8 4.1.1.67 4.1.1.68.1 4.1.1.68.2 4.1.1.77.1
    4.1.1.77.1.1 4.1.1.77.1.1.1 4.1.1.77.1.2 4.1.1.77.1.2.1 4.1.1.77.1.3 4.1.1.77.1.4 4.1.1.77.1.4.1 4.1.1.77.1.5.1
    4.1.1.77.1.5.2 4.1.1.77.1.5.3 4.1.1.77.1.5.4 4.1.1.77.1.5.5 4.1.1.77.1.5.6 4.1.1.77.1.5.7 4.1.1.77.1.5.8
    4.1.1.77.1.6 4.1.1.77.1.7 4.1.1.77.1.8 4.1.1.77.1.9 4.1.1.77.2 4.1.1.78.1 4.1.1.78.2 4.1.1.78.3 4.1.1.78.4
    4.1.1.78.5 4.1.1.78.6 4.1.1.78.7 4.1.1.78.8 4.1.1.79.1 4.1.1.80.1 4.1.1.81.1 4.1.1.82.1 4.1.1.88.1 4.1.1.88.2
    4.1.1.88.3 4.1.1.88.4 4.1.1.88.11 4.1.1.88.22 4.1.1.88.33 4.1.1.88.34 4.1.1.88.35 4.1.1.88.40 4.1.1.88.50
    4.1.1.88.59 4.1.1.88.65 4.1.1.88.67 4.1.1.88.68 4.1.1.88.69 4.1.1.88.70 4.1.1.88.71 4.1.1.88.72 4.1.1.88.73
    4.1.1.88.74 4.1.1.88.75 4.1.1.88.76 4.1.1.88.77 4.1.1.90.1 4.1.1.91.1 4.1.1.104.1 4.1.1.104.2 4.1.1.104.3
    4.1.1.104.4 4.1.1.104.5 4.1.1.128 4.1.1.128.1 4.1.1.129 4.1.1.130 4.1.1.131 4.1.1.200.2 4.1.1.200.8 4.1.1.481.1
    4.1.1.481.2 4.1.1.481.3 4.1.1.481.4 4.1.1.481.5 4.1.1.481.6 4.1.1.481.7 4.1.1.481.8 4.1.1.481.9 4.1.1.481.10
    4.1.1.481.11 4.1.1.481.12 4.1.1.481.13 4.1.1.481.14 4.1.1.481.15 4.1.1.481.16 4.1.1.481.17 4.1.1.481.18
    4.1.1.481.19 4.1.1.481.20 4.1.1.481.21 4.1.1.481.22 4.1.1.481.23 4.1.1.481.24 4.1.1.481.25 4.1.1.501.1
    4.1.1.501.2.1 4.1.1.501.2.2 4.1.1.501.3 4.1.1.501.4 4.1.1.501.5 4.1.1.501.6 4.1.1.601.1 4.1.1.601.2 4.1.1.601.3
    4.1.1.601.4 4.1.1.601.5 4.34.1 4.34.7 4.34.10
"""

_SYNTAX_ROOT = "1.2.840.10008.1.2"
_SYNTAXES = """
    .1 .2 .4.50 .4.51 .4.52 .4.53 .4.54 .4.55 .4.56 .4.57 .4.58 .4.59 .4.60 .4.61 .4.62 .4.63 .4.64 .4.65 .4.66 .4.70
    .4.80 .4.81 .4.90 .4.91 .4.92 .4.93 .4.100 .4.101 .4.102 .4.103 .4.104 .4.105 .4.106 .4.107 .4.108 .4.110
    .4.111 .4.112 .4.201 .4.202 .4.203 .5
"""

SOP_CLASSES = tuple(f"{_CLASS_ROOT}{end}" for end in _CLASSES.split())
TRANSFER_SYNTAXES = (IMPLICIT_VR_LITTLE_ENDIAN, *(f"{_SYNTAX_ROOT}{end}" for end in _SYNTAXES.split()))


def check_transfer_syntaxes(asked: Iterable[str], field: str) -> None:
    """Refuse a list under which a device that speaks DICOM's default transfer syntax alone could store nothing.

    Raises
    ------
    InvalidSpecError
        Neither `DEFAULT` nor Implicit VR Little Endian is listed (PS3.5 10.1).
    """
    if not {DEFAULT, IMPLICIT_VR_LITTLE_ENDIAN} & set(asked):
        raise InvalidSpecError(
            f"{field}: {IMPLICIT_VR_LITTLE_ENDIAN} is missing, which every DICOM device may count on (PS3.5 10.1)",
            action=f"add {IMPLICIT_VR_LITTLE_ENDIAN} or {DEFAULT}",
        )


def expand(asked: Iterable[str], default: tuple[str, ...]) -> list[str]:
    """Return the UIDs that a list of the spec stands for, sorted by value and each once.

    Parameters
    ----------
    asked
        UIDs, and `DEFAULT` for the archive's own list.
    default
        That list: `SOP_CLASSES` or `TRANSFER_SYNTAXES`.
    """
    found: set[str] = set()
    for entry in asked:
        found.update(default if entry == DEFAULT else (entry,))
    return sorted(found, key=lambda uid: [int(part) for part in uid.split(".")])
