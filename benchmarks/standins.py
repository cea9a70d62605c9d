"""What an API server without kubelet lacks: controllers and pods, as far as the operator looks at them.

Pods are objects without processes. Their agents are one HTTPS server on loopback that answers the operator's
question over the real mutual TLS, with certificates that the real Vault signed for each pod's own login.
"""

import base64
import json
import ssl
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kubernetes import client, dynamic
from kubernetes.client.exceptions import ApiException
from tests.vault.world import World, leaf

from pacs_operator.domain import names
from pacs_operator.domain.agentconfig import AgentStatus, LeafStatus, StorageTold
from pacs_operator.domain.checks import checks_of
from pacs_operator.domain.gatepeers import LivePeers
from pacs_operator.domain.leaves import leaves_of
from pacs_operator.domain.names import CaName, Component, Port, service_dns
from pacs_operator.domain.results import CheckResult, RunResult
from pacs_operator.domain.times import rfc3339

LOOPBACK = "127.0.0.1"
MERGE_PATCH = "application/merge-patch+json"
OURS = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"
SERVING = (Component.GATE, Component.ORTHANC, Component.POSTGRES)
JOB_LABEL = "batch.kubernetes.io/job-name"
Item = dict[str, Any]


class Controllers:
    """The cluster's own controllers and kubelet, for what the operator waits for.

    Parameters
    ----------
    api
        Client of the cluster's administrator.
    """

    def __init__(self, api: client.ApiClient) -> None:
        self._api = dynamic.DynamicClient(api, discoverer=_NoDiscovery)  # type: ignore[no-untyped-call]  # untyped library

    def turn(self) -> int:
        """Look at everything once, write what is missing, and return how many objects were written."""
        pods = {(p["metadata"]["namespace"], p["metadata"]["name"]): p for p in self._list("/api/v1/pods")}
        written = sum(self._admit(quota) for quota in self._list("/api/v1/resourcequotas"))
        for plural in ("deployments", "statefulsets"):
            written += sum(self._roll(plural, item, pods) for item in self._list(f"/apis/apps/v1/{plural}"))
        written += sum(self._collect(item) for item in self._list("/api/v1/configmaps"))
        return written + sum(self._finish(job, pods) for job in self._list("/apis/batch/v1/jobs"))

    def _collect(self, item: Item) -> int:
        """Let go what was deleted with its dependants first, as the garbage collector does; it has none."""
        data = item["metadata"]
        if not data.get("deletionTimestamp"):
            return 0
        path = f"/api/v1/namespaces/{data['namespace']}/configmaps/{data['name']}"
        self._call("patch", path, {"metadata": {"finalizers": None}})
        return 1

    def _admit(self, quota: Item) -> int:
        """Write a quota's status: without it the API server admits no pod."""
        if (quota.get("status") or {}).get("hard"):
            return 0
        hard = quota["spec"]["hard"]
        self._status(quota, "/api/v1", "resourcequotas", {"hard": hard, "used": dict.fromkeys(hard, "0")})
        return 1

    def _roll(self, plural: str, item: Item, pods: dict[tuple[str, str], Item]) -> int:
        data, wanted = item["metadata"], item["spec"].get("replicas", 1)
        if (item.get("status") or {}).get("observedGeneration") == data["generation"]:
            return 0
        for number in range(wanted):
            name = f"{data['name']}-{number}"
            if (data["namespace"], name) not in pods and not self._pod(data["namespace"], name, item, {}):
                return 0
        counts = dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas", "availableReplicas"), wanted)
        self._status(item, "/apis/apps/v1", plural, {"observedGeneration": data["generation"], **counts})
        return 1

    def _finish(self, job: Item, pods: dict[tuple[str, str], Item]) -> int:
        """End a conformance run as passed: nothing is attacked here, since nothing runs."""
        if (job.get("status") or {}).get("conditions"):
            return 0
        data = job["metadata"]
        asked = checks_of(managed_database=True)  # exactly what the benchmark's archives can be put to
        checks = [CheckResult(check=check, outcome="Passed") for check in sorted(asked)]
        message = RunResult(run=data["name"].removeprefix("conformance-"), replicas=2, checks=checks).to_message()
        name = f"{data['name']}-0"
        if (data["namespace"], name) not in pods and not self._pod(
            data["namespace"], name, job, {"phase": "Succeeded", "message": message}
        ):
            return 0
        now = datetime.now(UTC)
        met = [
            {"type": kind, "status": "True", "lastTransitionTime": rfc3339(now), "lastProbeTime": rfc3339(now)}
            for kind in ("SuccessCriteriaMet", "Complete")
        ]
        ended = {"startTime": rfc3339(now - timedelta(seconds=1)), "completionTime": rfc3339(now), "succeeded": 1}
        zero = {"ready": 0, "terminating": 0, "active": 0, "uncountedTerminatedPods": {}}
        self._status(job, "/apis/batch/v1", "jobs", {"conditions": met, **ended, **zero})
        return 1

    def _pod(self, namespace: str, name: str, owner: Item, end: Item) -> bool:
        """Make a pod that counts as running, or as ended with a message; False while its quota is not yet known."""
        template = owner["spec"]["template"]
        labels = {**template["metadata"]["labels"], **({JOB_LABEL: owner["metadata"]["name"]} if end else {})}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": template["spec"],
        }
        try:
            self._call("post", f"/api/v1/namespaces/{namespace}/pods", pod)
        except ApiException as error:
            if error.status == 403 and "status unknown for quota" in str(error.body):
                return False
            raise
        status: Item = {"phase": end.get("phase", "Running"), "podIP": LOOPBACK, "podIPs": [{"ip": LOOPBACK}]}
        if end:
            main = template["spec"]["containers"][0]
            ended = {"exitCode": 0, "reason": "Completed", "message": end["message"]}
            state = {"name": main["name"], "image": main["image"], "imageID": "", "ready": False, "restartCount": 0}
            status["containerStatuses"] = [{**state, "state": {"terminated": ended}}]
        self._status(pod, "/api/v1", "pods", status)
        return True

    def _list(self, path: str) -> list[Item]:
        return list(self._call("get", path, label_selector=OURS)["items"])

    def _status(self, item: Item, prefix: str, plural: str, status: Item) -> None:
        data = item["metadata"]
        path = f"{prefix}/namespaces/{data['namespace']}/{plural}/{data['name']}/status"
        self._call("patch", path, {"status": status})

    def _call(self, method: str, path: str, body: Item | None = None, **query: str) -> Item:
        form = {"content_type": MERGE_PATCH} if method == "patch" else {}
        answer = self._api.request(method, path, body=body, serialize=False, **form, **query)
        return cast("Item", json.loads(answer.data))


class _NoDiscovery:
    """Paths are known here; discovery would read the whole API first."""

    def __init__(self, _client: object, _cache_file: object) -> None:
        return


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent about handshakes that were refused because the pod asked for has no certificate yet."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # handed on as it came


@dataclass
class _Agent:
    component: Component
    archive: str
    context: ssl.SSLContext
    status: bytes


class Agents:
    """Every pod's control port, told apart by the server name that the operator asks for.

    Parameters
    ----------
    world
        The Vault, and the means to log in as a pod.
    folder
        Where keys pass through on their way into the TLS library.
    """

    def __init__(self, world: World, folder: Path) -> None:
        self._world, self._folder = world, folder
        self._known: dict[str, _Agent] = {}
        base = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        base.verify_mode = ssl.CERT_REQUIRED
        base.sni_callback = self._choose
        self._server = _Server((LOOPBACK, Port.AGENT_CONTROL), _handler(self._known))
        self._server.socket = base.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="agents", daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def equip(self, archives: dict[str, tuple[str, LivePeers]]) -> None:
        """Have agents for archives: by name, their lineage and the peers that gate and Orthanc would serve."""
        todo = [
            (name, *known, component)
            for name, known in archives.items()
            for component in SERVING
            if service_dns(component, name) not in self._known
        ]
        with ThreadPoolExecutor(4) as pool:
            for agent in pool.map(lambda words: self._make(*words), todo):
                self._known[service_dns(agent.component, agent.archive)] = agent

    def _make(self, archive: str, lineage: str, peers: LivePeers, component: Component) -> _Agent:
        wanted = leaf(archive, component, "control")
        key = ec.generate_private_key(ec.SECP256R1())
        pod = self._world.pod(archive, component)
        chain = pod.sign(wanted, lineage, _request(key, wanted.dns_names[0]))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=pod.ca_pem(lineage, CaName.CONTROL))
        pem = self._folder / f"{archive}-{component.value}.pem"
        pem.touch(mode=0o600)
        pem.write_text(_private_pem(key) + chain)
        context.load_cert_chain(pem)
        pem.unlink()
        return _Agent(component, archive, context, _status(component, archive, peers))

    def _choose(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        agent = self._known.get(name or "")
        if agent is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = agent.context
        return None


def _handler(known: dict[str, _Agent]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:  # the base class's name
            agent = known.get(self.headers["Host"])
            body = agent.status if agent and self.path == "/status" else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    return Handler


def _status(component: Component, archive: str, peers: LivePeers) -> bytes:
    now = datetime.now(UTC)
    leaves = [
        LeafStatus(
            name=known.name,
            ca=known.ca,
            serial=base64.b16encode(known.name.encode()).decode().lower()[:40],
            not_before=rfc3339(now),
            not_after=rfc3339(now + timedelta(seconds=known.ttl_seconds)),
            sha256="00" * 32,
            dns_names=list(known.dns_names),
        )
        for known in leaves_of(component, archive)
    ]
    revision = peers.revision if component is not Component.POSTGRES else None
    status = AgentStatus(component=component, version="0", ready=True, peers_revision=revision, leaves=leaves)
    if component is Component.ORTHANC:
        tested = rfc3339(datetime.now(UTC))
        told = StorageTold(active_key=1, keys=1, self_test="Passed", verified=tested)
        status = status.model_copy(update={"storage": told})
    return status.model_dump_json(by_alias=True, exclude_none=True).encode()


def _request(key: ec.EllipticCurvePrivateKey, dns_name: str) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, dns_name)])
    alternatives = x509.SubjectAlternativeName([x509.DNSName(dns_name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject).add_extension(alternatives, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _private_pem(key: ec.EllipticCurvePrivateKey) -> str:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form).decode()
