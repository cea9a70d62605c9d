"""How Orthanc reaches its index: its own PostgreSQL, or one that somebody else runs. No password stands in it."""

from urllib.parse import urlencode

from pacs_operator.domain.agentconfig import (
    DATABASE_CA_FILE,
    DATABASE_PASS_FILE,
    DATABASE_SECRET_DIR,
    TLS_DIR,
    DatabaseAccess,
)
from pacs_operator.domain.database import PASSWORD_KEY, ExternalDatabase
from pacs_operator.domain.facts import Desired
from pacs_operator.domain.names import Component, Port, service_dns
from pacs_operator.render import pods
from pacs_operator.render.manifests import Manifest

SECRET_VOLUME = "database"  # noqa: S105  # a volume's name
_READ_BY_GROUP = 0o440


def connection_uri(desired: Desired) -> str:
    """Return the connection as libpq reads it: the server verified, in every case.

    Revocation lists are not consulted here: leaves live a week, and an expired list would stop the archive.
    """
    external = desired.archive.spec.database.external
    if external is not None:
        return _external_uri(external)
    host = service_dns(Component.POSTGRES, desired.archive.name)
    options = {
        "sslmode": "verify-full",
        "sslrootcert": f"{TLS_DIR}/ca-internal.pem",
        **_CERTIFICATE,
        "ssl_min_protocol_version": "TLSv1.3",
        **_ALWAYS,
    }
    return f"postgresql://orthanc@{host}:{Port.POSTGRES}/orthanc?{urlencode(options, safe='/')}"


_CERTIFICATE = {
    "sslcert": f"{TLS_DIR}/postgres-client.crt",
    "sslkey": f"{TLS_DIR}/postgres-client.key",
}
_ALWAYS = {
    "gssencmode": "disable",
    "connect_timeout": "10",
    "application_name": "orthanc",
}


def _external_uri(external: ExternalDatabase) -> str:
    """Return the connection to somebody else's server.

    A password stands in a file that libpq reads at each new connection: a new one needs no restart. It is shown to
    nobody, SCRAM proves that it is known.
    """
    if external.authentication.mode == "Password":
        login = {"passfile": DATABASE_PASS_FILE, "require_auth": "scram-sha-256", "sslcertmode": "disable"}
    else:
        login = _CERTIFICATE
    options = {
        "host": external.server_name,
        **({"hostaddr": external.address} if external.address else {}),
        "port": str(external.port),
        "user": external.user,
        "sslmode": "verify-full",
        "sslrootcert": DATABASE_CA_FILE,
        **login,
        "ssl_min_protocol_version": "TLSv1.2",
        # A connection whose other end vanished must not look like one that works.
        "keepalives_idle": "30",
        "keepalives_interval": "10",
        "keepalives_count": "3",
        "target_session_attrs": "read-write",
        **_ALWAYS,
    }
    return f"postgresql:///{external.name}?{urlencode(options, safe='/:')}"


def files(desired: Desired) -> dict[str, str]:
    """Return the files of Orthanc's ConfigMap that an external index needs."""
    external = desired.archive.spec.database.external
    return {DATABASE_CA_FILE.rpartition("/")[2]: external.ca_pem} if external else {}


def access(desired: Desired) -> DatabaseAccess | None:
    """Return what Orthanc's agent knows of an external index; None where the operator runs it."""
    external = desired.archive.spec.database.external
    if external is None:
        return None
    password = external.authentication.password_secret is not None
    return DatabaseAccess(
        uri=connection_uri(desired),
        password_file=f"{DATABASE_SECRET_DIR}/{PASSWORD_KEY}" if password else None,
        pass_file=DATABASE_PASS_FILE if password else None,
    )


def volumes(desired: Desired) -> list[Manifest]:
    """Return the Secret with the password, where there is one.

    Optional: the pod starts without it, so that its agent can say what is missing.
    """
    secret = _secret(desired)
    if secret is None:
        return []
    items = [{"key": PASSWORD_KEY, "path": PASSWORD_KEY}]
    source = {"secretName": secret, "items": items, "defaultMode": _READ_BY_GROUP, "optional": True}
    return [{"name": SECRET_VOLUME, "secret": source}]


def mounts(desired: Desired) -> list[Manifest]:
    """Return where the agent, and it alone, finds the password."""
    return [] if _secret(desired) is None else [pods.mount(SECRET_VOLUME, DATABASE_SECRET_DIR)]


def _secret(desired: Desired) -> str | None:
    external = desired.archive.spec.database.external
    return external.authentication.password_secret if external else None
