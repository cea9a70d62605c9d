"""Kubernetes Events: what people must know, once."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import structlog

from pacs_operator.domain import names
from pacs_operator.domain.errors import NotFoundError
from pacs_operator.domain.times import rfc3339
from pacs_operator.kube.apply import content_hash
from pacs_operator.kube.errors import AlreadyExistsError, ApiForbiddenError, ApiInvalidError
from pacs_operator.kube.port import KubePort, Manifest, metadata

#: Events on cluster-scoped objects live here, where kubectl looks for them.
CLUSTER_SCOPE_NAMESPACE = "default"

log = structlog.get_logger("pacs_operator")


@dataclass(frozen=True)
class Notice:
    """What an Event says; ``reason`` and ``message`` as in a condition, no secrets, no patient data."""

    kind: Literal["Normal", "Warning"]
    reason: str
    message: str


def post(kube: KubePort, about: Manifest, notice: Notice, now: datetime) -> None:
    """Post an Event on an object; the same statement within one hour is posted once.

    The name is made of the content and the hour, so that a repeated pass, or another process after a crash, meets
    its own event instead of adding one. A namespace that takes none (a quota of its owner's, a policy, its end) is told
    in the log and holds nothing else up: one tenant's namespace is no reason to stop the work on an archive.

    Parameters
    ----------
    kube
        The API.
    about
        The object it is about.
    notice
        What to say.
    now
        Time of the pass (UTC).
    """
    data, utc = metadata(about), now.astimezone(UTC)
    stamp = rfc3339(utc)
    namespace = data.get("namespace") or CLUSTER_SCOPE_NAMESPACE
    identity = [data.get("uid"), notice.kind, notice.reason, notice.message, utc.strftime("%Y%m%d%H")]
    involved = {"apiVersion": about["apiVersion"], "kind": about["kind"], "name": data["name"], "uid": data.get("uid")}
    if data.get("namespace"):
        involved["namespace"] = namespace
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{data['name'][:200]}.{content_hash(identity)}", "namespace": namespace},
        "involvedObject": involved,
        "type": notice.kind,
        "reason": notice.reason,
        "message": notice.message[:1000],
        "source": {"component": names.FIELD_MANAGER},
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
    try:
        kube.create(event)
    except AlreadyExistsError:
        return
    except (ApiForbiddenError, ApiInvalidError, NotFoundError) as error:
        log.warning("event not taken", namespace=namespace, event_reason=notice.reason, reason=error.reason)
