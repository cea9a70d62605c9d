"""PostgreSQL's three files: TLS 1.3 with client certificates and nothing else; no statement in a log."""

from pacs_operator.domain.agentconfig import CONFIG_DIR, RUN_DIR, TLS_DIR
from pacs_operator.domain.facts import Desired
from pacs_operator.domain.names import Component, Port, service_dns
from pacs_operator.render import sizes

DATA_DIR = "/var/lib/postgresql/data"

_IDENT_MAP = "pacs"
_DATABASE = "orthanc"
_ROLE = "orthanc"
_MEBI_PER_GIBI = 1024


def files(desired: Desired) -> dict[str, str]:
    """Return ``postgresql.conf``, ``pg_hba.conf`` and ``pg_ident.conf``."""
    return {
        "postgresql.conf": _settings(desired),
        "pg_hba.conf": (
            "# The agent beside the server, by its uid.\n"
            "local all postgres peer\n"
            "# Orthanc, by its certificate.\n"
            f"hostssl {_DATABASE} {_ROLE} all cert map={_IDENT_MAP}\n"
        ),
        "pg_ident.conf": (f'{_IDENT_MAP} "{service_dns(Component.ORTHANC, desired.archive.name)}" {_ROLE}\n'),
    }


def _settings(desired: Desired) -> str:
    memory = sizes.main(desired, Component.POSTGRES).memory_mi
    volume = (desired.archive.spec.database.size_gi or 1) * _MEBI_PER_GIBI
    groups: dict[str, dict[str, str | int]] = {
        "Where things are": {
            "data_directory": f"{DATA_DIR}/pgdata",
            "hba_file": f"{CONFIG_DIR}/pg_hba.conf",
            "ident_file": f"{CONFIG_DIR}/pg_ident.conf",
            "unix_socket_directories": RUN_DIR,
            "listen_addresses": "*",
            "port": Port.POSTGRES,
        },
        # Revocation lists are not consulted: leaves live a week, and an expired list would stop the archive.
        "Who may speak": {
            "ssl": "on",
            "ssl_cert_file": f"{TLS_DIR}/postgres-server.crt",
            "ssl_key_file": f"{TLS_DIR}/postgres-server.key",
            "ssl_ca_file": f"{TLS_DIR}/ca-internal.pem",
            "ssl_min_protocol_version": "TLSv1.3",
            "password_encryption": "scram-sha-256",
            "max_connections": 40,
        },
        "An acknowledged image is indexed for good": {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
        },
        "Sizes, from the memory limit and the volume": {
            "shared_buffers": f"{memory // 4}MB",
            "effective_cache_size": f"{memory // 2}MB",
            "work_mem": "4MB",
            "maintenance_work_mem": f"{max(16, memory // 16)}MB",
            "max_wal_size": f"{min(1024, volume // 4)}MB",
            "min_wal_size": "80MB",
            "wal_compression": "on",
            "huge_pages": "off",
            "max_parallel_workers_per_gather": 0,
            "jit": "off",
        },
        # Statements and error details hold patients' names.
        "What is logged": {
            "log_destination": "stderr",
            "logging_collector": "off",
            "log_line_prefix": "%m [%p] %b ",
            "log_timezone": "UTC",
            "TimeZone": "UTC",
            "log_statement": "none",
            "log_min_error_statement": "panic",
            "log_error_verbosity": "terse",
            "log_min_duration_statement": -1,
            "log_parameter_max_length": 0,
            "log_parameter_max_length_on_error": 0,
            "log_checkpoints": "off",
        },
        # A connection whose other end vanished must not hold the index's lock.
        "Dead connections": {
            "tcp_keepalives_idle": 30,
            "tcp_keepalives_interval": 10,
            "tcp_keepalives_count": 3,
        },
    }
    return "\n".join(_group(title, settings) for title, settings in groups.items())


def _group(title: str, settings: dict[str, str | int]) -> str:
    lines = [f"# {title}"]
    lines += [f"{key} = {value}" if isinstance(value, int) else f"{key} = '{value}'" for key, value in settings.items()]
    return "\n".join(lines) + "\n"
