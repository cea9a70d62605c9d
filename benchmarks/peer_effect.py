"""From writing a DicomPeer until a modality notices: added, narrowed, removed, on the demo's running archive.

The modality stands outside the cluster and asks for an association with an echo about 20 times a second. A change has
taken effect with the first answer of an unbroken series of new ones: long enough that both gate replicas are in it.
"""
# ruff: noqa: S603  # fixed command lines without a shell

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from kubernetes import client, config
from tests.cluster.support import GATE, NODE_PORT, STATE, TESTBED, Cluster, Modality

from benchmarks.record import ROOT, Limit, Record, Table, begin, conclude, percentile
from pacs_operator.domain import names

NAMESPACE, NAME = "imaging", "bench"
TITLE, SECOND_TITLE = "BENCH", "BENCH2"
ADDRESS = "198.18.30.11"
#: Each answer comes from either of two replicas by chance: so many in a row miss one of them once in 2**11 times.
SERIES = 12
BOUND_SECONDS = 10.0
DEADLINE_SECONDS = 60.0
ADDED, TITLE_TAKEN, RIGHT_TAKEN, REMOVED = "added", "narrowed: AE title taken", "narrowed: right taken", "removed"
UNKNOWN_CALLER = "rj-1-1-3"  # PS3.8 table 9-21: calling AE title not recognised
Answer = dict[str, Any]


class Device:
    """The modality's loop of associations, read by a thread.

    Parameters
    ----------
    process
        `association_loop`, running as the modality.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process, self._answers = process, list[Answer]()
        threading.Thread(target=self._read, name="device", daemon=True).start()

    def _read(self) -> None:
        if self._process.stdout is None:
            raise RuntimeError("the device's output is not read")
        for line in self._process.stdout:
            self._answers.append(json.loads(line))

    def effect(self, began: float, title: str, new: Callable[[Answer], bool]) -> tuple[float, float]:
        """Wait for the unbroken series, and return when its first answer and the very first new answer came.

        Parameters
        ----------
        began
            Monotonic time; earlier answers do not count.
        title
            Only answers to this AE title count.
        new
            Tells a new answer from an old one.

        Raises
        ------
        TimeoutError
            No such series in time; shows the last answers.
        RuntimeError
            The device's loop has ended.
        """
        while time.monotonic() < began + DEADLINE_SECONDS:
            if (code := self._process.poll()) is not None:
                raise RuntimeError(f"the device's loop has ended with {code}: did somebody remove the modality?")
            own = sorted((a for a in list(self._answers) if a["title"] == title and when(a) > began), key=when)
            if len(own) >= SERIES and all(map(new, own[-SERIES:])):
                old = [number for number, answer in enumerate(own) if not new(answer)]
                return when(own[old[-1] + 1 if old else 0]), when(next(filter(new, own)))
            time.sleep(0.05)
        last = [f"{answer['title']} {answer['layer']} {answer['code']}" for answer in self._answers[-6:]]
        raise TimeoutError(f"no effect for {title} within {DEADLINE_SECONDS:.0f} s; last answers: {last}")

    def seen(self, began: float, title: str) -> str:
        """Return layer and code of the last answer to an AE title."""
        answer = next(a for a in reversed(self._answers) if a["title"] == title and when(a) > began)
        return f"{answer['layer']} {answer['code']}"


def when(answer: Answer) -> float:
    """Return the time that an answer speaks for: its end, or where nobody answered, when it was asked."""
    return float(answer["began"] if dropped(answer) else answer["ended"])


def dropped(answer: Answer) -> bool:
    """Tell whether the network let nothing through."""
    return bool(answer["layer"] == "network")


class Peer:
    """The DicomPeer, written by one API call at a time.

    Parameters
    ----------
    api
        Client of whoever manages the imaging department's namespace.
    """

    def __init__(self, api: client.ApiClient) -> None:
        self._objects = client.CustomObjectsApi(api)
        self._where = (names.GROUP, names.VERSION, NAMESPACE, "dicompeers")

    def add(self) -> None:
        """Create it with two AE titles and two rights."""
        self._objects.create_namespaced_custom_object(*self._where, _manifest())

    def narrow(self, **spec: list[str]) -> None:
        """Replace lists of its spec by shorter ones."""
        self._objects.patch_namespaced_custom_object(*self._where, NAME, {"spec": spec})

    def remove(self) -> None:
        """Delete it."""
        self._objects.delete_namespaced_custom_object(*self._where, NAME)


def _manifest() -> dict[str, Any]:
    spec = {
        "archiveRef": {"name": "radiology"},
        "aeTitles": [TITLE, SECOND_TITLE],
        "certificate": {"dnsName": f"{NAME}.imaging.example"},
        "sourceCIDRs": [f"{ADDRESS}/32"],
        "rights": ["Echo", "Store"],
        "limits": {"maxAssociations": 8},
    }
    metadata = {"name": NAME, "namespace": NAMESPACE}
    return {"apiVersion": names.API_VERSION, "kind": "DicomPeer", "metadata": metadata, "spec": spec}


def served(answer: Answer) -> bool:
    """Tell whether association and echo succeeded."""
    return bool(answer["served"])


def unknown(answer: Answer) -> bool:
    """Tell whether the gate refused the caller by a DICOM rejection."""
    return bool(answer["code"] == UNKNOWN_CALLER)


def gone(answer: Answer) -> bool:
    """Tell whether a device is nobody any more: to the gate, or to the network in front of it."""
    return unknown(answer) or dropped(answer)


def not_entitled(answer: Answer) -> bool:
    """Tell whether somebody who is known was not served: the echo, or the association for want of the right."""
    return not served(answer) and not gone(answer)


def changes(cycle: int) -> list[tuple[str, str, Callable[[Answer], bool], Callable[[Peer], None]]]:
    """Return one cycle: kind of change, AE title that shows it, what is new about the answer, and the write."""
    narrowings = [
        (TITLE_TAKEN, SECOND_TITLE, unknown, lambda peer: peer.narrow(aeTitles=[TITLE])),
        (RIGHT_TAKEN, TITLE, not_entitled, lambda peer: peer.narrow(rights=["Store"])),
    ]
    return [
        (ADDED, SECOND_TITLE, served, Peer.add),
        narrowings[cycle % 2],
        (REMOVED, TITLE, gone, Peer.remove),
    ]


@contextmanager
def device(cluster: Cluster, peer: Peer) -> Iterator[Device]:
    """Enrol the modality while its DicomPeer exists, start its loop, and take everything away afterwards."""
    modality = Modality(NAME, ADDRESS, TITLE)
    process: subprocess.Popen[str] | None = None
    _remove_leftover(cluster)
    try:
        peer.add()
        cluster.kubectl("wait", "--for=condition=Accepted", "-n", NAMESPACE, f"dicompeer/{NAME}", "--timeout=60s")
        modality.ready(cluster)
        process = subprocess.Popen(_loop(modality), stdout=subprocess.PIPE, text=True)
        running = Device(process)
        running.effect(time.monotonic(), TITLE, served)
        removed = time.monotonic()
        peer.remove()
        running.effect(removed, TITLE, gone)
        yield running
    finally:
        if process is not None:
            process.terminate()
            process.wait(30)
        _remove_leftover(cluster)
        modality.gone()


def _remove_leftover(cluster: Cluster) -> None:
    cluster.kubectl("delete", "--ignore-not-found", "-n", NAMESPACE, f"dicompeer/{NAME}", "--timeout=60s")


def _loop(modality: Modality) -> list[str]:
    loop = [sys.executable, str(ROOT / "benchmarks" / "association_loop.py")]
    where = ["--host", GATE, "--port", NODE_PORT, "--server-name", "radiology.pacs.internal", "--called", "RADIOLOGY"]
    files = [
        f"--{part}={modality.folder / name}.pem" for part, name in (("cert", "chain"), ("key", "key"), ("ca", "ca"))
    ]
    return [str(TESTBED), "modality", "exec", NAME, *loop, *where, *files, "--calling", TITLE, SECOND_TITLE]


def measure(running: Device, peer: Peer, cycles: int) -> list[dict[str, Any]]:
    """Make all changes, one after another, each when the last has taken effect."""
    found = []
    for cycle in range(cycles):
        for kind, title, new, write in changes(cycle):
            began = time.monotonic()
            write(peer)
            everywhere, first = running.effect(began, title, new)
            times = {"seconds": everywhere - began, "firstSeconds": first - began}
            found.append({"kind": kind, **times, "answer": running.seen(began, title)})
            print(f"{len(found):3d} {kind}: {everywhere - began:.2f} s, {found[-1]['answer']}", flush=True)
    return found


def record_of(found: list[dict[str, Any]]) -> Record:
    """Return the whole result."""
    rows: list[list[str | int | float]] = []
    kinds = [kind for kind in (ADDED, TITLE_TAKEN, RIGHT_TAKEN, REMOVED) if any(kind == one["kind"] for one in found)]
    for label, chosen in [("all", kinds), *((kind, [kind]) for kind in kinds)]:
        seconds = [one["seconds"] for one in found if one["kind"] in chosen]
        first = [one["firstSeconds"] for one in found if one["kind"] in chosen]
        numbers = [percentile(seconds, 50), percentile(seconds, 95), max(seconds), percentile(first, 50)]
        rows.append([label, len(seconds), *numbers])
    return Record(
        benchmark="peer_effect",
        about="Seconds from writing a DicomPeer until a modality outside the cluster notices at every gate replica.",
        tables=[
            Table(
                "From API write to effect",
                ["change", "number", "p50 s", "p95 s", "most s", "p50 s at the first replica"],
                rows,
            )
        ],
        limits=[Limit("slowest change, seconds", max(one["seconds"] for one in found), BOUND_SECONDS)],
        notes=[
            f"Effect: the first answer of {SERIES} new ones in a row; the clock starts before the API call.",
            "The device asks in five loops with two AE titles in turn, about 20 times a second, each time by a "
            "new TCP connection, TLS handshake, association and echo; that work shares the node's cores.",
            "Its address is in no other peer's CIDRs: adding and removing also opens and closes the network. An "
            "attempt that the network drops ends after 1 s and counts from its beginning.",
            "A right that is taken shows at Orthanc, behind the gate.",
        ],
        samples={"changes": found},
    )


def main() -> int:
    """Run the benchmark: exit 0 when every change took effect in time, 1 otherwise."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        epilog="Needs the local cluster with the demo's archive (make demo), and root. Makes and removes a DicomPeer "
        f"and a modality named {NAME}.",
    )
    parser.add_argument("--cycles", type=int, default=10, help="of three changes each (%(default)s)")
    arguments = begin(parser)
    os.environ["KUBECONFIG"] = str(STATE / "admin.kubeconfig")
    os.environ["PATH"] = f"{STATE / 'bin'}{os.pathsep}{os.environ['PATH']}"
    connection = config.new_client_from_config(os.environ["KUBECONFIG"])  # type: ignore[no-untyped-call]  # untyped library
    cluster, peer = Cluster(), Peer(connection)
    cluster.wait_ready()
    with device(cluster, peer) as running:
        found = measure(running, peer, arguments.cycles)
    return conclude(record_of(found), arguments)


if __name__ == "__main__":
    sys.exit(main())
