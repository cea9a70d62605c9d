"""An index that somebody else runs: how it is reached, and what it must be."""

import ipaddress
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.identifiers import check_disjoint
from pacs_operator.domain.model import Model

DEFAULT_PORT = 5432
#: The oldest that PostgreSQL's developers still mend (14 ended in November 2026).
MINIMUM_VERSION = 15
#: What Orthanc keeps open, and the agent's own beside it.
ORTHANC_CONNECTIONS = 8
CONNECTIONS_NEEDED = ORTHANC_CONNECTIONS + 2
#: Where text is compared byte by byte: an upgrade of the server's operating system then changes no order.
COLLATIONS = ("C", "POSIX", "C.UTF-8", "C.utf8")
#: Of the agent's problems, what is wrong with the database.
SUBJECT = "database"
#: In the Secret that a person makes.
PASSWORD_KEY = "password"  # noqa: S105  # the name of a key

Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", min_length=1, max_length=63)]
Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9:][A-Za-z0-9.:-]*$", min_length=1, max_length=253)]


class Authentication(Model):
    """How Orthanc shows who it is: its own certificate, or a password that only its pod reads."""

    mode: Literal["ClientCertificate", "Password"]
    password_secret: Annotated[str, Field(min_length=1, max_length=253)] | None = None

    @model_validator(mode="after")
    def _secret_with_password_alone(self) -> Self:
        if (self.mode == "Password") is (self.password_secret is None):
            raise InvalidSpecError(
                f"spec.database.external.authentication.passwordSecret: "
                f"{'missing' if self.password_secret is None else 'given'} while mode is {self.mode}",
                action="name a Secret of the zone archive with mode Password; leave it out with ClientCertificate",
            )
        return self


class ExternalDatabase(Model):
    """A PostgreSQL that the operator does not run."""

    host: Host
    port: Annotated[int, Field(ge=1, le=65535)] = DEFAULT_PORT
    name: Word
    user: Word
    ca_pem: Annotated[str, Field(max_length=32768)]
    ssl_server_name: Host | None = None
    cidrs: Annotated[list[str], Field(min_length=1, max_length=16)]
    authentication: Authentication

    @model_validator(mode="after")
    def _addresses(self) -> Self:
        check_disjoint(self.cidrs, "spec.database.external.cidrs")
        address = _address(self.host)
        if self.ssl_server_name is not None and address is None:
            raise InvalidSpecError(
                "spec.database.external.sslServerName: given while host is a name, which is then verified itself",
                action="write the certificate's name as host, or the server's address as host",
            )
        if address is not None and not any(address in ipaddress.ip_network(cidr) for cidr in self.cidrs):
            raise InvalidSpecError(
                f"spec.database.external.cidrs: {self.host} is in none of them, so that no packet would reach it",
                action=f"add {self.host}/{address.max_prefixlen}",
            )
        return self

    @property
    def server_name(self) -> str:
        """Return the name or address that the server's certificate has to bear."""
        return self.ssl_server_name or self.host

    @property
    def address(self) -> str | None:
        """Return where to connect, where that is not the name that the certificate bears."""
        return self.host if self.ssl_server_name is not None else None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


@dataclass(frozen=True)
class Shortcoming:
    """What keeps a database from being an archive's index.

    Parameters
    ----------
    reason
        Stable word; agent and operator agree on it.
    text
        What is wrong.
    action
        What somebody can do.
    """

    reason: str
    text: str
    action: str


UNREACHABLE = Shortcoming(
    reason="DatabaseUnreachable",
    text="no answer at its address and port",
    action="compare host, port and cidrs with the server's address as pods see it, and firewalls between",
)
NO_TLS = Shortcoming(
    reason="DatabaseWithoutTls",
    text="the server offers no TLS, or is no PostgreSQL",
    action="set ssl = on there; the archive never speaks to a database without TLS",
)
TLS_FAILED = Shortcoming(
    reason="DatabaseTlsFailed",
    text="the TLS handshake failed",
    action="let the server offer TLS 1.2 or later with a modern suite",
)
UNTRUSTED = Shortcoming(
    reason="DatabaseCertificateUntrusted",
    text="no certificate in caPem vouches for the server's certificate, or it has expired",
    action="put the authority that signed it into caPem, or renew the server's certificate",
)
WRONG_NAME = Shortcoming(
    reason="DatabaseNameMismatch",
    text="the server's certificate does not bear the name that is expected (subjectAltName)",
    action="write one of its names as host, or as sslServerName beside an address as host",
)
PASSWORD_MISSING = Shortcoming(
    reason="DatabasePasswordMissing",
    text="the Secret with the password is not there, or its key password is empty or of several lines",
    action="create it in the zone archive: kubectl -n <archive>-archive create secret generic NAME "
    "--from-file=password=FILE",
)
LOGIN_REFUSED = Shortcoming(
    reason="DatabaseLoginRefused",
    text="the server refuses the login",
    action="see the server's log: user, password (scram-sha-256) or mapping of the client certificate's name in "
    "pg_ident.conf, and a hostssl line in pg_hba.conf",
)
MISSING = Shortcoming(
    reason="DatabaseMissing",
    text="there is no database of that name",
    action="create it as docs/database.md says, or correct spec.database.external.name",
)
TOO_FEW_CONNECTIONS = Shortcoming(
    reason="DatabaseTooFewConnections",
    text=f"fewer than the {CONNECTIONS_NEEDED} connections that the archive needs",
    action="raise max_connections, the role's or the database's CONNECTION LIMIT, or close others",
)
TOO_OLD = Shortcoming(
    reason="DatabaseTooOld",
    text=f"the server is older than PostgreSQL {MINIMUM_VERSION}",
    action=f"upgrade it to {MINIMUM_VERSION} or later",
)
READ_ONLY = Shortcoming(
    reason="DatabaseReadOnly",
    text="the server is a standby, or its sessions are read-only",
    action="name the primary as host, or an address that follows it",
)
WRONG_ENCODING = Shortcoming(
    reason="DatabaseWrongEncoding",
    text="the database's encoding is not UTF8",
    action="create it anew as docs/database.md says: TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'",
)
WRONG_COLLATION = Shortcoming(
    reason="DatabaseWrongCollation",
    text="the database sorts text by a language, whose rules change with the server's operating system",
    action="create it anew as docs/database.md says: TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'",
)
PRIVILEGE_MISSING = Shortcoming(
    reason="DatabasePrivilegeMissing",
    text="the user may not connect, use temporary tables, or create tables in its schema",
    action="make the user the database's owner, as docs/database.md says",
)
EXTENSION_MISSING = Shortcoming(
    reason="DatabaseExtensionMissing",
    text="the extension pg_trgm is not there, and the user cannot create it",
    action="CREATE EXTENSION pg_trgm in that database",
)
FOREIGN = Shortcoming(
    reason="DatabaseForeign",
    text="the database holds tables that are not this archive's",
    action="give the archive an empty database of its own; nothing of what is there was touched",
)
FOREIGN_LINEAGE = Shortcoming(
    reason="DatabaseOfAnotherLineage",
    text="the database is the index of another archive's data",
    action="name the database that belongs to these data; nothing of what is there was touched",
)
EMPTY_BESIDE_IMAGES = Shortcoming(
    reason="DatabaseEmptyBesideImages",
    text="the database is empty, but the volume holds images, which nobody would find",
    action="name the database that indexes them, or bring it back from its backup",
)
CHECK_FAILED = Shortcoming(
    reason="DatabaseCheckFailed",
    text="the database broke off while it was looked at",
    action="see the server's log; it is tried again",
)

SHORTCOMINGS = {
    one.reason: one
    for one in (
        UNREACHABLE,
        NO_TLS,
        TLS_FAILED,
        UNTRUSTED,
        WRONG_NAME,
        PASSWORD_MISSING,
        LOGIN_REFUSED,
        MISSING,
        TOO_FEW_CONNECTIONS,
        TOO_OLD,
        READ_ONLY,
        WRONG_ENCODING,
        WRONG_COLLATION,
        PRIVILEGE_MISSING,
        EXTENSION_MISSING,
        FOREIGN,
        FOREIGN_LINEAGE,
        EMPTY_BESIDE_IMAGES,
        CHECK_FAILED,
    )
}
