"""What Orthanc turned away on the way in: a condition that a person acts on, and metrics. Counts, never identifiers."""

from collections.abc import Callable, Iterator
from datetime import timedelta

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pacs_operator.domain.agentconfig import IngestStatus, QuarantineStatus
from pacs_operator.domain.conditions import ConditionType
from pacs_operator.domain.names import Component
from pacs_operator.kube.port import metadata
from pacs_operator.reconcile.agents import answers
from pacs_operator.reconcile.context import Pass
from pacs_operator.reconcile.metrics import PREFIX

#: As the archive plugin names its refusals; what else an agent tells is not taken over.
REASONS = (
    "CheckFailed",
    "DuplicateDiffers",
    "ObjectTooLarge",
    "ProbeOutsideReserved",
    "ReservedForProbes",
    "SopClassNotAccepted",
    "StoreInProgress",
    "TransferSyntaxNotAccepted",
)
_COARSE = timedelta(minutes=15)
_ACT = "kubectl exec into Orthanc's agent: pacs-agent quarantine list"

#: Numbers by pod.
IngestNumbers = dict[str, IngestStatus]


def condition(run: Pass) -> None:
    """Set IngestClean from what Orthanc's agent told."""
    told = [status.ingest for status in answers(run, Component.ORTHANC) if status.ingest is not None]
    if not told:
        unseen(run)
        return
    quarantine = told[0].quarantine
    kind = ConditionType.INGEST_CLEAN
    if quarantine.full:
        text = f"{_held(quarantine)}; the last differing duplicate was refused without being kept, its sender has it"
        run.set(kind, "False", "QuarantineFull", _coarse(run, "QuarantineFull", f"{text} ({_ACT})"))
    elif quarantine.held:
        text = f"{_held(quarantine)}; refused to their senders and served to nobody until a person decides"
        run.set(kind, "False", "Quarantined", _coarse(run, "Quarantined", f"{text} ({_ACT})"))
    else:
        run.set(kind, "True", "Clean", "No differing duplicate is held")


def unseen(run: Pass) -> None:
    """Take back what was True: nobody looks. What was False stays so, since not looking makes nothing better."""
    known = next((item for item in run.observed.conditions if item.type is ConditionType.INGEST_CLEAN), None)
    if known is None or known.status != "False":
        run.set(ConditionType.INGEST_CLEAN, "Unknown", "NotObserved", "Orthanc's agent has not told what is held")


def _held(quarantine: QuarantineStatus) -> str:
    since = f", the oldest since {quarantine.oldest}" if quarantine.oldest else ""
    size = -(-quarantine.bytes // 2**20)
    return f"{quarantine.held} differing duplicates ({size} MiB) are held{since}"


def _coarse(run: Pass, reason: str, text: str) -> str:
    """Return the text that stands there while it is younger than 15 minutes: a flood is a metric's matter."""
    known = next((item for item in run.observed.conditions if item.type is ConditionType.INGEST_CLEAN), None)
    if known is None or known.message == text:
        return text
    told = run.memory.ingest_told
    if known.reason == reason and told is not None and run.now - told < _COARSE:
        return known.message
    run.memory.ingest_told = run.now
    return text


def numbers(run: Pass) -> IngestNumbers:
    """Return what the agents last told, by name of the pod."""
    names = {str(metadata(pod)["uid"]): str(metadata(pod)["name"]) for pod in run.pods}
    return {
        names[uid]: status.ingest
        for uid, (component, status) in run.memory.agents.items()
        if component is Component.ORTHANC and uid in names and status.ingest is not None
    }


class IngestMetrics(Collector):
    """Yields the metrics of quarantine and refusals at scrape time.

    Parameters
    ----------
    ask
        Returns the numbers by archive.
    """

    def __init__(self, ask: Callable[[], dict[str, IngestNumbers]]) -> None:
        self._ask = ask

    def collect(self) -> Iterator[Metric]:
        """Yield what is held, then what was counted since the pod's Orthanc started."""
        rows = [((archive, pod), told) for archive, pods in sorted(self._ask().items()) for pod, told in pods.items()]
        labels = ["archive", "pod"]
        held = GaugeMetricFamily(f"{PREFIX}_quarantine_objects", "Differing duplicates that are held", labels=labels)
        size = GaugeMetricFamily(f"{PREFIX}_quarantine_bytes", "Size of the differing duplicates", labels=labels)
        lost = CounterMetricFamily(
            f"{PREFIX}_quarantine_not_taken", "Differing duplicates that were refused and not kept", labels=labels
        )
        refused = CounterMetricFamily(
            f"{PREFIX}_ingest_refused", "Objects that Orthanc's plugin refused, by reason", labels=[*labels, "reason"]
        )
        for row, told in rows:
            held.add_metric(row, told.quarantine.held)
            size.add_metric(row, told.quarantine.bytes)
            lost.add_metric(row, told.quarantine.not_taken)
            for reason in REASONS:
                refused.add_metric([*row, reason], told.refused.get(reason, 0))
        yield from (held, size, lost, refused)
