"""What a conformance run reports: enumerated codes, small enough for a pod's termination message.

The message is at most 4,096 bytes (Kubernetes' limit), holds no free text and no identifiers, and is the only
thing that leaves the pod (blueprint, decision 4). The pod speaks to devices and may be taken over, so whoever reads
the message takes nothing that is not in the catalog of checks.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator

from pacs_operator.domain.checks import CODE, Check, Layer
from pacs_operator.domain.messages import packed, unpacked
from pacs_operator.domain.model import Model

MAX_MILLIS = 86_400_000

Outcome = Literal["Passed", "Failed", "NotRun"]


class CheckResult(Model):
    """One check: a positive act, or an attack together with its allowed twin.

    ``layer`` and ``code`` name what refused the attack, for example ``tls``/``alert-protocol-version``,
    ``dicom``/``rj-1-1-3``, ``gate``/``closed-before-ac``, ``network``/``timeout``; or, on failure, where and how
    it went wrong.
    """

    check: Check
    outcome: Outcome
    layer: Layer | None = None
    code: Annotated[str, Field(pattern=CODE)] | None = None
    twin: Literal["Served", "NotServed", "NotNeeded"] = "NotNeeded"
    millis: Annotated[int, Field(ge=0, le=MAX_MILLIS)] = 0


class RunResult(Model):
    """One run of the conformance pod; each check stands at most once, the worst replica speaking for all."""

    run: Annotated[str, Field(pattern=r"^[a-z0-9]{1,20}$")]
    replicas: Annotated[int, Field(ge=0, le=256)]  # gate replicas that were attacked by address
    checks: Annotated[list[CheckResult], Field(max_length=len(Check))]

    @field_validator("checks")
    @classmethod
    def _once(cls, checks: list[CheckResult]) -> list[CheckResult]:
        if len({check.check for check in checks}) != len(checks):
            raise ValueError("a check stands twice")
        return checks

    @property
    def passed(self) -> bool:
        """Tell whether every check of the catalog ran and passed; a run that leaves one out proves nothing."""
        return self.proves(frozenset(Check))

    def proves(self, expected: frozenset[Check]) -> bool:
        """Tell whether exactly these checks ran and passed.

        Parameters
        ----------
        expected
            The checks that the archive can be put to: all of the catalog, but for one without a database of its own.
        """
        return {check.check for check in self.checks if check.outcome == "Passed"} == expected

    def to_message(self) -> str:
        """Return the termination message.

        Raises
        ------
        ValueError
            The result does not fit into 4,096 bytes.
        """
        return packed(self.document())

    @classmethod
    def from_message(cls, message: str) -> Self:
        """Return the result that a pod left behind.

        Raises
        ------
        ValueError
            Not a result of ours: truncated, foreign, or not valid.
        """
        try:
            return cls.model_validate(unpacked(message))
        except ValueError as error:
            raise ValueError(f"not a conformance result: {type(error).__name__}") from error


def listed_code(code: str | None) -> str | None:
    """Return a code as a result may hold it; an answer that the catalog has no word for is ``other``."""
    return code if code is None or re.fullmatch(CODE, code) else "other"
