"""Looks at an index that somebody else runs: before Orthanc may touch it, and every minute after that.

Nothing of what is not ours is touched: the one thing that is ever written is our own mark, into a database without
any table. From then on it is this lineage's, and no other archive's.
"""

import socket
import ssl
import struct
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pacs_operator.agent.errors import AgentError
from pacs_operator.agent.files import PRIVATE, read_if_there, write_atomic
from pacs_operator.domain import database
from pacs_operator.domain.agentconfig import DatabaseAccess
from pacs_operator.domain.database import COLLATIONS, CONNECTIONS_NEEDED, MINIMUM_VERSION, Shortcoming

SECONDS = 10
_VERSION_UNIT = 10_000  # PostgreSQL numbers 17.4 as 170004
# PostgreSQL frontend/backend protocol, SSLRequest: length 8, code 80877103; the server says S before TLS begins.
_SSL_REQUEST = struct.pack("!II", 8, 80877103)
# X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_NAME_MISMATCH = (62, 64)
_MARK_LOCK = 7_020_361_844  # any number, the same for all archives: two that find one empty database take turns

#: libpq tells no code of a refused start, only the server's words; a server that speaks another language is refused
#: with the most general of these.
_WORDS = (
    ("too many", database.TOO_FEW_CONNECTIONS),
    ("remaining connection slots", database.TOO_FEW_CONNECTIONS),
    ("permission denied for database", database.PRIVILEGE_MISSING),
    ("is starting up", database.UNREACHABLE),
    ("is shutting down", database.UNREACHABLE),
    ("not yet accepting connections", database.UNREACHABLE),
    ("timeout expired", database.UNREACHABLE),
)


class DatabaseError(AgentError):
    """The database is not one that the archive may have as its index."""

    def __init__(self, short: Shortcoming) -> None:
        super().__init__(short.text, action=short.action, reason=short.reason)


@dataclass(frozen=True)
class Index:
    """An external index, as one agent looks at it.

    Parameters
    ----------
    access
        Connection, without password, and where the password is.
    lineage_id
        Whose index it has to be.
    images
        The images' volume.
    """

    access: DatabaseAccess
    lineage_id: str
    images: Path

    def look(self) -> int:
        """Return the server's version when the database has all it must have.

        Raises
        ------
        DatabaseError
            It has not; the first thing that is in the way.
        """
        try:
            self._hand_over_password()
            self._greet()
            with self._connect() as connection:
                return self._examine(connection)
        except psycopg.errors.InsufficientPrivilege as error:
            raise DatabaseError(database.PRIVILEGE_MISSING) from error
        except (psycopg.Error, OSError) as error:  # also a key whose new certificate is not written yet
            raise DatabaseError(database.CHECK_FAILED) from error

    def _hand_over_password(self) -> None:
        """Put the password where libpq reads it at each connection; in memory, for this pod's user alone."""
        wanted, place = self.access.password_file, self.access.pass_file
        if wanted is None or place is None:
            return
        try:
            password = Path(wanted).read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DatabaseError(database.PASSWORD_MISSING) from error
        if not password or set(password) & set("\n\r\0"):
            raise DatabaseError(database.PASSWORD_MISSING)
        escaped = password.replace("\\", "\\\\").replace(":", "\\:")
        line, path = f"*:*:*:*:{escaped}\n".encode(), Path(place)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if read_if_there(path) != line:
            write_atomic(path, line, PRIVATE)

    def _greet(self) -> None:
        """Go as far as TLS by hand: libpq has one word for all that can go wrong until then."""
        parts = {key: str(value) for key, value in conninfo_to_dict(self.access.uri).items()}
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies chain and name
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(parts["sslrootcert"])
        if "sslcert" in parts:
            context.load_cert_chain(parts["sslcert"], parts["sslkey"])
        address = (parts.get("hostaddr") or parts["host"], int(parts["port"]))
        try:
            with socket.create_connection(address, timeout=SECONDS) as plain:
                plain.sendall(_SSL_REQUEST)
                if plain.recv(1) != b"S":
                    raise DatabaseError(database.NO_TLS)
                with context.wrap_socket(plain, server_hostname=parts["host"]):
                    return
        except ssl.SSLCertVerificationError as error:
            short = database.WRONG_NAME if error.verify_code in _NAME_MISMATCH else database.UNTRUSTED
            raise DatabaseError(short) from error
        except ssl.SSLError as error:
            raise DatabaseError(database.TLS_FAILED) from error
        except OSError as error:
            raise DatabaseError(database.UNREACHABLE) from error

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        conninfo = make_conninfo(
            self.access.uri,
            application_name="pacs-agent",
            connect_timeout=SECONDS,
            target_session_attrs="any",  # a standby is to be told from a server that is away
            options=f"-c statement_timeout={SECONDS}s -c lock_timeout={SECONDS}s",
        )
        try:
            return psycopg.connect(conninfo, autocommit=True)
        except psycopg.OperationalError as error:
            raise DatabaseError(_refusal(str(error))) from error

    def _examine(self, connection: psycopg.Connection[tuple[object, ...]]) -> int:
        version = connection.info.server_version
        if version < MINIMUM_VERSION * _VERSION_UNIT:
            raise DatabaseError(database.TOO_OLD)
        for statement, parameters, short in _DEMANDS:
            if not _true(connection, statement, parameters):
                raise DatabaseError(short)
        self._claim(connection)
        return version

    def _claim(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        """See that the database is this lineage's, and make it so when it is nobody's."""
        with connection.transaction():
            connection.execute("select pg_advisory_xact_lock(%s)", (_MARK_LOCK,))
            if not _true(connection, _MARKED):
                if not _true(connection, _EMPTY):
                    raise DatabaseError(database.FOREIGN)
                if _holds_images(self.images):
                    raise DatabaseError(database.EMPTY_BESIDE_IMAGES)
                connection.execute(_MAKE_MARK)
                connection.execute("insert into pacs_operator_lineage (lineage) values (%s)", (self.lineage_id,))
            row = connection.execute("select lineage from pacs_operator_lineage").fetchone()
            if row != (self.lineage_id,):
                raise DatabaseError(database.FOREIGN_LINEAGE)


# Statement, its parameters, and what is short when it is not true.
_DEMANDS: tuple[tuple[str, tuple[object, ...], Shortcoming], ...] = (
    ("select not pg_is_in_recovery() and current_setting('transaction_read_only') = 'off'", (), database.READ_ONLY),
    ("select current_setting('server_encoding') = 'UTF8'", (), database.WRONG_ENCODING),
    (
        "select datlocprovider <> 'i' and coalesce(to_jsonb(d) ->> 'datlocale', datcollate) = any(%s)"
        " from pg_database d where datname = current_database()",
        (list(COLLATIONS),),
        database.WRONG_COLLATION,
    ),
    (
        "select current_schema() is not null and has_schema_privilege(current_schema(), 'create')"
        " and has_database_privilege(current_database(), 'temporary')",
        (),
        database.PRIVILEGE_MISSING,
    ),
    (
        "select exists (select from pg_extension where extname = 'pg_trgm')"
        " or (has_database_privilege(current_database(), 'create')"
        " and exists (select from pg_available_extensions where name = 'pg_trgm'))",
        (),
        database.EXTENSION_MISSING,
    ),
    (
        "select %s <= least("
        "current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
        " - coalesce(current_setting('reserved_connections', true)::int, 0),"
        " nullif((select rolconnlimit from pg_roles where rolname = current_user), -1),"
        " nullif((select datconnlimit from pg_database where datname = current_database()), -1))",
        (CONNECTIONS_NEEDED,),
        database.TOO_FEW_CONNECTIONS,
    ),
)

_MARKED = "select to_regclass('pacs_operator_lineage') is not null"

# Tables, views, sequences of anybody but the system and extensions: readable in the catalog whoever owns them.
_EMPTY = """
    select not exists (
      select from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f')
        and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
        and not exists (select from pg_depend d
                        where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'))
"""

# "only" lets there be one row and no second.
_MAKE_MARK = """
    create table pacs_operator_lineage (
      "only" boolean primary key default true check ("only"),
      lineage text not null,
      since timestamptz not null default now())
"""


def _true(
    connection: psycopg.Connection[tuple[object, ...]], statement: str, parameters: tuple[object, ...] | None = None
) -> bool:
    row = connection.execute(statement.encode(), parameters or None).fetchone()
    return bool(row and row[0])


def _refusal(words: str) -> Shortcoming:
    if 'database "' in words and "does not exist" in words:
        return database.MISSING
    return next((short for word, short in _WORDS if word in words), database.LOGIN_REFUSED)


def _holds_images(volume: Path) -> bool:
    """Tell whether something was ever stored: Orthanc's own folders bear two hexadecimal digits, ours is `sealed`."""
    if not volume.is_dir():
        return False
    hexadecimal = set("0123456789abcdef")
    return any(
        (len(one.name) == 2 and set(one.name) <= hexadecimal) or (one.name == "sealed" and any(one.iterdir()))
        for one in volume.iterdir()
        if one.is_dir()
    )
