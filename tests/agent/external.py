"""A PostgreSQL that somebody else runs, with TLS, and one archive's way to it as the operator renders it."""

import itertools
import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pacs_operator.agent.database import Index
from pacs_operator.domain.agentconfig import DATABASE_CA_FILE, DATABASE_PASS_FILE, TLS_DIR, DatabaseAccess
from pacs_operator.domain.names import CaName
from pacs_operator.render import database as rendered
from tests.agent.support import LINEAGE, Authority
from tests.images.conftest import Image, wait_for
from tests.machine import free_port
from tests.render.archives import desired

NAME = "db.hospital.example"
DATA = "/var/lib/postgresql/data"
PASSWORD = "p:w\\d=% '\"é"  # what a file format or an address could trip over
ORTHANC = "orthanc.rad-archive.svc"  # as its client certificate has it


class Server:
    """The server, and its administrator."""

    def __init__(self, image: Image, folder: Path) -> None:
        self.image, self.folder, self.port = image, folder, free_port()
        self.authority = Authority("hospital", lambda: datetime.now(UTC) - timedelta(seconds=30))
        self.internal = Authority(CaName.INTERNAL.value, lambda: datetime.now(UTC) - timedelta(seconds=30))
        self.etc, self.run = folder / "etc", image.owned(folder / "run")
        self.etc.mkdir()
        for point in ("run/pacs", "etc/pacs"):  # what a container runtime makes for mounts
            (image.root / point).mkdir(parents=True, exist_ok=True)
        self.mounts = {image.owned(folder / "data"): DATA, self.run: "/run/pacs", self.etc: "/etc/pacs"}
        self._numbers = itertools.count()
        self.process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        done = self.image.run("/opt/pacs/bin/database-init", mounts=self.mounts)
        assert done.returncode == 0, done.stderr
        me = pwd.getpwuid(os.getuid()).pw_name
        write_leaf(self.authority, self.etc, "server", [NAME])
        (self.etc / "clients.pem").write_text(self.internal.pem())
        (self.etc / "pg_hba.conf").write_text(
            "local all postgres peer map=admin\n"
            "hostssl all certified 127.0.0.1/32 cert map=pacs\n"
            "hostssl all all 127.0.0.1/32 scram-sha-256\n"
        )
        (self.etc / "pg_ident.conf").write_text(f"admin {me} postgres\npacs {ORTHANC} certified\n")
        subprocess.run(["chown", "-R", f"{self.image.uid}:{self.image.uid}", str(self.etc)], check=True)

    def start(self, **settings: str) -> None:
        known = {
            "data_directory": f"{DATA}/pgdata", "hba_file": "/etc/pacs/pg_hba.conf",
            "ident_file": "/etc/pacs/pg_ident.conf", "port": str(self.port), "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "/run/pacs", "ssl": "on", "ssl_cert_file": "/etc/pacs/server.crt",
            "ssl_key_file": "/etc/pacs/server.key", "ssl_ca_file": "/etc/pacs/clients.pem", "fsync": "off", **settings,
        }  # fmt: skip
        text = "".join(f"{key} = '{value}'\n" for key, value in known.items())
        (self.etc / "postgresql.conf").write_text(text)
        command = [self.image.command[0], "-c", "config_file=/etc/pacs/postgresql.conf"]
        self.process = self.image.start(*command, log=self.folder / "log", mounts=self.mounts)
        wait_for(self._answers, "PostgreSQL answers")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            self.ask("select true")
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(2)  # the image's stop signal
            self.process.wait(60)
            self.process = None

    def ask(self, statement: str, base: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement as the administrator."""
        with psycopg.connect(
            host=str(self.run), port=self.port, user="postgres", dbname=base, autocommit=True
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def database(self, how: str = "encoding 'UTF8' locale 'C.UTF-8'", owner: str = "orthanc", trgm: bool = True) -> str:
        """Make an empty database as docs/database.md says; return its name."""
        name = f"index{next(self._numbers)}"
        self.ask(f"create database {name} owner {owner} template template0 {how}")
        if trgm:
            self.ask("create extension pg_trgm", name)
        return name

    def tables(self, base: str) -> set[str]:
        found = "select relname from pg_class c join pg_namespace n on n.oid = relnamespace where relkind = 'r'"
        return {str(row[0]) for row in self.ask(f"{found} and nspname !~ '^(pg_|information_schema)'", base)}


def write_leaf(authority: Authority, folder: Path, name: str, names: list[str]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = authority.issue(names, key.public_key(), timedelta(days=1))
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (folder / f"{name}.key").write_bytes(pem)
    (folder / f"{name}.key").chmod(0o600)
    assert x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


@contextmanager
def serving(image: Image, folder: Path) -> Iterator[Server]:
    server = Server(image, folder)
    server.prepare()
    try:
        server.start()
        server.ask("create role certified login")
        with psycopg.connect(host=str(server.run), port=server.port, user="postgres", dbname="postgres") as admin:
            stored = admin.pgconn.encrypt_password(PASSWORD.encode(), b"orthanc", b"scram-sha-256").decode()
            admin.execute(f"alter role orthanc password '{stored}'".encode())
        yield server
    finally:
        server.stop()


class Way:
    """What the operator renders for one database, with a pod's folders moved to the test's."""

    def __init__(self, server: Server, folder: Path, base: str, *, password: bool = True, **external: Any) -> None:
        self.server, self.folder = server, folder
        self.secret, self.images = folder / "password", folder / "images"
        self.images.mkdir(exist_ok=True)
        self.secret.write_text(f"{PASSWORD}\n")
        (folder / "database-ca.pem").write_text(server.authority.pem())
        write_leaf(server.internal, folder, "postgres-client", [ORTHANC])
        spec = {
            "host": "127.0.0.1", "port": server.port, "name": base, "user": "orthanc" if password else "certified",
            "caPem": server.authority.pem(), "sslServerName": NAME, "cidrs": ["127.0.0.1/32"],
            "authentication": {"mode": "Password", "passwordSecret": "index"} if password
            else {"mode": "ClientCertificate"},
            **external,
        }  # fmt: skip
        access = rendered.access(desired({"database": {"mode": "External", "external": spec}}))
        assert access
        self.rendered = self.uri = access.uri
        for inside, outside in (
            (DATABASE_CA_FILE, folder / "database-ca.pem"),
            (DATABASE_PASS_FILE, folder / "orthanc" / "pgpass"),
            (f"{TLS_DIR}/", f"{folder}/"),
        ):
            self.uri = self.uri.replace(inside, str(outside))
        self.access = DatabaseAccess(
            uri=self.uri,
            password_file=str(self.secret) if access.password_file else None,
            pass_file=str(folder / "orthanc" / "pgpass") if access.pass_file else None,
        )

    def index(self, lineage: str = LINEAGE) -> Index:
        return Index(self.access, lineage, self.images)
