"""What the operator costs when nothing changes, with 1, 10 and 100 archives on an API server without kubelet.

Real: API server and etcd, OpenBao, the operator's process with its watches, Lease, queue and clients, RBAC, mutual
TLS to the agents. Stand-ins: controllers and pods (`benchmarks/standins.py`) mark workloads ready, end the first
conformance run as passed, and answer for the agents.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from kubernetes import client
from tests.vault.identity import TestIdentityProvider
from tests.vault.openbao import OpenBao
from tests.vault.world import World

from benchmarks.apionly import ApiServer, OperatorProcess, archive, catalog, until
from benchmarks.record import Limit, Record, Table, begin, conclude, percentile
from benchmarks.standins import Agents, Controllers
from pacs_operator.domain import names
from pacs_operator.reconcile.peers import live_peers

TOUCHED = "benchmark.pacs-operator.io/touched"
#: Longer than the 60 s after which a pass asks Vault again and the 30 s after which it asks the agents again.
REST_SECONDS = 62.0
Item = dict[str, Any]


class Stage:
    """Everything around the operator, and what is asked of it.

    Parameters
    ----------
    api, world, operator
        The servers and the process.
    agents
        Who answers for the pods.
    """

    def __init__(self, api: ApiServer, world: World, operator: OperatorProcess, agents: Agents) -> None:
        self.api, self.operator, self._agents = api, operator, agents
        self._controllers = Controllers(api.client)
        self._objects = client.CustomObjectsApi(api.client)
        self.count = 0

    def grow(self, count: int) -> float:
        """Add archives until there are ``count``, wait until all are Ready, and return the seconds that took."""
        began = time.monotonic()
        new = [archive(number) for number in range(self.count, count)]
        self.api.apply(*new)
        self.count = count
        try:
            until(f"{count} archives are Ready", self._settled, 60 + 30 * count, every=1.0)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; {next(self._not_ready(), 'now they are')}") from None
        return time.monotonic() - began

    def _not_ready(self) -> Iterator[str]:
        """Say of each archive that is not Ready what its conditions say."""
        for item in self._archives():
            if _condition(item, "Ready") != "True":
                said = [f"{c['type']}={c['status']}: {c['message']}" for c in item["status"]["conditions"]]
                yield f"{item['metadata']['name']}: {'; '.join(said)}"

    def _settled(self) -> bool:
        self.operator.passes()  # raises when the operator has ended
        written = self._controllers.turn()
        archives = self._archives()
        provisioned = {
            item["metadata"]["name"]: item["metadata"]["annotations"][names.LABEL_LINEAGE]
            for item in archives
            if _condition(item, "VaultReady") == "True"
        }
        self._agents.equip({name: (lineage, live_peers(name, [])) for name, lineage in provisioned.items()})
        ready = sum(_condition(item, "Ready") == "True" for item in archives)
        print(f"  {ready} of {self.count} archives Ready, {written} objects by stand-ins", end="\r", flush=True)
        return ready == self.count and not written

    def _archives(self) -> list[Item]:
        found: Any = self._objects.list_cluster_custom_object(names.GROUP, names.VERSION, "pacsarchives")
        return list(found["items"])

    def restart(self) -> list[Item]:
        """Restart the operator, wait until it has looked at every archive, and return those first passes."""
        self.operator.stop()
        self.operator.start()
        everyone = {item["metadata"]["name"] for item in self._archives()}

        def all_seen() -> bool:
            return {line["archive"] for line in self.operator.passes() if line["result"] == "Ready"} >= everyone

        until("the new process has seen every archive", all_seen, 60 + 10 * self.count)
        first: dict[str, Item] = {}
        for line in self.operator.passes():
            first.setdefault(line["archive"], line)
        return list(first.values())

    def round(self, token: str) -> Item:
        """Wake every archive at once, as the periodic full pass does, and wait until each was passed over."""
        everyone = {item["metadata"]["name"] for item in self._archives()}
        touched: dict[str, float] = {}
        done, cpu, began = len(self.operator.passes()), self.operator.cpu_seconds(), time.monotonic()

        def touch(name: str) -> None:
            patch = {"metadata": {"annotations": {TOUCHED: token}}}
            touched[name] = time.time()
            self._objects.patch_cluster_custom_object(names.GROUP, names.VERSION, "pacsarchives", name, patch)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(touch, sorted(everyone)))

        def woken() -> dict[str, float]:
            """Return by archive how long after its touch the next pass over it began."""
            found: dict[str, float] = {}
            for line in self.operator.passes()[done:]:
                name = line["archive"]
                if name in touched and line["began"] >= touched[name]:
                    found.setdefault(name, line["began"] - touched[name])
            return found

        until("every archive was passed over", lambda: woken().keys() >= everyone, 60 + 10 * self.count, every=0.1)
        seconds, cpu = time.monotonic() - began, self.operator.cpu_seconds() - cpu
        passes = self.operator.passes()[done:]
        waits = sorted(woken().values())
        return {"passes": passes, "seconds": seconds, "wakeSeconds": waits, "operatorCpuSeconds": cpu}


def _condition(item: Item, kind: str) -> str:
    conditions = (item.get("status") or {}).get("conditions") or []
    return next((str(each["status"]) for each in conditions if each["type"] == kind), "Unknown")


@contextmanager
def stage(port: int, folder: Path) -> Iterator[Stage]:
    """Bring up all servers in a folder, and take them down again."""
    (folder / "identity").mkdir()
    (folder / "bao").mkdir()
    identity = TestIdentityProvider(folder / "identity")
    bao = OpenBao(folder / "bao")
    api = ApiServer(folder / "api", port)
    operator: OperatorProcess | None = None
    try:
        api.prepare()
        api.apply(catalog("2026.11.0"))
        bao.start()
        world = World(bao, identity, folder)
        done = world.bootstrap()
        if done.returncode != 0:
            raise RuntimeError(f"deploy/vault/bootstrap: {done.stderr}")
        agents = Agents(world, folder)
        operator = OperatorProcess(api, world, folder, (port + 3, port + 4))
        operator.start()
        yield Stage(api, world, operator, agents)
        agents.close()
    finally:
        if operator is not None:
            operator.stop()
        bao.stop()
        identity.close()
        api.stop()


def measure(scene: Stage, count: int, rounds: int) -> Item:
    """Measure one number of archives."""
    print(f"{count} archives: creating", flush=True)
    before = scene.api.audit_offset
    created, peak = scene.grow(count), scene.operator.memory_mib("VmHWM")
    made = scene.api.audited_writes(before)
    if not made:
        raise RuntimeError(
            "the audit log shows no write of the operator while archives were created: it counts nothing"
        )
    print(f"\n{count} archives: Ready after {created:.0f} s; restarting the operator", flush=True)
    offset = scene.api.audit_offset
    first = scene.restart()
    found: list[Item] = []
    for number in range(rounds):
        time.sleep(REST_SECONDS)  # not a wait for something to happen: quiet time, in which nothing may happen
        found.append(scene.round(f"{count}-{number}"))
        print(f"{count} archives: round {number + 1} of {rounds}: {found[-1]['seconds']:.1f} s", flush=True)
    passes = [line for one in found for line in one["passes"]]
    return {
        "archives": count,
        "createdSeconds": created,
        "createdWrites": len(made),
        "rssMiB": scene.operator.memory_mib("VmRSS"),
        "peakMiB": max(peak, scene.operator.memory_mib("VmHWM")),
        "firstPasses": first,
        "passes": [line for line in passes if "vault get" in line["calls"]],
        "lighterPasses": sum("vault get" not in line["calls"] for line in passes),
        "rounds": [{key: value for key, value in one.items() if key != "passes"} for one in found],
        "writes": scene.api.audited_writes(offset),
    }


def tables(levels: list[Item]) -> list[Table]:
    """Return what was measured: one row for each number of archives, the first being the baseline."""
    base = levels[0]
    base_pass = statistics.median(line["seconds"] for line in base["passes"])
    rows: list[list[str | int | float]] = []
    for level in levels:
        seconds = [line["seconds"] for line in level["passes"]]
        rows.append(
            [
                level["archives"],
                len(seconds),
                1000 * statistics.median(seconds),
                1000 * percentile(seconds, 95),
                statistics.median(seconds) / base_pass,
                1000 * statistics.median(line["cpuSeconds"] for line in level["passes"]),
                1000 * statistics.median(line["seconds"] for line in level["firstPasses"]),
                percentile([wait for one in level["rounds"] for wait in one["wakeSeconds"]], 95),
                statistics.median(one["seconds"] for one in level["rounds"]),
                statistics.median(one["operatorCpuSeconds"] for one in level["rounds"]),
                level["rssMiB"],
                level["peakMiB"],
                len(level["writes"]),
            ]
        )
    columns = ["archives", "passes", "pass p50 ms", "p95 ms", "ratio"]
    columns += [
        "CPU p50 ms",
        "first p50 ms",
        "wake p95 s",
        "all at once s",
        "its CPU s",
        "RSS MiB",
        "peak RSS",
        "writes",
    ]
    return [Table("Steady state: one pass; all archives at once; memory; writes", columns, rows), _requests(levels)]


def _requests(levels: list[Item]) -> Table:
    """Return requests per pass by verb and kind: the median over passes."""
    kinds = sorted({call for level in levels for line in level["passes"] for call in line["calls"]})
    rows: list[list[str | int | float]] = []
    for kind in kinds:
        counts = [[line["calls"].get(kind, 0) for line in level["passes"]] for level in levels]
        rows.append([kind, *(float(statistics.median(each)) for each in counts), max(max(each) for each in counts)])
    totals = [[_reads(line) for line in level["passes"]] for level in levels]
    rows.append(
        ["all reads of the Kubernetes API", *(float(statistics.median(each)) for each in totals), max(map(max, totals))]
    )
    return Table(
        "Requests of one pass: median, and the most in any",
        ["request", *(f"{level['archives']} archives" for level in levels), "most"],
        rows,
    )


def _reads(line: Item) -> int:
    return sum(number for call, number in line["calls"].items() if call.split()[0] in ("get", "list"))


def record_of(levels: list[Item], rounds: int) -> Record:
    """Return the whole result."""
    writes = [write for level in levels for write in level["writes"]]
    return Record(
        benchmark="steady_state",
        about="One reconcile pass, the operator's memory and its writes when nothing changes.",
        tables=tables(levels),
        limits=[Limit("writes by the operator in all windows, restarts included", len(writes), 0)],
        notes=[
            "Real: kube-apiserver and etcd, OpenBao, the operator's process, its RBAC, mutual TLS to agents.",
            "Stand-ins: workloads are marked ready, pods are objects without processes, the first conformance run ends "
            "as passed without attacking anything, and agents answer from one loopback server.",
            f"Each of {rounds} rounds wakes all archives by an annotation, {REST_SECONDS:.0f} s after the last one: "
            "later than what a pass remembers of Vault (60 s) and agents (30 s). Passes that asked Vault are counted, "
            "lighter ones in between are not.",
            "One archive's passes run alone, others four at a time: the pass takes longer then, its processor time "
            "(CPU, of its own thread) does not. wake: from an archive's touch to the start of its pass. all at once: "
            "until every archive was passed over, as after the "
            "periodic full pass; its CPU: of the whole process in that time.",
            "Writes are counted by the API server's audit log for the operator's account, from before the restart to "
            "the end of the last round; the Lease is left out.",
            "first: the first pass after a restart, which remembers nothing. peak RSS: creation included.",
            "API server, etcd, OpenBao and stand-ins share the cores with the operator.",
        ],
        samples={
            str(level["archives"]): {
                "rounds": level["rounds"],
                "lighterPasses": level["lighterPasses"],
                "passSeconds": [line["seconds"] for line in level["passes"]],
                "results": dict(Counter(line["result"] for line in level["passes"])),
                "writes": dict(Counter(level["writes"])),
                "createdSeconds": level["createdSeconds"],
                "createdWrites": level["createdWrites"],
                "peakMiB": level["peakMiB"],
            }
            for level in levels
        },
    )


def main() -> int:
    """Run the benchmark: exit 0 when no write was seen, 1 otherwise."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], epilog="Needs the built testbed (testbed/testbed build) and .venv; no root."
    )
    parser.add_argument("--archives", default="1,10,100", help="numbers of archives, growing (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds for each number (%(default)s)")
    parser.add_argument("--port", type=int, default=18543, help="first of five TCP ports on loopback (%(default)s)")
    arguments = begin(parser)
    counts = sorted({int(text) for text in arguments.archives.split(",")})
    with (
        tempfile.TemporaryDirectory(prefix="pacs-steady-", ignore_cleanup_errors=True) as folder,
        stage(arguments.port, Path(folder)) as scene,
    ):
        levels = [measure(scene, count, arguments.rounds) for count in counts]
    return conclude(record_of(levels, arguments.rounds), arguments)


if __name__ == "__main__":
    sys.exit(main())
