"""What wakes the operator, its settings, its logs and its health."""

import json
import logging
import urllib.error
import urllib.request
from pathlib import Path

import kopf
import pytest
import structlog

from pacs_operator import logs
from pacs_operator.handlers.health import DEAD_AFTER_SECONDS, Heartbeat, serve
from pacs_operator.handlers.settings import SettingsError, configure_kopf, read_environment
from pacs_operator.handlers.watch import Wakeup, register
from tests.engine.world import PEER_LABEL, archive_manifest, peer_manifest


class Table:
    def __init__(self) -> None:
        self.marks: list[str] = []
        self.wakeup = Wakeup(self.marks.append)

    def woken(self) -> list[str]:
        marks, self.marks[:] = sorted(set(self.marks)), []
        return marks


def event(manifest: dict, kind: str = "MODIFIED", **metadata: object) -> dict:
    return {"type": kind, "object": {**manifest, "metadata": {**manifest["metadata"], **metadata}}}


@pytest.fixture
def table() -> Table:
    table = Table()
    table.wakeup.archive(event(archive_manifest(), "ADDED", generation=1))
    table.wakeup.peer(event(peer_manifest("ct1"), "ADDED", generation=1))
    table.woken()
    return table


def test_our_own_status_write_wakes_nobody_and_an_edit_does(table: Table):
    table.wakeup.archive(event({**archive_manifest(), "status": {"x": 1}}, generation=1))
    assert table.woken() == []
    table.wakeup.archive(event(archive_manifest(), generation=2))
    assert table.woken() == ["radiology"]
    table.wakeup.archive(event(archive_manifest(), generation=2, annotations={"pacs-operator.io/run-conformance": "1"}))
    assert table.woken() == ["radiology"]
    table.wakeup.archive(event(archive_manifest(), "DELETED"))
    assert table.woken() == ["radiology"]


def test_a_peer_wakes_its_archive_and_the_one_it_left(table: Table):
    table.wakeup.peer(event(peer_manifest("ct1", archive="cardiology"), generation=2))
    assert table.woken() == ["cardiology", "radiology"]
    table.wakeup.peer(event(peer_manifest("ct1", archive="cardiology"), "DELETED"))
    assert table.woken() == ["cardiology"]


def namespace(name: str, labels: dict[str, str]) -> dict:
    return {"metadata": {"name": name, "labels": labels}}


def test_labels_of_a_namespace_with_peers_wake_their_archive(table: Table):
    table.wakeup.namespace(event(namespace("imaging", PEER_LABEL), "ADDED"))
    assert table.woken() == ["radiology"]
    table.wakeup.namespace(event(namespace("imaging", PEER_LABEL)))
    assert table.woken() == [], "nothing changed"
    table.wakeup.namespace(event(namespace("imaging", {})))
    assert table.woken() == ["radiology"]
    table.wakeup.namespace(event(namespace("other", {"a": "b"}), "ADDED"))
    assert table.woken() == []


@pytest.mark.parametrize(
    ("space", "labels", "woken"),
    [
        ("radiology-edge", {"pacs-operator.io/archive": "radiology"}, ["radiology"]),
        ("radiology-edge", {}, ["radiology"]),
        ("cardiology-edge", {}, []),
        ("elsewhere", {"pacs-operator.io/archive": "radiology"}, ["radiology"]),
        ("elsewhere", {}, []),
    ],
)
def test_a_child_wakes_its_archive_even_without_its_label(table: Table, space: str, labels: dict, woken: list[str]):
    table.wakeup.child(event({"metadata": {"name": "x", "namespace": space, "labels": labels}}))
    assert table.woken() == woken


def test_a_catalog_wakes_all(table: Table):
    table.wakeup.catalog({})
    assert table.woken() == ["radiology"]


def test_kopf_is_only_an_event_source():
    registry, settings = kopf.OperatorRegistry(), kopf.OperatorSettings()
    configure_kopf(settings)
    register(registry, Wakeup(lambda _: None))
    assert not registry._changing.get_all_handlers(), "handlers with state would write on our objects"
    assert not registry._spawning.get_all_handlers()
    assert len(registry._watching.get_all_handlers()) == 17
    assert settings.peering.standalone
    assert settings.scanning.disabled
    assert not settings.posting.enabled
    assert settings.persistence.finalizer.startswith("pacs-operator.io/")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "ca.pem").write_text("PEM")
    return {
        "PACS_OPERATOR_NAMESPACE": "pacs-operator",
        "PACS_OPERATOR_SERVICE_ACCOUNT": "pacs-operator",
        "PACS_OPERATOR_POD_LABELS": '{"app": "pacs-operator"}',
        "PACS_VAULT_ADDRESS": "https://vault.example:8200",
        "PACS_VAULT_CA_FILE": str(tmp_path / "ca.pem"),
        "PACS_VAULT_AUTH_PATH": "/pacs-kubernetes/",
        "PACS_VAULT_AUDIENCE": "vault",
        "PACS_VAULT_CIDRS": "198.18.0.10/32, 198.18.0.11/32",
    }


def test_the_environment(env: dict[str, str]):
    read = read_environment(env)
    assert read.settings.vault.cidrs == ("198.18.0.10/32", "198.18.0.11/32")
    assert (read.settings.vault.port, read.settings.vault.auth_path) == (8200, "pacs-kubernetes")
    assert read.settings.cluster.dns_pod_labels == {"k8s-app": "kube-dns"}
    assert (read.health_port, read.metrics_port) == (8080, 9090)
    assert read.settings.other_vaults == frozenset()
    more = env | {"PACS_VAULT_OTHERS": "https://a.example:8200,https://b.example/"}
    assert read_environment(more).settings.other_vaults == {"https://a.example:8200", "https://b.example"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PACS_VAULT_ADDRESS", ""),
        ("PACS_VAULT_ADDRESS", "http://vault.example"),
        ("PACS_VAULT_OTHERS", "https://vault.example,http://vault.example"),
        ("PACS_VAULT_CIDRS", "0.0.0.0/0"),
        ("PACS_VAULT_CIDRS", "nonsense"),
        ("PACS_VAULT_CA_FILE", "/nowhere/ca.pem"),
        ("PACS_OPERATOR_POD_LABELS", "app=x"),
        ("PACS_OPERATOR_POD_LABELS", "{}"),
        ("PACS_HEALTH_PORT", "99999"),
    ],
)
def test_a_bad_environment_names_the_variable(env: dict[str, str], name: str, value: str):
    with pytest.raises(SettingsError, match=name) as caught:
        read_environment(env | {name: value})
    assert caught.value.action


SECRETS = {
    "pem": "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIB\n-----END EC PRIVATE KEY-----",
    "jwt": "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJlLXBhcnQ",
    "vault": "hvs.CAESIJ1x2y3z4a5b6c7d8e9f0",
    "openbao": "s.CAESIJ1x2y3z4a5b6c7d8e9f0",
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_no_secret_passes_the_log(secret: str, capsys: pytest.CaptureFixture[str]):
    handlers, level = logging.root.handlers, logging.root.level
    try:
        logs.configure()
        log = structlog.get_logger("test")
        log.warning(
            "plain", message=f"answer was {secret}", nested={"list": [secret]}, password="hunter2", token=secret
        )
        logging.getLogger("library").warning("library said %s", secret)
        try:
            raise ValueError(secret)
        except ValueError:
            log.exception("failed")
        captured = capsys.readouterr().out
    finally:
        logging.root.handlers, logging.root.level = handlers, level
        structlog.reset_defaults()
    lines = [json.loads(line) for line in captured.splitlines()]
    assert [line["event"] for line in lines][0::2] == ["plain", "failed"]
    for part in (secret, secret[10:30], "hunter2", "MHcCAQEEIB"):
        assert part not in captured
    assert captured.count("[redacted]") >= 5


def ask(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_health_fails_when_no_work_goes_through():
    times = [0.0]
    heartbeat = Heartbeat(lambda: times[0])
    server = serve(heartbeat, 0)
    try:
        port = server.server_address[1]
        assert ask(port, "/healthz") == 200
        times[0] = DEAD_AFTER_SECONDS
        assert ask(port, "/healthz") == 503
        heartbeat.beat()
        assert ask(port, "/healthz") == 200
        assert ask(port, "/anything") == 404
    finally:
        server.shutdown()
        server.server_close()
