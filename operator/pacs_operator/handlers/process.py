"""The process: lead or wait, watch, work, and go when leadership is gone."""

import asyncio
import contextlib
import os
import signal
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import NoReturn

import kopf
import structlog
from prometheus_client import CollectorRegistry, start_http_server

from pacs_operator.domain.errors import PacsError, UnexpectedError
from pacs_operator.handlers.health import HEARTBEAT_SECONDS, Heartbeat
from pacs_operator.handlers.settings import configure_kopf
from pacs_operator.handlers.watch import Wakeup, register
from pacs_operator.kube.lease import RENEW_SECONDS, Lease
from pacs_operator.reconcile.archive import ArchiveReconciler
from pacs_operator.reconcile.ingest import IngestMetrics
from pacs_operator.reconcile.metrics import Metrics, QueueNumbers
from pacs_operator.reconcile.peermetrics import PeerMetrics
from pacs_operator.reconcile.queue import LoopClock, Pace, WorkQueue
from pacs_operator.reconcile.reencrypt import ReencryptMetrics
from pacs_operator.reconcile.scrub import ScrubMetrics

HEARTBEAT_KEY = "/heartbeat"  # no archive has a slash in its name

GUARD_SECONDS = 0.5
EXIT_LEASE_LOST = 3

log = structlog.get_logger("pacs_operator")


def _end() -> NoReturn:
    """End at once and without clean-up: a thread in the middle of a pass must not write beside a successor."""
    # A log that nobody reads may block; that must not keep the process alive.
    teller = threading.Thread(target=lambda: log.error("lease lost", event_reason="LeaseLost"), daemon=True)
    teller.start()
    teller.join(1)
    os._exit(EXIT_LEASE_LOST)


class Operator:
    """One process of the operator.

    Parameters
    ----------
    reconciler
        Does the work.
    lease
        Decides whether this process works.
    heartbeat
        Told whenever work went through.
    registry
        Metrics registry.
    metrics
        Counters, shared with the API client.
    """

    def __init__(
        self,
        reconciler: ArchiveReconciler,
        lease: Lease,
        heartbeat: Heartbeat,
        registry: CollectorRegistry,
        metrics: Metrics,
    ) -> None:
        self._reconciler, self._lease, self._heartbeat = reconciler, lease, heartbeat
        self._registry, self._metrics = registry, metrics
        self._pace = Pace()
        # One thread more than workers: the heartbeat and the list of names must not wait behind long passes' queue.
        self._threads = ThreadPoolExecutor(self._pace.workers + 1, thread_name_prefix="reconcile")
        self._lease_thread = ThreadPoolExecutor(1, thread_name_prefix="lease")

    async def run(self, metrics_port: int) -> int:
        """Lead when it is our turn and work until told to stop; return the exit code."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        if not await self._wait_for_lead(stop):
            return 0
        log.info("leading", event_reason="Leading")
        threading.Thread(target=self._guard_lease, name="lease-watchdog", daemon=True).start()
        queue = WorkQueue(self._work, self._names, LoopClock(), Random(), self._pace, self._failed)  # noqa: S311
        self._registry.register(
            QueueNumbers(lambda: queue.depth, lambda: queue.oldest_age, self._reconciler.certificate_ends)
        )
        self._registry.register(PeerMetrics(self._reconciler.peer_numbers))
        self._registry.register(IngestMetrics(self._reconciler.ingest_numbers))
        self._registry.register(ScrubMetrics(self._reconciler.scrubs))
        self._registry.register(ReencryptMetrics(self._reconciler.sealing))
        start_http_server(metrics_port, registry=self._registry)
        queue.mark(HEARTBEAT_KEY)
        tasks = [
            asyncio.create_task(queue.run(stop), name="queue"),
            asyncio.create_task(self._watch(queue, stop), name="kopf"),
            asyncio.create_task(self._keep_lease(stop), name="lease"),
        ]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        wanted = stop.is_set()
        stop.set()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task}, timeout=25)
        for task in done:
            if not task.cancelled() and (error := task.exception()):
                log.error("stopped", task=task.get_name(), error=type(error).__name__, message=str(error)[:400])
                wanted = False
        if all(task.done() for task in tasks):  # else a pass may still write: the lease has to run out
            with contextlib.suppress(PacsError):
                await loop.run_in_executor(self._lease_thread, self._lease.release)
        return 0 if wanted else 1

    async def _wait_for_lead(self, stop: asyncio.Event) -> bool:
        loop, clock = asyncio.get_running_loop(), LoopClock()
        while not stop.is_set():
            if await loop.run_in_executor(self._lease_thread, self._lease.try_hold):
                return True
            self._heartbeat.beat()
            await clock.wait(stop, RENEW_SECONDS)
        return False

    async def _keep_lease(self, stop: asyncio.Event) -> None:
        loop, clock = asyncio.get_running_loop(), LoopClock()
        while not stop.is_set():
            await clock.wait(stop, RENEW_SECONDS)
            if not stop.is_set():
                await loop.run_in_executor(self._lease_thread, self._lease.try_hold)
            if self._lease.lost:
                _end()

    def _guard_lease(self) -> None:
        """End the process when the lease's time is over, whatever the call that renews it or the loop is doing."""
        while (left := self._lease.remaining) is not None:
            if left <= 0:
                _end()
            time.sleep(min(left, GUARD_SECONDS))

    async def _watch(self, queue: WorkQueue, stop: asyncio.Event) -> None:
        registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
        configure_kopf(settings)
        register(registry, Wakeup(queue.mark))
        await kopf.operator(registry=registry, settings=settings, clusterwide=True, standalone=True, stop_flag=stop)

    async def _work(self, key: str) -> float | None:
        loop = asyncio.get_running_loop()
        if key == HEARTBEAT_KEY:
            await loop.run_in_executor(self._threads, self._heartbeat.beat)
            return HEARTBEAT_SECONDS
        began = time.monotonic()
        result = "Failed"
        try:
            outcome = await loop.run_in_executor(self._threads, self._reconciler.reconcile, key)
            result = outcome.result
        finally:
            self._metrics.passes.labels(result).observe(time.monotonic() - began)
        log.debug("reconciled", archive=key, result=outcome.result)
        return outcome.requeue_after

    async def _names(self) -> list[str]:
        names = await asyncio.get_running_loop().run_in_executor(self._threads, self._reconciler.names)
        return [HEARTBEAT_KEY, *names]

    def _failed(self, key: str, error: Exception) -> None:
        if not isinstance(error, PacsError):
            error = UnexpectedError.of(error)
        self._metrics.failures.labels(error.reason).inc()
        if isinstance(error, UnexpectedError) and (cause := error.__cause__):
            # Where, not what: the text of an error nobody thought of may quote what it choked on.
            frames = traceback.extract_tb(cause.__traceback__)
            at = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
            log.error("unexpected", archive=key, error=type(cause).__name__, at=at)
        else:
            log.warning("will retry", archive=key, reason=error.reason, message=str(error))
