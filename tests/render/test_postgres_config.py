"""PostgreSQL's configuration; the same files were run by the database image's server."""

import re
from pathlib import Path

import pytest

from pacs_operator.domain.agentconfig import AgentConfig
from pacs_operator.domain.leaves import leaves_of
from pacs_operator.domain.names import Component
from pacs_operator.render import render_archive

from .archives import config_data, desired

# From `postgres --describe-config` of the database image.
KNOWN = set((Path(__file__).parent / "known" / "postgresql-17.txt").read_text().split())


@pytest.fixture(scope="module")
def data() -> dict[str, str]:
    return config_data(render_archive(desired()), "postgres")


def settings(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    pairs = [re.fullmatch(r"([A-Za-z_]+) = (?:'([^']*)'|(-?\d+))", line) for line in lines]
    assert all(pairs), lines
    return {pair[1]: pair[2] if pair[2] is not None else pair[3] for pair in pairs if pair}


def test_every_setting_is_one_that_postgres_knows(data: dict[str, str]) -> None:
    assert set(settings(data["postgresql.conf"])) <= KNOWN


def test_only_orthancs_certificate_and_the_local_agent_get_in(data: dict[str, str]) -> None:
    rules = [line.split() for line in data["pg_hba.conf"].splitlines() if not line.startswith("#")]
    assert rules == [
        ["local", "all", "postgres", "peer"],
        ["hostssl", "orthanc", "orthanc", "all", "cert", "map=pacs"],
    ]
    [client] = [leaf for leaf in leaves_of(Component.ORTHANC, "radiology") if leaf.name == "postgres-client"]
    assert data["pg_ident.conf"].split() == ["pacs", f'"{client.dns_names[0]}"', "orthanc"]


def test_no_statement_reaches_a_log(data: dict[str, str]) -> None:
    values = settings(data["postgresql.conf"])
    assert values["log_statement"] == "none"
    assert values["log_min_error_statement"] == "panic"
    assert values["log_error_verbosity"] == "terse"
    assert values["log_min_duration_statement"] == "-1"
    assert values["log_parameter_max_length_on_error"] == "0"


def test_an_acknowledged_image_stays_indexed(data: dict[str, str]) -> None:
    values = settings(data["postgresql.conf"])
    assert {values[key] for key in ("fsync", "synchronous_commit", "full_page_writes")} == {"on"}


@pytest.mark.parametrize(
    ("memory", "volume", "buffers", "wal"), [(64, 1, "16MB", "256MB"), (4096, 100, "1024MB", "1024MB")]
)
def test_sizes_follow_memory_and_volume(memory: int, volume: int, buffers: str, wal: str) -> None:
    spec = {
        "database": {"mode": "Managed", "sizeGi": volume, "storageClassName": "fast"},
        "scheduling": {"database": {"memoryMi": memory}},
    }
    values = settings(config_data(render_archive(desired(spec)), "postgres")["postgresql.conf"])
    assert values["shared_buffers"] == buffers
    assert values["max_wal_size"] == wal


def test_files_are_those_the_agent_writes(data: dict[str, str]) -> None:
    agent = AgentConfig.model_validate_json(data["agent.json"])
    values = settings(data["postgresql.conf"])
    leaves = {f"/tls/{leaf.name}.{end}" for leaf in agent.leaves for end in ("crt", "key")}
    assert {values["ssl_cert_file"], values["ssl_key_file"]} <= leaves
    assert values["ssl_ca_file"] in {f"/tls/ca-{ca.value}.pem" for ca in agent.trust}
    assert values["unix_socket_directories"] == agent.postgres_socket_dir
    assert values["ssl_min_protocol_version"] == "TLSv1.3"
