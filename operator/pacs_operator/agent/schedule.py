"""When to renew and how long to wait after a failure: arithmetic only."""

from datetime import datetime, timedelta

RENEW_AT = 2 / 3  # of a certificate's life: leaves a third of it to a Vault that is down
RENEW_JITTER = 0.05  # of its life, always earlier
BACKOFF_FIRST_SECONDS = 1.0
BACKOFF_LIMIT_SECONDS = 60.0


def renewal_due(not_before: datetime, not_after: datetime, obtained: datetime | None, jitter: float) -> datetime:
    """Return when a certificate should be replaced.

    Parameters
    ----------
    not_before, not_after
        The certificate's life.
    obtained
        When this process got it; None when it was found on the volume. Guards against a clock that runs ahead of
        Vault's: a certificate that just came and looks old already is kept for a third of what is left of it,
        instead of issuing in a loop.
    jitter
        In [0, 1).
    """
    life = not_after - not_before
    due = not_before + life * (RENEW_AT - RENEW_JITTER * jitter)
    if obtained is None:
        return due
    return max(due, obtained + max(not_after - obtained, timedelta(minutes=3)) / 3)


def backoff_seconds(failures: int, jitter: float) -> float:
    """Return how long to wait after so many failures in a row: doubling, limited, half of it by chance."""
    ceiling = min(BACKOFF_LIMIT_SECONDS, BACKOFF_FIRST_SECONDS * 2.0 ** min(failures - 1, 16))
    return ceiling * (0.5 + 0.5 * jitter)
