"""The database image: preparing the data directory, and PostgreSQL serving from it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.machine import free_port

from .conftest import Image, wait_for
from .orthanc_server import instance, orthanc

DATA, INIT = "/var/lib/postgresql/data", "/opt/pacs/bin/database-init"
BIN = "/usr/lib/postgresql/17/bin"


@pytest.fixture
def database(image: Callable[[str], Image]) -> Image:
    return image("database")


@pytest.fixture
def volume(database: Image, tmp_path: Path) -> Path:
    for folder in (tmp_path.parent, tmp_path):
        folder.chmod(0o755)
    return database.owned(tmp_path / "volume")


def prepare(
    database: Image, volume: Path, program: str = INIT, mounts: dict[Path, str] | None = None
) -> tuple[int, str]:
    done = database.run(program, mounts={volume: DATA, **(mounts or {})})
    return done.returncode, done.stderr


@contextmanager
def serving(database: Image, volume: Path, folder: Path) -> Iterator[tuple[int, Callable[[str, str], str]]]:
    """Run PostgreSQL with files given by arguments, as the pod does; yield its port and a way to ask it."""
    port, etc, run = free_port(), folder / "etc", database.owned(folder / "run")
    etc.mkdir(exist_ok=True)
    (etc / "postgresql.conf").write_text(
        f"port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '/run/postgresql'\n"
        "hba_file = '/etc/postgresql/pg_hba.conf'\n"
    )
    (etc / "pg_hba.conf").write_text("local all postgres peer\nhost orthanc orthanc 127.0.0.1/32 trust\n")
    mounts = {volume: DATA, etc: "/etc/postgresql", run: "/run/postgresql"}
    server = database.start(*database.command, log=folder / "log", mounts=mounts)

    def ask(base: str, sql: str) -> str:
        words = [f"{BIN}/psql", "-h", "/run/postgresql", "-p", str(port), "-U", "postgres", "-Atc", sql, base]
        done = database.run(*words, mounts=mounts)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def ready() -> bool:
        assert server.poll() is None, (folder / "log").read_text()
        return (
            database.run(f"{BIN}/pg_isready", "-q", "-h", "/run/postgresql", "-p", str(port), mounts=mounts).returncode
            == 0
        )

    try:
        wait_for(ready, "PostgreSQL answers")
        yield port, ask
    finally:
        server.send_signal(2)  # the image's stop signal
        assert server.wait(timeout=60) == 0


def test_a_fresh_volume_becomes_a_database_for_orthanc(database: Image, volume: Path, tmp_path: Path) -> None:
    assert prepare(database, volume)[0] == 0
    assert (volume / "pgdata").stat().st_mode & 0o777 == 0o700
    with serving(database, volume, tmp_path) as (_, ask):
        assert ask("postgres", "show data_checksums") == "on"
        assert (
            ask(
                "postgres",
                "select rolsuper, rolcanlogin, rolcreatedb, rolpassword is null from pg_authid where rolname='orthanc'",
            )
            == "f|t|f|t"
        )
        owner = (
            "select r.rolname, d.datlocprovider, d.datlocale, pg_encoding_to_char(d.encoding)"
            " from pg_database d join pg_roles r on r.oid = d.datdba where datname = 'orthanc'"
        )
        assert ask("postgres", owner) == "orthanc|b|C.UTF-8|UTF8"
        assert ask("orthanc", "select count(*) from pg_extension where extname='pg_trgm'") == "1"
        assert ask("postgres", "select has_database_privilege('public', 'orthanc', 'connect')") == "f"


def test_a_second_run_changes_nothing(database: Image, volume: Path) -> None:
    assert prepare(database, volume)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in volume.rglob("*")}
    assert prepare(database, volume)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in volume.rglob("*")} == before


@pytest.mark.parametrize(
    "moment", ["pgdata.unfinished", "pgdata.unfinished/global/pg_control", "pgdata.unfinished/base/5"]
)
def test_a_killed_run_starts_again(database: Image, volume: Path, tmp_path: Path, moment: str) -> None:
    killed = database.start(INIT, log=tmp_path / "log", mounts={volume: DATA})
    wait_for(lambda: (volume / moment).exists() or killed.poll() is not None, moment)
    # Some of its children end by themselves between the look and the signal.
    subprocess.run(["kill", "-KILL", str(killed.pid), *children(killed.pid)], check=False)
    killed.wait()
    assert not (volume / "pgdata").exists()
    wait_for(lambda: not alive(volume), "its children are gone")
    assert prepare(database, volume)[0] == 0
    with serving(database, volume, tmp_path) as (_, ask):
        assert ask("orthanc", "select current_database()") == "orthanc"


def children(parent: int) -> list[str]:
    """Return the ids of a process's descendants."""
    try:
        listed = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return []
    return [found for child in listed for found in (child, *children(int(child)))]


def alive(volume: Path) -> bool:
    """Tell whether a program still works in the volume."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(volume) in (process / "mountinfo").read_text():
                return True
        except OSError:
            continue
    return False


def test_failing_sql_is_not_taken_for_a_finished_run(database: Image, volume: Path, tmp_path: Path) -> None:
    broken = tmp_path / "database-init"
    good = (database.root / INIT.lstrip("/")).read_text()
    broken.write_text(good.replace("CREATE EXTENSION pg_trgm", "CREATE EXTENSION no_such_extension"))
    broken.chmod(0o755)
    code, said = prepare(database, volume, mounts={broken: INIT})
    assert code != 0
    assert "no_such_extension" in said
    assert not (volume / "pgdata").exists()
    assert prepare(database, volume)[0] == 0


def test_data_of_another_major_version_is_refused(database: Image, volume: Path) -> None:
    data = database.owned(volume / "pgdata")
    (data / "PG_VERSION").write_text("16\n")
    code, said = prepare(database, volume)
    assert code == 1
    assert "DatabaseMajorVersionMismatch: /var/lib/postgresql/data/pgdata was written by PostgreSQL 16" in said
    assert "pg_dump" in said


def test_unknown_content_is_refused_and_kept(database: Image, volume: Path) -> None:
    data = database.owned(volume / "pgdata")
    (data / "somebody's").write_text("work")
    code, said = prepare(database, volume)
    assert (code, said.startswith("DataDirectoryUnknown:")) == (1, True)
    assert (data / "somebody's").read_text() == "work"


def test_orthanc_keeps_its_index_there_as_an_ordinary_role(
    database: Image, volume: Path, image: Callable[[str], Image], tmp_path: Path
) -> None:
    """With the database away a store is refused, never acknowledged; it works again when it is back."""
    assert prepare(database, volume)[0] == 0
    index = "/usr/share/orthanc/plugins/libOrthancPostgreSQLIndex.so"
    python = "/usr/share/orthanc/plugins/libOrthancPython.so"
    with serving(database, volume, tmp_path) as (port, ask):
        uri = f"postgresql://orthanc@127.0.0.1:{port}/orthanc"
        section = {
            "EnableIndex": True,
            "EnableStorage": False,
            "ConnectionUri": uri,
            "Lock": True,
            "IndexConnectionsCount": 1,
        }
        with orthanc(image("archive"), tmp_path / "orthanc", Plugins=[index, python], PostgreSQL=section) as archive:
            assert archive.store("CT1", instance("1.2.3.4.5.1")) == 0
            assert ask("orthanc", "select count(*) from resources where resourcetype = 3") == "1"
            ask("postgres", "alter database orthanc allow_connections false")
            ask("postgres", "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'orthanc'")
            assert archive.store("CT1", instance("1.2.3.4.5.2")) == 0xA700
            ask("postgres", "alter database orthanc allow_connections true")
            wait_for(lambda: archive.store("CT1", instance("1.2.3.4.5.2")) == 0, "stores again")
