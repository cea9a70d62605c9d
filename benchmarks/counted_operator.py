"""The operator's own process, with a counter before its clients and a stop-watch around each pass.

Nothing else differs from ``pacs-operator run``: same queue, same watches, same Lease, same clients. One JSON line
for each pass goes to the file that ``PACS_BENCHMARK_PASSES`` names.
"""

import functools
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from pacs_operator.__main__ import main
from pacs_operator.control.client import AgentClient
from pacs_operator.kube.client import KubeClient
from pacs_operator.kube.inventory import kind_of
from pacs_operator.reconcile.archive import ArchiveReconciler
from pacs_operator.vault.session import VaultSession

READS = ("get", "list")
WRITES = ("apply", "apply_status", "create", "replace", "patch", "delete")


class Stopwatch:
    """Counts what a thread asks for while it is in a pass, and writes the pass down."""

    def __init__(self, file: IO[str]) -> None:
        self._file, self._lock, self._thread = file, threading.Lock(), threading.local()

    def count(self, what: str) -> None:
        """Count one call of the pass that runs in this thread; outside of passes nothing is counted."""
        calls: Counter[str] | None = getattr(self._thread, "calls", None)
        if calls is not None:
            calls[what] += 1

    def reconcile(self, original: Callable[[ArchiveReconciler, str], Any]) -> Callable[[ArchiveReconciler, str], Any]:
        """Return the reconcile with a stop-watch around it."""

        @functools.wraps(original)
        def timed(reconciler: ArchiveReconciler, name: str) -> Any:
            self._thread.calls = Counter()
            began, clock, cpu, outcome = time.time(), time.monotonic(), time.thread_time(), None
            try:
                outcome = original(reconciler, name)
                return outcome
            finally:
                line = {
                    "archive": name,
                    "began": began,
                    "seconds": time.monotonic() - clock,
                    "cpuSeconds": time.thread_time() - cpu,
                    "result": outcome.result if outcome else "Failed",
                    "calls": dict(self._thread.calls),
                }
                self._thread.calls = None
                with self._lock:
                    self._file.write(json.dumps(line) + "\n")
                    self._file.flush()

        return timed


def counted(original: Callable[..., Any], describe: Callable[..., str], watch: Stopwatch) -> Callable[..., Any]:
    """Return a method that is counted under the name that ``describe`` makes of its arguments."""

    @functools.wraps(original)
    def method(client: Any, *arguments: Any, **named: Any) -> Any:
        watch.count(describe(*arguments, **named))
        return original(client, *arguments, **named)

    return method


def instrument(watch: Stopwatch) -> None:
    """Put the counters in place."""
    for verb in READS:
        describe = functools.partial(lambda verb, kind, *_, **__: f"{verb} {kind.kind}", verb)
        setattr(KubeClient, verb, counted(getattr(KubeClient, verb), describe, watch))
    for verb in WRITES:
        of_kind = functools.partial(_written, verb)
        setattr(KubeClient, verb, counted(getattr(KubeClient, verb), of_kind, watch))
    # Logins included: every request that leaves for Vault.
    VaultSession._request = counted(  # type: ignore[method-assign]  # to be counted
        VaultSession._request, lambda method, *_, **__: f"vault {method}", watch
    )
    asked = counted(AgentClient.status, lambda *_, **__: "agent status", watch)
    AgentClient.status = asked  # type: ignore[method-assign]  # to be counted
    setattr(ArchiveReconciler, "reconcile", watch.reconcile(ArchiveReconciler.reconcile))  # noqa: B010  # for mypy


def _written(verb: str, subject: Any, *_: Any, **__: Any) -> str:
    return f"{verb} {(kind_of(subject) if isinstance(subject, dict) else subject).kind}"


if __name__ == "__main__":
    with Path(os.environ["PACS_BENCHMARK_PASSES"]).open("a", encoding="utf-8") as passes:
        instrument(Stopwatch(passes))
        main()
