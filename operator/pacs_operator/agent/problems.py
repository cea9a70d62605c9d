"""What is wrong right now, by subject: the source of ``problems`` in the status."""

from pacs_operator.agent.log import Event, emit, emit_error
from pacs_operator.domain.errors import PacsError


class Problems:
    """Standing problems; logged when they begin, change their reason and end, not at every retry."""

    def __init__(self) -> None:
        self._standing: dict[str, str] = {}

    def report(self, subject: str, error: PacsError) -> None:
        """Record that a subject failed; the newest change is the last error.

        Parameters
        ----------
        subject
            ``leaf/<name>``, ``trust/<ca>``, ``peers``, ``neighbour`` and the like: our own names only.
        error
            Why.
        """
        if self._standing.get(subject) == error.reason:
            return
        self._standing.pop(subject, None)
        self._standing[subject] = error.reason
        emit_error(Event.PROBLEM, error, subject=subject)

    def clear(self, subject: str) -> None:
        """Record that a subject is well again."""
        reason = self._standing.pop(subject, None)
        if reason is not None:
            emit(Event.RECOVERED, subject=subject, reason=reason)

    def standing(self) -> dict[str, str]:
        """Return subject and reason of all that stands, oldest first."""
        return dict(self._standing)

    def newest_reason(self) -> str | None:
        """Return the reason of the newest standing problem."""
        return next(reversed(self._standing.values()), None)
