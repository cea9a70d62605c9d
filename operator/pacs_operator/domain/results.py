"""What a conformance run reports: enumerated codes, small enough for a pod's termination message.

The message is at most 4,096 bytes (Kubernetes' limit), holds no free text and no identifiers, and is the only
thing that leaves the pod (blueprint, decision 4).
"""

import base64
import json
import zlib
from typing import Literal, Self

from pacs_operator.domain.model import Model

MAX_MESSAGE_BYTES = 4096

Outcome = Literal["Passed", "Failed", "NotRun"]


class CheckResult(Model):
    """One check: a positive act, or an attack together with its allowed twin.

    ``layer`` and ``code`` name what refused the attack, for example ``tls``/``alert-protocol-version``,
    ``dicom``/``rj-1-1-3``, ``gate``/``closed-before-ac``, ``network``/``timeout``; or, on failure, where and how
    it went wrong.
    """

    check: str
    outcome: Outcome
    layer: str | None = None
    code: str | None = None
    twin: Literal["Served", "NotServed", "NotNeeded"] = "NotNeeded"
    millis: int = 0


class RunResult(Model):
    """One run of the conformance pod."""

    run: str
    replicas: int  # gate replicas that were attacked by address
    checks: list[CheckResult]

    @property
    def passed(self) -> bool:
        """Tell whether every check ran and passed; an empty run proves nothing."""
        return bool(self.checks) and all(check.outcome == "Passed" for check in self.checks)

    def to_message(self) -> str:
        """Return the termination message.

        Raises
        ------
        ValueError
            The result does not fit into 4,096 bytes.
        """
        raw = json.dumps(self.document(), separators=(",", ":")).encode()
        message = base64.b85encode(zlib.compress(raw, 9)).decode()
        if len(message) > MAX_MESSAGE_BYTES:
            raise ValueError(f"result of {len(message)} bytes exceeds the termination message's {MAX_MESSAGE_BYTES}")
        return message

    @classmethod
    def from_message(cls, message: str) -> Self:
        """Return the result that a pod left behind.

        Raises
        ------
        ValueError
            Not a result of ours: truncated, foreign, or not valid.
        """
        try:
            return cls.model_validate(json.loads(zlib.decompress(base64.b85decode(message.strip()))))
        except (ValueError, zlib.error) as error:
            raise ValueError(f"not a conformance result: {type(error).__name__}") from error
