"""The lease's end ends the process, even while the renewing call or the loop itself hangs; each in a child process."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Twenty seconds of the lease's time pass in each half second; only the watch on the cluster is replaced.
CHILD = """
import asyncio, os, signal, sys, threading, time
from datetime import UTC, datetime
from prometheus_client import CollectorRegistry
from pacs_operator.handlers import process
from pacs_operator.handlers.health import Heartbeat
from pacs_operator.kube.lease import Lease, LeaseName
from pacs_operator.reconcile.metrics import Metrics
from tests.engine.simapi import SimulatedApi, WriteLog
from tests.engine.world import World

what = sys.argv[1]
process.RENEW_SECONDS = 0.05
api = SimulatedApi(WriteLog())
world = World()
renewed = []
read = api.get

def get(*arguments):
    if renewed and what == "the call hangs":
        print("hanging", flush=True)
        threading.Event().wait()
    renewed.append(time.monotonic())
    return read(*arguments)

api.get = get

class Operator(process.Operator):
    async def _watch(self, queue, stop):
        if what == "the loop hangs":
            print("hanging", flush=True)
            threading.Event().wait()
        while what == "all is well" and time.monotonic() - renewed[0] < 2:
            await asyncio.sleep(0.05)
        if what == "all is well":
            print("well", flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()

lease = Lease(api, LeaseName("pacs-operator", "one"), lambda: datetime.now(UTC), lambda: time.monotonic() * 40)
registry = CollectorRegistry()
operator = Operator(world.operator(), lease, Heartbeat(time.monotonic), registry, Metrics(registry))
sys.exit(asyncio.run(operator.run(0)))
"""


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("the call hangs", 3, ["hanging", "lease lost"]),
        ("the loop hangs", 3, ["hanging", "lease lost"]),
        ("all is well", 0, ["well"]),
    ],
)
def test_the_process_ends_with_its_lease(what: str, code: int, said: list[str]):
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, what], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == code, ended.stdout + ended.stderr
    for word in said:
        assert word in ended.stdout
    assert ("lease lost" in ended.stdout) is (code == 3)
