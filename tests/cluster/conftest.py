"""One demo for all cluster tests: what a new user sees is what the tests attack."""

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.images.conftest import image

from .support import LEGACY_NODE_PORT, ROOT, STATE, TESTBED, WORK, Cluster, Modality, run, until

__all__ = ["image"]


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    subprocess.run([ROOT / "demo" / "demo"], check=True, env=environment)
    os.environ["KUBECONFIG"] = str(STATE / "admin.kubeconfig")
    os.environ["PATH"] = f"{STATE / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return Cluster()


@pytest.fixture(scope="session")
def built(cluster: Cluster) -> dict[str, Any]:
    """The images that the demo has just built, for what stands beside the cluster."""
    images: dict[str, Any] = json.loads((ROOT / "build" / "images.json").read_text())
    return images


@pytest.fixture
def archive(cluster: Cluster) -> Cluster:
    """The demo's archive, Ready before each test: what one test breaks, the operator must have mended."""
    cluster.wait_ready()
    return cluster


@pytest.fixture(scope="session")
def ct1(cluster: Cluster) -> Modality:
    return Modality("ct1", "198.18.10.11", "CT1")


@pytest.fixture
def ws1(archive: Cluster) -> Modality:
    """The demo's workstation: it is sent to, and may have images sent to itself."""
    archive.kubectl("apply", "-f", str(WORK / "ws1.yaml"))
    archive.kubectl("wait", "--for=condition=Accepted", "-n", "imaging", "dicompeer/ws1", "--timeout=30s")
    modality = Modality("ws1", "198.18.10.21", "WS1")
    run(TESTBED, "modality", "add", modality.name, modality.address)
    until("ws1 is served", modality.echo, 15)
    return modality


@pytest.fixture
def us7(archive: Cluster) -> Modality:
    """The demo's device without TLS."""
    consent = ("patch", "pacsarchive", "radiology", "--type=merge")
    archive.kubectl(*consent, "--patch-file", str(ROOT / "examples" / "radiology-legacy.yaml"))
    archive.kubectl("apply", "-f", str(WORK / "us7.yaml"))
    archive.wait_ready()
    modality = Modality("us7", "198.18.10.77", "US7")
    run(TESTBED, "modality", "add", modality.name, modality.address)
    until("us7 is served", lambda: modality.without_tls("echo", LEGACY_NODE_PORT), 30)
    return modality


PEER = """
apiVersion: pacs-operator.io/v1alpha1
kind: DicomPeer
metadata: {name: mr1, namespace: imaging}
spec:
  archiveRef: {name: radiology}
  aeTitles: [MR1]
  certificate: {dnsName: mr1.imaging.example}
  sourceCIDRs: [198.18.20.11/32]
  rights: [Echo, Store]
"""


@pytest.fixture
def mr1(archive: Cluster) -> Iterator[Modality]:
    """A second modality that may store but not query; removed afterwards."""
    archive.kubectl("apply", "-f", "-", stdin=PEER)
    accepted = ("wait", "--for=condition=Accepted", "-n", "imaging", "dicompeer/mr1", "--timeout=30s")
    archive.kubectl(*accepted)
    modality = Modality("mr1", "198.18.20.11", "MR1").ready(archive)
    until("mr1 is served", modality.echo, 15)
    yield modality
    run("kubectl", "delete", "--ignore-not-found", "-n", "imaging", "dicompeer/mr1")
    modality.gone()
