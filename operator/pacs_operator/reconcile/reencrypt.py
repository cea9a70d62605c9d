"""Encryption of images that lie on the volume already: what Orthanc's agent is told to do, and what it tells.

The volume claim's annotation remembers how far it is, since neither the spec nor the status outlives the resource.
"""

import hashlib
from collections.abc import Callable, Iterator
from datetime import timedelta

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pacs_operator.domain.agentconfig import SealingOrders, SealingTold, StorageTold
from pacs_operator.domain.archive import Archive
from pacs_operator.domain.names import (
    ANNOTATION_ENCRYPTION,
    ANNOTATION_REENCRYPT,
    REENCRYPTING,
    Component,
    Zone,
    namespace_of,
)
from pacs_operator.domain.status import EncryptionStatus, ReencryptStatus
from pacs_operator.domain.times import parse_time, rfc3339
from pacs_operator.kube.inventory import PVC
from pacs_operator.kube.port import annotations_of
from pacs_operator.reconcile.agents import answers
from pacs_operator.reconcile.context import Pass
from pacs_operator.reconcile.metrics import PREFIX
from pacs_operator.render.orthanc_workload import IMAGES_CLAIM

MAX_TOKEN = 253
#: Counts move in the status at most so often; a change of what is being done, or of what is wrong, at once.
TOLD_COARSELY = timedelta(minutes=15)
#: What is shown of the work, as the agent names it.
_GAUGES = {
    "left": "Files that are still to be encrypted, in clear or under older data keys",
    "left_bytes": "Size of the files that are still to be encrypted",
    "done": "Files that were encrypted and compared since Orthanc started",
    "done_bytes": "Size of the files that were encrypted since Orthanc started",
    "failed": "Files that could not be encrypted; they are tried again",
}


def orders(run: Pass, archive: Archive) -> SealingOrders | None:
    """Return what is to be done with the images on the volume; None while nothing is.

    Parameters
    ----------
    run
        The pass; looks at the live volume claim and at what Orthanc's agent told last.
    archive
        The archive as specified.
    """
    if not archive.spec.encryption.on:
        return None
    clear, token = in_clear(run) and not _all_sealed(run), wanted_token(run)
    if not clear and token is None:
        return None
    return SealingOrders(
        clear=clear, mi_per_second=archive.spec.encryption.reencrypt_rate, reseal=_word(token) if token else None
    )


def in_clear(run: Pass) -> bool:
    """Tell whether the volume was written in clear and is not yet known to be encrypted as a whole."""
    claim = run.owned.get((PVC.kind, namespace_of(run.name, Zone.ARCHIVE), IMAGES_CLAIM))
    return claim is not None and annotations_of(claim).get(ANNOTATION_ENCRYPTION, "None") in ("None", REENCRYPTING)


def wanted_token(run: Pass) -> str | None:
    """Return the token by which somebody asks that images under older data keys are encrypted anew."""
    token = annotations_of(run.live).get(ANNOTATION_REENCRYPT)
    return token[:MAX_TOKEN] if token else None


def told(run: Pass) -> SealingTold | None:
    """Return what Orthanc's agent told last."""
    return next((storage.work for storage in _storages(run)), None)


def not_offered(run: Pass) -> bool:
    """Tell whether the storage that Orthanc runs with does no such work: a release from before it."""
    return any(storage.self_test is not None and storage.work is None for storage in _storages(run))


def _storages(run: Pass) -> Iterator[StorageTold]:
    return (status.storage for status in answers(run, Component.ORTHANC) if status.storage)


def handled(run: Pass) -> str | None:
    """Return the last token that was acted on to its end."""
    token, work = wanted_token(run), told(run)
    if token and work and work.reseal == _word(token):
        return token
    return run.observed.last_handled_reencrypt_token


def status(run: Pass, known: EncryptionStatus | None) -> ReencryptStatus | None:
    """Return how far it is, coarsely.

    Parameters
    ----------
    run
        The pass.
    known
        What the status says now.
    """
    work, before = told(run), known.reencrypt if known else None
    if work is None or work.kind == "None":
        return before
    now = ReencryptStatus(
        kind=work.kind,
        state=work.state,
        problem=work.problem or None,
        left=work.left,
        left_bytes=work.left_bytes,
        done=work.done,
        failed=work.failed,
        foreign=work.foreign,
        updated=rfc3339(run.now),
    )
    if before is None or (before.kind, before.state, before.problem) != (now.kind, now.state, now.problem):
        return now
    still = before.model_copy(update={"updated": now.updated}) == now
    return before if still or run.now - parse_time(before.updated) < TOLD_COARSELY else now


def remember(run: Pass, known: dict[str, SealingTold]) -> None:
    """Keep what the metrics show of this archive: what its agent told, or nothing.

    Parameters
    ----------
    run
        The pass.
    known
        What was told by archive; changed in place.
    """
    work = told(run) if run.archive and run.archive.spec.encryption.on else None
    if work is None:
        known.pop(run.name, None)
    else:
        known[run.name] = work


class ReencryptMetrics(Collector):
    """Yields at scrape time how far the encryption of what lies on the volumes is.

    Parameters
    ----------
    ask
        Returns what was told by archive.
    """

    def __init__(self, ask: Callable[[], dict[str, SealingTold]]) -> None:
        self._ask = ask

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield one gauge a count, by archive."""
        known = sorted(self._ask().items())
        for name, text in _GAUGES.items():
            gauge = GaugeMetricFamily(f"{PREFIX}_reencrypt_{name}", text, labels=["archive"])
            for archive, work in known:
                gauge.add_metric([archive], getattr(work, name))
            yield gauge


def standing(run: Pass) -> str | None:
    """Return in words what still lies in clear; None when nothing is known to."""
    if run.desired is None or run.desired.sealing is None or not run.desired.sealing.clear:
        return None
    known = run.status.encryption.reencrypt if run.status.encryption else None
    if known is None or known.kind != "Clear":
        return "Images that were stored in clear are being encrypted; Orthanc's agent has not yet told how many"
    text = f"{known.left} images ({known.left_bytes // 2**20} MiB) lie in clear, {known.done} encrypted and compared"
    if known.failed:
        text += f"; {known.failed} failed ({known.problem}) and are tried again"
    return f"{text}; {known.foreign} files are no images: a person takes them away" if known.foreign else text


def _all_sealed(run: Pass) -> bool:
    work = told(run)
    return work is not None and work.all_sealed


def _word(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
