"""`spec.dicomweb`: absent renders nothing of it; present, every part that it needs and no more."""

import json
import re
from typing import Any

import pytest
from pydantic import ValidationError

from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.gatepeers import LivePeers
from pacs_operator.domain.names import Port
from pacs_operator.render import render_archive
from pacs_operator.render.web import KEPT_CONNECTIONS

from .archives import SPEC, config_data, containers, desired, live_peer, pod_templates

PEERS = LivePeers(revision="r", peers=[live_peer("imaging/ct1", ["198.18.10.11/32"])])


def rendered(web: dict[str, Any] | None = None, **spec: Any) -> list[dict[str, Any]]:
    return render_archive(desired(spec | ({} if web is None else {"dicomweb": web}), peers=PEERS))


def orthanc_json(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(config_data(manifests, "orthanc")["orthanc.json"])
    return found


def names_of(manifests: list[dict[str, Any]], name: str) -> list[str]:
    [template] = [template for workload, template in pod_templates(manifests) if workload["metadata"]["name"] == name]
    return [container["name"] for container in containers(template)]


def test_absent_it_is_nowhere() -> None:
    text = json.dumps(rendered(), default=str)
    for word in (
        str(Port.GATE_WEB),
        str(Port.ORTHANC_WEB),
        "DicomWeb",
        "web.cfg",
        "web.sock",
        "web-tls",
        "web-run",
        "virt@services",
    ):
        assert word not in text
    assert names_of(rendered(), "orthanc") == ["agent", "orthanc"]


def test_present_it_has_a_container_beside_orthanc_and_a_port_at_the_gate() -> None:
    manifests = rendered({"nodePort": 30443})
    assert names_of(manifests, "orthanc") == ["agent", "orthanc", "web"]
    [service] = [m for m in manifests if m["kind"] == "Service" and m["metadata"]["name"] == "gate"]
    https = {"name": "https", "port": 443, "protocol": "TCP", "targetPort": Port.GATE_WEB, "nodePort": 30443}
    assert https in service["spec"]["ports"]
    [inside] = [m for m in manifests if m["kind"] == "Service" and m["metadata"]["name"] == "orthanc"]
    assert {"name": "web", "port": 4444, "protocol": "TCP", "targetPort": 4444} in inside["spec"]["ports"]
    assert {"web.cfg", "web.lua"} <= set(config_data(manifests, "orthanc"))
    assert "web.lua" in config_data(manifests, "gate")
    assert json.loads(config_data(manifests, "gate")["agent.json"])["web"] is True
    assert json.loads(config_data(manifests, "orthanc")["agent.json"])["webSocket"] == "/run/pacs-web/run/web.sock"


def test_what_reads_peers_requests_shares_no_folder_with_orthanc_but_the_public_one() -> None:
    [pod] = [t for workload, t in pod_templates(rendered({})) if workload["metadata"]["name"] == "orthanc"]
    mounts = {c["name"]: {m["name"]: m for m in c["volumeMounts"]} for c in containers(pod)}
    assert mounts["web"].keys() & mounts["orthanc"].keys() <= {"config"}
    assert mounts["web"].keys() & mounts["agent"].keys() == {"config", "web-tls", "web-run"}
    # Each writes where the other only reads: a file planted by one is never written through by the other.
    assert (mounts["web"]["web-tls"].get("readOnly"), mounts["agent"]["web-tls"].get("readOnly")) == (True, None)
    assert (mounts["web"]["web-run"].get("readOnly"), mounts["agent"]["web-run"].get("readOnly")) == (None, True)
    memory = {v["name"] for v in pod["spec"]["volumes"] if v.get("emptyDir", {}).get("medium") == "Memory"}
    assert {"web-tls", "web-run"} <= memory


def test_orthanc_keeps_its_http_on_loopback_and_serves_dicomweb_alone_beside_it() -> None:
    config = orthanc_json(rendered({}))
    assert (config["HttpBindAddresses"], config["RemoteAccessAllowed"]) == (["127.0.0.1"], False)
    assert config["Plugins"][-1].endswith("/libOrthancDicomWeb.so")
    assert (config["DicomWeb"]["EnableWado"], config["DicomWeb"]["Servers"]) == (False, {})


def test_orthanc_has_a_thread_for_each_request_that_all_gates_let_in_and_for_the_agent() -> None:
    replicas, limit = 4, 8
    service = SPEC["gate"] | {"replicas": replicas}
    manifests = rendered({"limits": {"maxConcurrent": limit}}, gate=service)
    config = orthanc_json(manifests)
    assert config["HttpThreadsCount"] > limit * (replicas + 1) + KEPT_CONNECTIONS
    [kept] = re.findall(r"pool-max-conn (\d+) ", config_data(manifests, "orthanc")["web.cfg"])
    assert int(kept) == KEPT_CONNECTIONS


def test_limits_are_those_of_the_spec() -> None:
    limits = {"maxBodyMi": 4096, "requestsPerMinute": 77, "maxConcurrent": 12}
    manifests = rendered({"limits": limits})
    gate, beside = config_data(manifests, "gate")["haproxy.cfg"], config_data(manifests, "orthanc")["web.cfg"]
    for text in (gate, beside):
        assert f"req.body_size gt {4096 * 2**20} " in text
    assert "table_gpc0_rate(web_peers) ge 77 " in gate
    assert "table_conn_cur(web_archive) ge 12 " in gate
    assert f"filter lua.body_limit {4096 * 2**20}\n" in gate


def test_both_sides_hold_requests_against_the_same_patterns() -> None:
    manifests = rendered({})
    texts = (config_data(manifests, "gate")["haproxy.cfg"], config_data(manifests, "orthanc")["web.cfg"])
    found = [re.findall(r"-m reg '(.*?)'", text) for text in texts]
    assert found[0] == found[1]
    assert len(found[0]) == 6


@pytest.mark.parametrize(
    "spec",
    [
        {"dicomweb": {"nodePort": 30762}},
        {
            "dicomweb": {"nodePort": 30801},
            "dicom": {
                "aeTitle": "RADIOLOGY",
                "legacyPorts": {"first": 11112, "last": 11115, "firstNodePort": 30800},
                "staffedHours": {"schedule": "0 8-16 * * 1-5", "timeZone": "Europe/Zurich"},
            },
        },
        {
            "dicomweb": {},
            "dicom": {
                "aeTitle": "RADIOLOGY",
                "legacyPorts": {"first": 4440, "last": 4445},
                "staffedHours": {"schedule": "0 8-16 * * 1-5", "timeZone": "Europe/Zurich"},
            },
        },
    ],
    ids=["the gate's", "a legacy device's", "its own port among the legacy ones"],
)
def test_ports_that_are_taken_are_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpecError, match=r"spec\.dicom"):
        desired(spec)
    desired({**spec, "dicomweb": None})


@pytest.mark.parametrize(
    "limits", [{"maxBodyMi": 0}, {"maxBodyMi": 16385}, {"requestsPerMinute": 0}, {"maxConcurrent": 257}, {"other": 1}]
)
def test_limits_beyond_what_makes_sense_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        desired({"dicomweb": {"limits": limits}})
