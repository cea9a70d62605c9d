"""The disruption seam: everything the operator does that interrupts service asks here first (decision 9)."""

from datetime import datetime
from enum import StrEnum


class Cause(StrEnum):
    """Why the operator would interrupt service."""

    CREATION = "Creation"  # nothing runs yet
    SPEC_CHANGE = "SpecChange"  # what a person changed demands it
    SECURITY = "Security"  # restores a security measure
    DRIFT = "Drift"  # somebody edited a template of ours
    OPERATOR_UPGRADE = "OperatorUpgrade"  # this version renders differently from the last


_ALLOWED = {Cause.CREATION, Cause.SPEC_CHANGE, Cause.SECURITY}


def may_disrupt(cause: Cause, now: datetime) -> bool:
    """Tell whether service may be interrupted now.

    Until maintenance windows exist this allows creation, security and what a changed spec demands; the rest is
    reported as waiting.

    Parameters
    ----------
    cause
        Why service would be interrupted.
    now
        The time of asking (UTC); windows will decide by it.
    """
    del now
    return cause in _ALLOWED
