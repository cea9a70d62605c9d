"""HAProxy's socket when it does not behave."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pacs_operator.agent.errors import NeighbourError
from pacs_operator.agent.haproxy import HaproxyRefusedError, HaproxySilentError, RuntimeSocket

Serve = Callable[[bytes | None], "asyncio.Future[RuntimeSocket]"]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[[bytes | None], "asyncio.Task[RuntimeSocket]"]]:
    """Return a maker of sockets that answer one thing to everything; None: nothing at all."""
    servers: list[asyncio.Server] = []

    async def make(answer: bytes | None) -> RuntimeSocket:
        path = tmp_path / f"{len(servers)}.sock"

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            if answer is None:
                await reader.read(-1)  # until the client gives up
            else:
                writer.write(answer)
                await writer.drain()
            writer.close()

        servers.append(await asyncio.start_unix_server(handle, path))
        return RuntimeSocket(path)

    yield lambda answer: asyncio.ensure_future(make(answer))
    for server in servers:
        server.close()


async def test_silence(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pacs_operator.agent.haproxy.ANSWER_SECONDS", 0.2)
    runtime = await serve(None)
    with pytest.raises(HaproxySilentError):
        await runtime.ask("show info")


async def test_absence(tmp_path: Path) -> None:
    with pytest.raises(NeighbourError, match="cannot be used"):
        await RuntimeSocket(tmp_path / "nobody.sock").ask("show info")


async def test_an_unknown_map_is_not_an_empty_one(serve: Serve) -> None:
    runtime = await serve(b"Unknown map identifier. Please use #<id> or <file>.\n\n")
    with pytest.raises(HaproxyRefusedError, match="no map virt@identity"):
        await runtime.read_map("virt@identity")
    assert await (await serve(b"\n")).read_map("virt@identity") == []
    assert await (await serve(b"0x1 a 000\n0x2 a 001\n\n")).read_map("virt@identity") == [("a", "000"), ("a", "001")]


async def test_statistics_of_another_form(serve: Serve) -> None:
    with pytest.raises(HaproxyRefusedError, match="another form"):
        await (await serve(b"# pxname,svname\nslot_000,BACKEND\n")).loads()


async def test_any_answer_to_a_change_is_a_refusal(serve: Serve) -> None:
    with pytest.raises(HaproxyRefusedError, match="refused 'add map': Permission denied"):
        await (await serve(b"Permission denied\n\n")).add_entry("virt@ids", "000", "imaging/ct1")


@pytest.mark.parametrize("word", ["a b", "a;show env", "a\nshow env", "<<", "a\\", "", "é"])
async def test_words_that_could_be_commands_are_not_sent(serve: Serve, word: str) -> None:
    runtime = await serve(b"\n")
    with pytest.raises(HaproxyRefusedError, match="cannot be written"):
        await runtime.add_entry("virt@ids", "000", word)
    with pytest.raises(HaproxyRefusedError, match="cannot be written"):
        await runtime.remove_entry("virt@ids", word)
    await runtime.add_entry("virt@ids", "000", "imaging/ct1")
