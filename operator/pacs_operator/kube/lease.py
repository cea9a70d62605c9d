"""Leader election by a coordination.k8s.io Lease; whoever loses it must exit at once."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pacs_operator.domain import names
from pacs_operator.domain.errors import ApiError, ConflictError
from pacs_operator.kube.inventory import LEASE
from pacs_operator.kube.port import KubePort, Manifest

DURATION = timedelta(seconds=30)
RENEW_SECONDS = 8.0  # three tries fit before the lease ends for others
RENEW_DEADLINE = timedelta(seconds=22)  # give up before anybody else may start
_MICRO = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True)
class LeaseName:
    """Where the lease lives and who we are."""

    namespace: str
    identity: str
    name: str = names.FIELD_MANAGER


class Lease:
    """One candidate.

    Others' clocks are not trusted: a foreign lease counts as expired when *we* have watched it unchanged for its
    whole duration.

    Parameters
    ----------
    kube
        The API.
    lease
        Name and identity.
    clock
        Current time, UTC, for the stamps that people read.
    monotonic
        Seconds; what has passed is judged by it alone, since a clock that is set must not give or take a lead.
    """

    def __init__(
        self,
        kube: KubePort,
        lease: LeaseName,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube, self._lease, self._clock, self._monotonic = kube, lease, clock, monotonic
        self._seen: tuple[str, float] | None = None
        self._until: float | None = None  # also read by the watchdog's thread

    def try_hold(self) -> bool:
        """Take or renew the lease; False when somebody else holds it or the API does not answer."""
        try:
            return self._try()
        except ConflictError:
            return False
        except ApiError:
            return self._until is not None and not self.lost

    @property
    def lost(self) -> bool:
        """Tell whether a lease once held can no longer be relied on."""
        left = self.remaining
        return left is not None and left <= 0

    @property
    def remaining(self) -> float | None:
        """Return for how many seconds the lease can still be relied on; None when it is not held.

        Counted from before the call that renewed it: how long the answer took is not ours.
        """
        until = self._until
        return None if until is None else until - self._monotonic()

    def release(self) -> None:
        """Let go at an orderly exit, so that a successor need not wait."""
        live = self._kube.get(LEASE, self._lease.name, self._lease.namespace)
        if live and (live.get("spec") or {}).get("holderIdentity") == self._lease.identity:
            self._kube.replace({**live, "spec": {**live["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}})
        self._until = None

    def _try(self) -> bool:
        now, began = self._clock(), self._monotonic()
        live = self._kube.get(LEASE, self._lease.name, self._lease.namespace)
        if live is None:
            self._kube.create(self._body(None, now))
        elif self._may_take(live, began):
            self._kube.replace(self._body(live, now))
        else:
            if self._until is not None:  # somebody took it from us: lost at once
                self._until = began
            return False
        self._until = began + RENEW_DEADLINE.total_seconds()
        return True

    def _may_take(self, live: Manifest, now: float) -> bool:
        spec = live.get("spec") or {}
        if spec.get("holderIdentity") in (self._lease.identity, "", None):
            return True
        version = str(live["metadata"].get("resourceVersion"))
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, now)
        return now - self._seen[1] > float(spec.get("leaseDurationSeconds") or 0)

    def _body(self, live: Manifest | None, now: datetime) -> Manifest:
        before = (live or {}).get("spec") or {}
        mine = before.get("holderIdentity") == self._lease.identity
        stamp = now.astimezone(UTC).strftime(_MICRO)
        spec = {
            "holderIdentity": self._lease.identity,
            "leaseDurationSeconds": int(DURATION.total_seconds()),
            "renewTime": stamp,
            "acquireTime": before.get("acquireTime") if mine else stamp,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if mine or live is None else 1),
        }
        data = {"name": self._lease.name, "namespace": self._lease.namespace}
        if live:
            data["resourceVersion"] = live["metadata"]["resourceVersion"]
        return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": data, "spec": spec}
