"""One family of errors: what happened, what the user can do, and whether trying again can help."""


class PacsError(Exception):
    """An error that a user may read.

    Parameters
    ----------
    message
        What is wrong: the field, the value and the rule. Never a secret, a token or a patient's name.
    reason
        Stable CamelCase word, used as condition reason and metric label.
    action
        What the reader can do about it.
    retry
        True when waiting or trying again can help without anybody changing anything.
    """

    reason = "Error"
    retry = True

    def __init__(self, message: str, *, action: str, reason: str | None = None, retry: bool | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.action = action
        if reason is not None:
            self.reason = reason
        if retry is not None:
            self.retry = retry

    def __str__(self) -> str:
        return f"{self.message} ({self.action})"


class UnexpectedError(PacsError):
    """A mistake of ours, or an answer nobody thought of; the cause hangs on ``__cause__``."""

    reason = "Unexpected"

    @classmethod
    def of(cls, cause: Exception) -> "UnexpectedError":
        """Return the error that users may read; only the cause's type is named, since its text may hold data."""
        error = cls(
            f"the operator met an error of its own ({type(cause).__name__})",
            action="it is tried again with growing pauses; report it with the line 'unexpected' of the operator's log",
        )
        error.__cause__ = cause
        return error


class InvalidSpecError(PacsError):
    """What the user wrote cannot be honoured; only an edit helps."""

    reason = "InvalidSpec"
    retry = False


class ApiError(PacsError):
    """The Kubernetes API answered with something other than success."""

    reason = "ApiError"


class ConflictError(ApiError):
    """A write lost a race or another manager owns the field (409)."""

    reason = "Conflict"


class NotFoundError(ApiError):
    """The object is not there (404)."""

    reason = "NotFound"


class VaultError(PacsError):
    """Vault could not do what was asked; pods that run keep serving."""

    reason = "VaultError"
