"""A real API server and etcd, without a kubelet: schema, CEL, admission policies and RBAC as Kubernetes means them."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config

ROOT = Path(__file__).parents[2]
TESTBED = ROOT / "testbed" / "testbed"
CHART = ROOT / "charts" / "pacs-operator"
OPERATOR = "system:serviceaccount:pacs-operator-system:pacs-operator"


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


@pytest.fixture(scope="session")
def rendered(api_kubeconfig: Path) -> list[dict[str, Any]]:
    """Return the chart's manifests; helm comes with the API server's programs."""
    values = ["-f", str(ROOT / "tests" / "values.yaml")]
    subprocess.run(["helm", "lint", str(CHART), "--strict", *values], check=True)
    command = ["helm", "template", "pacs-operator", str(CHART), "-n", "pacs-operator-system", *values]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [document for document in yaml.safe_load_all(text) if document]


@pytest.fixture(scope="session")
def plain_manifests(api_kubeconfig: Path) -> str:
    """Return what `make manifests` prints, as the README has it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "manifests", f"VALUES={ROOT / 'tests' / 'values.yaml'}"]
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def chart(
    crds: client.CustomObjectsApi, api: client.ApiClient, api_kubeconfig: Path, plain_manifests: str
) -> client.ApiClient:
    """Install it as somebody without Helm does, with one person on call who may break the glass."""
    kubectl = ["kubectl", "--kubeconfig", str(api_kubeconfig)]
    subprocess.run([*kubectl, "apply", "--server-side", "-f", "-"], input=plain_manifests, text=True, check=True)
    on_call = ["create", "clusterrolebinding", "oncall", "--clusterrole=cluster-admin", "--group=pacs-break-glass"]
    subprocess.run([*kubectl, *on_call], check=True)
    return api


def as_user(api: client.ApiClient, user: str, group: str = "system:authenticated") -> client.ApiClient:
    """Return a client that impersonates; the real API server decides as for that user."""
    other = client.ApiClient(api.configuration)
    other.default_headers["Impersonate-User"] = user
    other.default_headers["Impersonate-Group"] = group
    return other


@pytest.fixture
def archive() -> dict:
    return yaml.safe_load((ROOT / "examples" / "radiology.yaml").read_text())


@pytest.fixture
def peer() -> dict:
    return list(yaml.safe_load_all((ROOT / "examples" / "ct1.yaml").read_text()))[1]
