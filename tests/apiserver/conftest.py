"""A real API server and etcd, without a kubelet: schema, CEL, admission policies and RBAC as Kubernetes means them."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes import client, config

ROOT = Path(__file__).parents[2]
TESTBED = ROOT / "testbed" / "testbed"


@pytest.fixture(scope="session")
def api_kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    # A state folder and ports of its own: a developer's API server beside it stays as it is.
    os.environ["PACS_TESTBED_API_STATE"] = str(tmp_path_factory.mktemp("api"))
    os.environ["PACS_TESTBED_API_PORT"] = "17443"
    subprocess.run([TESTBED, "api", "start"], check=True)
    try:
        shown = subprocess.run([TESTBED, "api", "kubeconfig"], check=True, capture_output=True, text=True)
        kubeconfig = Path(shown.stdout.strip())
        os.environ["PATH"] = f"{kubeconfig.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
        yield kubeconfig
    finally:
        subprocess.run([TESTBED, "api", "stop"], check=True)


@pytest.fixture(scope="session")
def api(api_kubeconfig: Path) -> client.ApiClient:
    return config.new_client_from_config(str(api_kubeconfig))


@pytest.fixture(scope="session")
def crds(api: client.ApiClient, api_kubeconfig: Path) -> client.CustomObjectsApi:
    kubectl = ["kubectl", "--kubeconfig", str(api_kubeconfig)]
    subprocess.run([*kubectl, "apply", "--server-side", "-f", str(ROOT / "crds")], check=True)
    subprocess.run(
        [*kubectl, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"],
        check=True,
    )
    return client.CustomObjectsApi(api)


@pytest.fixture
def archive() -> dict:
    return yaml.safe_load((ROOT / "examples" / "radiology.yaml").read_text())


@pytest.fixture
def peer() -> dict:
    return list(yaml.safe_load_all((ROOT / "examples" / "ct1.yaml").read_text()))[1]
