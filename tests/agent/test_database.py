"""An external index against a real PostgreSQL with TLS: what is right is taken, and each shortcoming has its word."""

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from pacs_operator.agent import database as checked
from pacs_operator.agent.context import Context
from pacs_operator.agent.database import DatabaseError
from pacs_operator.agent.databasefeed import DatabaseFeed
from pacs_operator.agent.files import used_percent
from pacs_operator.agent.paths import Surroundings
from pacs_operator.domain import database
from pacs_operator.domain.database import SHORTCOMINGS, Shortcoming
from tests.agent.external import ORTHANC, PASSWORD, Server, Way, serving, write_leaf
from tests.agent.support import FakeClock, LocalVault, eventually, gate_config
from tests.images.conftest import Image
from tests.images.orthanc_server import instance, orthanc
from tests.machine import enterable, free_port

OTHER_LINEAGE = "f" * 32


@pytest.fixture(scope="module")
def server(image: Callable[[str], Image], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = enterable(tmp_path_factory.mktemp("external"))
    with serving(image("database"), folder) as made:
        yield made


@pytest.fixture
def way(server: Server, tmp_path: Path) -> Way:
    """Return the way to a database that has all it must have."""
    return Way(server, tmp_path, server.database())


def refused(way: Way, lineage: str | None = None) -> Shortcoming:
    with pytest.raises(DatabaseError) as caught:
        way.index(lineage).look() if lineage else way.index().look()
    assert PASSWORD not in str(caught.value)
    return SHORTCOMINGS[caught.value.reason]


@pytest.mark.parametrize("password", [True, False], ids=["password", "certificate"])
def test_an_empty_database_of_its_own_becomes_the_archives(server: Server, tmp_path: Path, password: bool) -> None:
    base = server.database(owner="orthanc" if password else "certified")
    way = Way(server, tmp_path, base, password=password)
    assert way.index().look() // 10_000 == 17
    assert server.tables(base) == {"pacs_operator_lineage"}
    assert way.index().look() // 10_000 == 17, "and stays so"
    assert refused(way, OTHER_LINEAGE) is database.FOREIGN_LINEAGE
    assert way.index().look()


def test_the_password_is_nowhere_but_in_memory_and_a_new_one_is_taken(way: Way) -> None:
    way.index().look()
    place = way.folder / "orthanc" / "pgpass"
    assert place.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in way.uri
    assert PASSWORD not in way.access.model_dump_json()
    way.secret.write_text("another")
    assert refused(way) is database.LOGIN_REFUSED
    way.secret.write_text(PASSWORD)
    assert way.index().look()


@pytest.mark.parametrize("content", [None, "", "\n", "two\nlines\n"])
def test_a_password_that_is_none(way: Way, content: str | None) -> None:
    if content is None:
        way.secret.unlink()
    else:
        way.secret.write_text(content)
    assert refused(way) is database.PASSWORD_MISSING


def test_a_client_key_whose_certificate_is_not_written_yet(server: Server, tmp_path: Path) -> None:
    """A renewal writes the key first: a look in between ends nothing."""
    way = Way(server, tmp_path, server.database(owner="certified"), password=False)
    key = tmp_path / "postgres-client.key"
    before = key.read_bytes()
    write_leaf(server.internal, tmp_path, "other", [ORTHANC])
    key.write_bytes((tmp_path / "other.key").read_bytes())
    assert refused(way) is database.CHECK_FAILED
    key.write_bytes(before)
    assert way.index().look()


def test_a_password_that_cannot_be_handed_over(way: Way) -> None:
    place = way.folder / "orthanc"
    place.write_text("no folder")
    assert refused(way) is database.CHECK_FAILED
    place.unlink()
    assert way.index().look()


def test_nobody_there(server: Server, tmp_path: Path) -> None:
    assert refused(Way(server, tmp_path, "index", port=free_port())) is database.UNREACHABLE


def test_a_certificate_of_another_authority(way: Way) -> None:
    (way.folder / "database-ca.pem").write_text(way.server.internal.pem())
    assert refused(way) is database.UNTRUSTED


def test_a_certificate_with_another_name(server: Server, tmp_path: Path) -> None:
    way = Way(server, tmp_path, server.database(), sslServerName="db.elsewhere.example")
    assert refused(way) is database.WRONG_NAME
    address = Way(server, tmp_path, server.database(), sslServerName=None)
    assert refused(address) is database.WRONG_NAME, "the certificate does not bear the address either"


@pytest.mark.parametrize(
    ("password", "user"), [(True, "nobody"), (True, "certified"), (False, "orthanc")], ids=str
)  # each may log in by the other way, or not at all
def test_a_login_that_the_server_refuses(server: Server, tmp_path: Path, password: bool, user: str) -> None:
    way = Way(server, tmp_path, server.database(), password=password, user=user)
    assert refused(way) is database.LOGIN_REFUSED


def test_a_client_certificate_of_another_authority(server: Server, tmp_path: Path) -> None:
    way = Way(server, tmp_path, server.database(owner="certified"), password=False)
    write_leaf(server.authority, tmp_path, "postgres-client", [ORTHANC])
    assert refused(way) is database.LOGIN_REFUSED


def test_a_server_that_would_take_the_password_in_clear(server: Server, way: Way) -> None:
    """Inside TLS, but to a server that asks for the password itself instead of proof that it is known."""
    rules = server.etc / "pg_hba.conf"
    before = rules.read_text()
    try:
        rules.write_text(before.replace("scram-sha-256", "password"))
        server.ask("select pg_reload_conf()")
        assert refused(way) is database.LOGIN_REFUSED
    finally:
        rules.write_text(before)
        server.ask("select pg_reload_conf()")
    assert way.index().look()


def test_no_such_database(server: Server, tmp_path: Path) -> None:
    assert refused(Way(server, tmp_path, "no_such")) is database.MISSING


def test_too_old(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked, "MINIMUM_VERSION", 18)  # the image's is 17
    assert refused(way) is database.TOO_OLD
    monkeypatch.setattr(checked, "MINIMUM_VERSION", 17)
    assert way.index().look()


@pytest.mark.parametrize(
    ("how", "short"),
    [
        ("encoding 'UTF8' locale 'C'", None),
        ("encoding 'UTF8' locale_provider builtin builtin_locale 'C.UTF-8' locale 'C'", None),
        ("encoding 'SQL_ASCII' locale 'C'", database.WRONG_ENCODING),
        ("encoding 'UTF8' locale_provider icu icu_locale 'de' locale 'C'", database.WRONG_COLLATION),
    ],
)
def test_encoding_and_collation(server: Server, tmp_path: Path, how: str, short: Shortcoming | None) -> None:
    way = Way(server, tmp_path, server.database(how))
    if short is None:
        assert way.index().look()
    else:
        assert refused(way) is short
        assert server.tables(way.uri.partition("///")[2].partition("?")[0]) == set()


def test_a_foreign_schema_is_never_adopted(server: Server, tmp_path: Path) -> None:
    """Whoever owns it, in whatever schema, and whether or not our user may read it."""
    for statement in (
        "create table public.resources (internalid bigserial)",
        "create schema elsewhere create table elsewhere.t (a int)",
    ):
        base = server.database()
        server.ask(statement, base)
        before = server.tables(base)
        assert refused(Way(server, tmp_path, base)) is database.FOREIGN
        assert server.tables(base) == before, "nothing was touched"


def test_the_views_of_an_extension_are_nobodys_tables(server: Server, tmp_path: Path) -> None:
    base = server.database()
    server.ask("create extension pg_stat_statements", base)
    assert Way(server, tmp_path, base).index().look()


@pytest.mark.parametrize("stored", ["ab", "sealed/2026"])
def test_an_empty_database_does_not_hide_images_that_are_there(way: Way, stored: str) -> None:
    for harmless in ("lost+found", "quarantine", "keys", "sealed"):
        (way.images / harmless).mkdir()
    (way.images / stored).mkdir(parents=True)
    assert refused(way) is database.EMPTY_BESIDE_IMAGES
    (way.images / stored).rmdir()
    assert way.index().look()
    (way.images / stored).mkdir()
    assert way.index().look(), "what is marked is the index of these images"


def test_privileges(server: Server, tmp_path: Path) -> None:
    base = server.database(owner="postgres")
    way = Way(server, tmp_path, base)
    assert refused(way) is database.PRIVILEGE_MISSING  # may create nothing
    server.ask(f"revoke temporary on database {base} from public")
    server.ask("grant create on schema public to orthanc", base)
    assert refused(way) is database.PRIVILEGE_MISSING  # no temporary tables
    server.ask(f"revoke connect on database {base} from public")
    assert refused(way) is database.PRIVILEGE_MISSING
    server.ask(f"grant connect, temporary on database {base} to orthanc")
    assert way.index().look()


def test_the_extension_is_there_or_can_be_made(server: Server, tmp_path: Path) -> None:
    base = server.database(owner="postgres", trgm=False)
    server.ask("grant create on schema public to orthanc", base)
    way = Way(server, tmp_path, base)
    assert refused(way) is database.EXTENSION_MISSING
    server.ask("create extension pg_trgm", base)
    assert way.index().look()
    assert Way(server, tmp_path, server.database(trgm=False)).index().look(), "an owner creates it"


def test_too_few_connections(server: Server, way: Way) -> None:
    base = way.uri.partition("///")[2].partition("?")[0]
    server.ask(f"alter database {base} connection limit 9")
    assert refused(way) is database.TOO_FEW_CONNECTIONS
    server.ask(f"alter database {base} connection limit 0")
    assert refused(way) is database.TOO_FEW_CONNECTIONS, "told by the refusal itself"
    server.ask(f"alter database {base} connection limit 10")
    assert way.index().look()
    server.ask("alter role orthanc connection limit 9")
    try:
        assert refused(way) is database.TOO_FEW_CONNECTIONS
    finally:
        server.ask("alter role orthanc connection limit -1")
    assert way.index().look()


def test_a_session_that_may_only_read(server: Server, way: Way) -> None:
    base = way.uri.partition("///")[2].partition("?")[0]
    server.ask(f"alter database {base} set default_transaction_read_only = on")
    assert refused(way) is database.READ_ONLY
    with pytest.raises(psycopg.OperationalError, match="read-only"):
        psycopg.connect(way.uri)  # Orthanc would not get in either
    server.ask(f"alter database {base} reset default_transaction_read_only")
    assert way.index().look()


def test_a_server_without_tls_and_one_that_is_away(server: Server, way: Way) -> None:
    assert way.index().look()
    server.stop()
    assert refused(way) is database.UNREACHABLE
    server.start(ssl="off")
    try:
        assert refused(way) is database.NO_TLS
    finally:
        server.stop()
        server.start()
    assert way.index().look()


def test_a_standby(server: Server, way: Way) -> None:
    assert way.index().look()
    signal = server.folder / "data" / "pgdata" / "standby.signal"
    server.stop()
    signal.touch()
    subprocess.run(["chown", f"{server.image.uid}:{server.image.uid}", str(signal)], check=True)
    server.start()
    try:
        assert refused(way) is database.READ_ONLY
    finally:
        server.stop()
        signal.unlink()
        server.start()
    assert way.index().look()


async def test_the_feed_waits_at_the_start_and_tells_later(server: Server, tmp_path: Path) -> None:
    """Orthanc starts after the first look that found everything; what goes wrong then is told, and told to be over."""
    base = server.database()
    server.ask(f"alter database {base} connection limit 2")
    way, clock = Way(server, tmp_path, base), FakeClock()
    config = gate_config().model_copy(update={"database": way.access})
    context = Context(config, Surroundings(images=way.images), LocalVault(clock.now), clock)
    feed = DatabaseFeed(context, way.access)
    try:
        waiting = asyncio.create_task(feed.obtain())
        await eventually(lambda: context.problems.standing() == {"database": "DatabaseTooFewConnections"}, "told")
        assert feed.told is None
        assert not waiting.done()
        server.ask(f"alter database {base} connection limit -1")
        await clock.advance(30)
        await eventually(waiting.done, "it goes on")
        assert feed.told
        assert feed.told.server_version // 10_000 == 17
        assert context.problems.standing() == {}
    finally:
        feed.close()


@pytest.mark.parametrize("password", [True, False], ids=["password", "certificate"])
def test_orthanc_keeps_its_index_there(
    server: Server, image: Callable[[str], Image], tmp_path: Path, password: bool
) -> None:
    """With the very address that the operator renders; without the password's file, Orthanc finds no way in."""
    for folder in (tmp_path.parent, tmp_path):
        folder.chmod(0o755)
    base = server.database(owner="orthanc" if password else "certified")
    pod = tmp_path / "pod"
    pod.mkdir()
    way = Way(server, pod, base, password=password)
    way.index().look()
    archive = image("archive")
    mounts = {pod: "/etc/pacs", image_run(archive, tmp_path): "/run/pacs", pod / "tls": "/tls"}
    (pod / "tls").mkdir()
    for file in pod.glob("postgres-client.*"):
        file.rename(pod / "tls" / file.name)
    if password:
        (tmp_path / "run" / "orthanc").mkdir()
        (pod / "orthanc" / "pgpass").rename(tmp_path / "run" / "orthanc" / "pgpass")
    subprocess.run(["chown", "-R", f"{archive.uid}:{archive.uid}", str(tmp_path / "run"), str(pod)], check=True)
    section = {
        "EnableIndex": True, "EnableStorage": False, "ConnectionUri": way.rendered, "Lock": True,
        "IndexConnectionsCount": database.ORTHANC_CONNECTIONS,
    }  # fmt: skip
    plugins = [f"/usr/share/orthanc/plugins/libOrthanc{name}.so" for name in ("PostgreSQLIndex", "Python")]
    with orthanc(archive, tmp_path / "server", mounts, Plugins=plugins, PostgreSQL=section) as running:
        assert running.store("CT1", instance("1.2.3.4.5.1")) == 0
        assert server.ask("select count(*) from resources where resourcetype = 3", base) == [(1,)]
        assert {"pacs_operator_lineage", "resources"} <= server.tables(base)
        held = server.ask(f"select count(*) from pg_stat_activity where datname = '{base}'")
        assert held <= [(database.CONNECTIONS_NEEDED,)]


def image_run(image: Image, folder: Path) -> Path:
    for point in ("run/pacs", "etc/pacs", "tls"):  # what a container runtime makes for mounts
        (image.root / point).mkdir(parents=True, exist_ok=True)
    return image.owned(folder / "run")


def test_how_full_a_volume_is_tells_only_who_has_it(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    assert used_percent(tmp_path / "nowhere") is None
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", str(folder)], check=True)
    try:
        assert used_percent(folder) == 0
        (folder / "image").write_bytes(bytes(8 * 2**20))
        assert used_percent(folder) == 80
        with pytest.raises(OSError, match="space"):
            (folder / "more").write_bytes(bytes(8 * 2**20))
        assert used_percent(folder) == 100
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
