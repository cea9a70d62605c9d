"""Prometheus metrics of the reconcile; labels are bounded, never names of resources (but see `peermetrics`)."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

PREFIX = "pacs_operator"


class QueueNumbers(Collector):
    """Queue depth and age, and certificate ends, asked for at scrape time."""

    def __init__(
        self, depth: Callable[[], int], oldest: Callable[[], float], ends: Callable[[], dict[str, float]]
    ) -> None:
        self._depth, self._oldest, self._ends = depth, oldest, ends

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges."""
        yield GaugeMetricFamily(f"{PREFIX}_queue_depth", "Archives that are due and not being looked at", self._depth())
        yield GaugeMetricFamily(
            f"{PREFIX}_queue_oldest_seconds", "How long the longest waiting archive has been due", self._oldest()
        )
        ends = GaugeMetricFamily(
            f"{PREFIX}_certificate_not_after_seconds",
            "Earliest end of a certificate over all archives, seconds since the epoch",
            labels=["component"],
        )
        for component, end in sorted(self._ends().items()):
            ends.add_metric([component], end)
        yield ends


class Metrics:
    """Counters of the reconcile.

    Parameters
    ----------
    registry
        Where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.passes = Histogram(
            f"{PREFIX}_reconcile_seconds",
            "Duration of one pass over one archive",
            ["result"],
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=registry,
        )
        self.failures = Counter(
            f"{PREFIX}_reconcile_failures",
            "Passes that ended with an error, by its reason",
            ["reason"],
            registry=registry,
        )
        self.writes = Counter(
            f"{PREFIX}_api_writes", "Writes to the Kubernetes API", ["verb", "kind"], registry=registry
        )

    def on_write(self, verb: str, kind: str) -> None:
        """Count one write."""
        self.writes.labels(verb, kind).inc()
