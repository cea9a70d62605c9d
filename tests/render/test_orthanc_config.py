"""Orthanc ignores a misspelt key without a word, so every key is compared with those it documents."""

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from pacs_operator.domain.agentconfig import AgentConfig
from pacs_operator.domain.leaves import leaves_of
from pacs_operator.domain.names import Component
from pacs_operator.domain.probepeers import probe_peers
from pacs_operator.render import render_archive
from pacs_operator.render.orthanc_config import render

from .archives import config_data, desired

# From `Orthanc --config -` and `Orthanc --advanced-config -` of the archive image.
KNOWN = set((Path(__file__).parent / "known" / "orthanc-1.13.0.txt").read_text().split())
# Plugins' settings; each was found in the plugins' binaries, and proven with a running Orthanc and PostgreSQL.
PYTHON_PLUGIN = {"PythonScript", "PythonVerbose"}
SECTIONS = {
    "PostgreSQL": {
        "EnableIndex",
        "EnableStorage",
        "ConnectionUri",
        "Lock",
        "IndexConnectionsCount",
        "MaximumConnectionRetries",
        "ConnectionRetryInterval",
    },
    "PacsArchive": {"ReservedPatientPrefix", "ReservedUidRoot", "ProbeAETitles", "Quarantine"},
}
PLUGIN = Path(__file__).parents[2] / "images" / "archive" / "plugin"


@pytest.fixture(scope="module")
def config() -> dict:
    return json.loads(config_data(render_archive(desired()), "orthanc")["orthanc.json"])


def unknown_keys(config: dict) -> set[str]:
    return set(config) - KNOWN - PYTHON_PLUGIN - set(SECTIONS)


def test_every_key_is_one_that_orthanc_knows(config: dict) -> None:
    assert unknown_keys(config) == set()
    for section, known in SECTIONS.items():
        assert set(config[section]) <= known


def test_a_misspelt_key_would_be_seen(config: dict) -> None:
    assert unknown_keys(config | {"DicomCheckCalledAET": True}) == {"DicomCheckCalledAET"}


def test_nobody_has_a_right_by_default(config: dict) -> None:
    allowed = {key: value for key, value in config.items() if key.startswith("DicomAlwaysAllow")}
    assert set(allowed) == {key for key in KNOWN if key.startswith("DicomAlwaysAllow")}
    assert len(allowed) == 6
    assert not any(allowed.values())
    assert "DicomModalities" not in config  # the agent's part: it comes and goes without a restart
    assert config["DicomModalitiesInDatabase"] is False
    assert config["DicomCheckCalledAet"] is True
    aliased = render_archive(desired({"dicom": {"aeTitle": "RADIOLOGY", "aliases": ["OLD"]}}))
    assert json.loads(config_data(aliased, "orthanc")["orthanc.json"])["DicomCheckCalledAet"] is False
    assert config["StrictAetComparison"] is True


def test_tls_minimum_comes_with_the_suites(config: dict) -> None:
    """Either alone lets CBC or TLS 1.0 in."""
    assert config["DicomTlsMinimumProtocolVersion"] == 4
    assert len(config["DicomTlsCiphersAccepted"]) == 4
    assert all(suite.startswith("ECDHE-") and "-GCM-" in suite for suite in config["DicomTlsCiphersAccepted"])
    assert config["DicomTlsRemoteCertificateRequired"] is True


def test_nothing_is_ever_recycled_or_answered_from_memory(config: dict) -> None:
    assert (config["MaximumStorageSize"], config["MaximumPatientCount"]) == (0, 0)
    assert config["MaximumStorageMode"] == "Reject"
    assert config["OverwriteInstances"] == "IfChanged"
    assert config["MaximumStorageCacheSize"] == 0
    assert config["SyncStorageArea"] is True
    assert config["LimitFindResults"] >= 10_000
    assert config["LimitFindInstances"] >= 10_000


def test_http_is_for_the_pod_alone(config: dict) -> None:
    assert config["HttpBindAddresses"] == ["127.0.0.1"]
    assert config["RemoteAccessAllowed"] is False
    assert not any(config[key] for key in ("ExecuteLuaEnabled", "WebDavEnabled", "RestApiWriteToFileSystemEnabled"))
    agent = AgentConfig.model_validate_json(config_data(render_archive(desired()), "orthanc")["agent.json"])
    assert agent.orthanc_url == f"http://{config['HttpBindAddresses'][0]}:{config['HttpPort']}"


@pytest.mark.parametrize(("replicas", "associations"), [(1, 1), (2, 64), (10, 512)])
def test_threads_exceed_what_all_gates_let_through_during_a_rollout(replicas: int, associations: int) -> None:
    spec = {"gate": {"service": {"type": "NodePort"}, "replicas": replicas, "maxAssociations": associations}}
    assert render(desired(spec))["DicomThreadsCount"] > (replicas + 1) * associations


def test_database_is_reached_with_verification_and_without_password(config: dict) -> None:
    uri = urlsplit(config["PostgreSQL"]["ConnectionUri"])
    assert (uri.scheme, uri.username, uri.password) == ("postgresql", "orthanc", None)
    assert (uri.hostname, uri.port, uri.path) == ("postgres.radiology-data.svc", 5432, "/orthanc")
    options = parse_qs(uri.query)
    assert options["sslmode"] == ["verify-full"]
    assert options["ssl_min_protocol_version"] == ["TLSv1.3"]
    [server] = [leaf for leaf in leaves_of(Component.POSTGRES, "radiology") if leaf.name == "postgres-server"]
    assert uri.hostname in server.dns_names
    assert set(config["PostgreSQL"]) & {"Host", "Password", "Username"} == set()


def test_files_are_those_the_agent_writes(config: dict) -> None:
    agent = AgentConfig.model_validate_json(config_data(render_archive(desired()), "orthanc")["agent.json"])
    written = {f"/tls/ca-{ca.value}.pem" for ca in agent.trust}
    written |= {f"/tls/{leaf.name}.{end}" for leaf in agent.leaves for end in ("crt", "key", "pem")}
    options = parse_qs(urlsplit(config["PostgreSQL"]["ConnectionUri"]).query)
    named = {value for value in config.values() if isinstance(value, str) and value.startswith("/tls/")}
    named |= {options[key][0] for key in ("sslrootcert", "sslcert", "sslkey")}
    assert len(named) == 6 - 1  # the root serves both sides
    assert named <= written


def test_the_archive_plugin_accepts_its_settings(config: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin's own reading, so that section and keys cannot drift apart."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    from pacs_rules import Reserved

    reserved = Reserved.from_configuration(config)
    for peer in probe_peers("radiology"):
        assert set(peer.ae_titles) <= reserved.probe_aets
    assert reserved.owns_patient("PACSPROBE-run1")
    assert not reserved.owns_patient("12345")
