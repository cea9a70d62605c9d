"""Prometheus metrics of peers: what changes all the time, of which the status tells little and late.

Labels name archives and peers; there are at most 256 of these in an archive, so series are bounded. Counts are those
of one pod since it started, so they bear its name: summed over pods that restart at different times they would go
backwards.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pacs_operator.domain.agentconfig import PeerActivity
from pacs_operator.domain.names import Component
from pacs_operator.domain.status import PeerSummary
from pacs_operator.domain.times import parse_time
from pacs_operator.kube.port import metadata
from pacs_operator.reconcile.agents import activity
from pacs_operator.reconcile.context import Pass
from pacs_operator.reconcile.metrics import PREFIX


@dataclass(frozen=True)
class PodCounts:
    """What one pod counted of one peer."""

    peer: str
    pod: str
    component: Component
    seen: PeerActivity


@dataclass(frozen=True)
class PeerNumbers:
    """All numbers of one archive's peers, as last told by the agents."""

    latest: tuple[PeerActivity, ...] = ()
    pods: tuple[PodCounts, ...] = ()
    silent: tuple[tuple[str, bool], ...] = ()  # of those that are expected to come, where it is known
    legacy: tuple[tuple[str, str], ...] = ()  # of those without TLS: when the exception expires


def numbers(run: Pass) -> PeerNumbers:
    """Return what a pass learned of the peers; a time that no pod remembers is the status's."""
    listed = run.status.peers.listed if run.status.peers else []
    latest = activity(run)
    for summary in listed:
        if summary.accepted:
            latest[summary.id] = _remembered(latest.get(summary.id) or PeerActivity(id=summary.id), summary)
    names = {str(metadata(pod)["uid"]): str(metadata(pod)["name"]) for pod in run.pods}
    pods = (
        PodCounts(seen.id, names[uid], component, seen)
        for uid, (component, status) in run.memory.agents.items()
        if component in (Component.GATE, Component.ORTHANC) and uid in names
        for seen in status.peers
    )
    exceptions = run.status.legacy.listed if run.status.legacy else []
    return PeerNumbers(
        tuple(latest[name] for name in sorted(latest)),
        tuple(pods),
        tuple(sorted(run.silent.items())),
        tuple((one.id, one.expires) for one in exceptions),
    )


def _remembered(seen: PeerActivity, summary: PeerSummary) -> PeerActivity:
    """Fill in from the status what was forgotten when a pod started again."""
    update: dict[str, str | None] = {
        "last_store": seen.last_store or summary.last_store,
        "presented_not_after": seen.presented_not_after or summary.presented_not_after,
    }
    if not seen.last_rejection:
        update["last_rejection"] = summary.last_rejection
        update["last_rejection_reason"] = summary.last_rejection_reason
    return seen.model_copy(update=update)


class PeerMetrics(Collector):
    """Yields the peers' metrics at scrape time.

    Parameters
    ----------
    ask
        Returns the numbers by archive.
    """

    def __init__(self, ask: Callable[[], dict[str, PeerNumbers]]) -> None:
        self._ask = ask

    def collect(self) -> Iterator[Metric]:
        """Yield times, then counts."""
        archives = sorted(self._ask().items())
        yield from _times([(archive, seen) for archive, known in archives for seen in known.latest])
        yield from _counts([(archive, counts) for archive, known in archives for counts in known.pods])
        silent = GaugeMetricFamily(
            f"{PREFIX}_peer_silent",
            "1 while a peer has been silent for longer than spec.expectTraffic allows; none where that is not known",
            labels=["archive", "peer"],
        )
        for archive, known in archives:
            for peer, alarm in known.silent:
                silent.add_metric([archive, peer], float(alarm))
        yield silent
        yield from _exceptions(archives)


def _exceptions(archives: list[tuple[str, PeerNumbers]]) -> Iterator[Metric]:
    count = GaugeMetricFamily(f"{PREFIX}_legacy_peers", "Devices that are let in without TLS", labels=["archive"])
    end = _time("legacy_expires", "When the exception of a device without TLS expires", ["archive", "peer"])
    for archive, known in archives:
        if known.legacy:  # none is the rule, and says nothing
            count.add_metric([archive], len(known.legacy))
        for peer, stamp in known.legacy:
            end.add_metric([archive, peer], parse_time(stamp).timestamp())
    yield from (count, end)


def _times(peers: Iterable[tuple[str, PeerActivity]]) -> Iterator[Metric]:
    labels = ["archive", "peer"]
    store = _time("last_store", "When a peer's last new object was stored", labels)
    association = _time("last_association", "When a peer's last association was accepted", labels)
    request = _time("last_request", "When a peer's last DICOMweb request was let through", labels)
    end = _time("certificate_not_after", "End of the certificate that a peer presented last", labels)
    rejection = _time("last_rejection", "When a peer was last refused, and why", [*labels, "reason"])
    for archive, seen in peers:
        for family, stamp in (
            (store, seen.last_store),
            (association, seen.last_association),
            (request, seen.last_request),
            (end, seen.presented_not_after),
        ):
            if stamp:
                family.add_metric([archive, seen.id], parse_time(stamp).timestamp())
        if seen.last_rejection:
            reason = seen.last_rejection_reason or "Unknown"
            rejection.add_metric([archive, seen.id, reason], parse_time(seen.last_rejection).timestamp())
    yield from (store, association, request, end, rejection)


def _time(name: str, text: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_peer_{name}_seconds", f"{text}, seconds since the epoch", labels=labels)


def _counts(pods: Iterable[tuple[str, PodCounts]]) -> Iterator[Metric]:
    labels = ["archive", "peer", "pod"]
    stores = CounterMetricFamily(
        f"{PREFIX}_peer_stores", "New objects of a peer that were stored, since the pod started", labels=labels
    )
    rejections = CounterMetricFamily(
        f"{PREFIX}_peer_rejections",
        "Associations, requests (gate) and objects (Orthanc) of a peer that were refused, since the pod started",
        labels=labels,
    )
    limited = CounterMetricFamily(
        f"{PREFIX}_peer_limited",
        "Associations of a peer that its own limits refused, since the gate pod started",
        labels=labels,
    )
    requests = CounterMetricFamily(
        f"{PREFIX}_peer_requests",
        "DICOMweb requests of a peer that were let through, since the gate pod started",
        labels=labels,
    )
    open_now = GaugeMetricFamily(f"{PREFIX}_peer_open_associations", "A peer's open associations", labels=labels)
    for archive, counts in pods:
        row = [archive, counts.peer, counts.pod]
        rejections.add_metric(row, counts.seen.rejections)
        if counts.component is Component.ORTHANC:
            stores.add_metric(row, counts.seen.stores)
        else:
            limited.add_metric(row, counts.seen.limited)
            if counts.seen.last_request:
                requests.add_metric(row, counts.seen.requests)
            open_now.add_metric(row, counts.seen.open_associations)
    yield from (stores, rejections, limited, requests, open_now)
