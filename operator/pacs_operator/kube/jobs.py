"""What a Job's own status tells."""

from datetime import datetime

from pacs_operator.domain.times import parse_time
from pacs_operator.kube.port import Manifest


def ended_at(job: Manifest, *how: str) -> datetime | None:
    """Return when a Job ended; None while it runs.

    Parameters
    ----------
    job
        As it stands in the API.
    how
        Only an end of this kind (``Complete``, ``Failed``); either, where none is given.
    """
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition.get("type") in (how or ("Complete", "Failed")) and condition.get("status") == "True":
            return parse_time(condition["lastTransitionTime"])
    return None
