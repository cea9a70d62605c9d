"""HAProxy's runtime socket: the only way anything in a running gate changes.

One connection a command, as the socket serves non-interactive clients; it answers and closes. Answers are text for
people, so each method knows what success looks like and raises on everything else.
"""

import asyncio
import contextlib
import csv
import io
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pacs_operator.agent.errors import NeighbourError
from pacs_operator.domain import gatemaps

FileKind = Literal["cert", "ca-file", "crl-file"]

ANSWER_SECONDS = 5.0
_BACKENDS_ONLY = "show stat -1 2 -1"
_TOKEN = re.compile(r"[!-:=-~]+")  # what needs no quoting on the socket: printable, no space, no ';', no '<'
_KEY = re.compile(r"^0x[0-9a-f]+: key=(\S+) ", re.MULTILINE)
_SERIAL = re.compile(r"^(?:Serial|Serial Number): *([0-9A-Fa-f]+)\s*$", re.MULTILINE)


class HaproxySilentError(NeighbourError):
    """HAProxy took the connection and did not answer."""

    reason = "GateSilent"


class HaproxyRefusedError(NeighbourError):
    """HAProxy answered with something other than success."""

    reason = "GateRefusedCommand"


@dataclass(frozen=True)
class BackendLoad:
    """What HAProxy counts for one backend."""

    open_sessions: int


class RuntimeSocket:
    """Commands of the runtime API that the gate needs.

    Parameters
    ----------
    path
        The socket, at level admin.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def ask(self, command: str, payload: str | None = None) -> str:
        """Send one command and return the whole answer.

        Parameters
        ----------
        command
            Without line end.
        payload
            Lines that follow the command; an empty line ends them, so they may hold none.

        Raises
        ------
        NeighbourError
            HAProxy is not there, or did not answer in time.
        """
        text = f"{command}\n" if payload is None else f"{command} <<\n{payload.rstrip()}\n\n"
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._exchange(text.encode("ascii"))
        except TimeoutError as error:
            raise HaproxySilentError(
                f"HAProxy did not answer within {ANSWER_SECONDS:.0f} s",
                action="look at the gate container's processor time and restarts",
            ) from error
        except OSError as error:
            raise NeighbourError(
                f"HAProxy's runtime socket cannot be used: {error.strerror or type(error).__name__}",
                action="wait; look at the gate container if it lasts",
            ) from error

    async def _exchange(self, request: bytes) -> str:
        reader, writer = await asyncio.open_unix_connection(self._path, limit=2**22)
        try:
            writer.write(request)
            await writer.drain()
            return (await reader.read(-1)).decode("utf-8", "replace")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _silently(self, command: str) -> None:
        """Send a command whose success is an empty answer."""
        answer = (await self.ask(command)).strip()
        if answer:
            verb = " ".join(command.split()[:2])
            raise HaproxyRefusedError(
                f"HAProxy refused '{verb}': {_first_line(answer)}",
                action="compare the gate's image with the release; the agent tries again",
            )

    async def read_map(self, name: str) -> list[tuple[str, str]]:
        """Return a map's entries in its order; a key can occur twice."""
        entries = []
        for line in (await self.ask(f"show map {name}")).splitlines():
            if not line.strip():
                continue
            fields = line.split(" ")
            if len(fields) != 3 or not fields[0].startswith("0x"):
                raise HaproxyRefusedError(
                    f"HAProxy has no map {name} as the gate's configuration should",
                    action="compare the gate's configuration with the operator's version",
                )
            entries.append((fields[1], fields[2]))
        return entries

    async def add_entry(self, name: str, key: str, value: str) -> None:
        """Add an entry; adding an existing key would shadow it, so look first."""
        await self._silently(f"add map {name} {_token(key)} {_token(value)}")

    async def set_entry(self, name: str, key: str, value: str) -> None:
        """Change an existing entry in one step."""
        await self._silently(f"set map {name} {_token(key)} {_token(value)}")

    async def remove_entry(self, name: str, key: str) -> None:
        """Remove all entries of a key."""
        await self._silently(f"del map {name} {_token(key)}")

    async def loads(self) -> dict[str, BackendLoad]:
        """Return the open sessions of every backend."""
        answer = await self.ask(_BACKENDS_ONLY)
        rows = csv.DictReader(io.StringIO(answer.lstrip("# ")))
        try:
            return {row["pxname"]: BackendLoad(int(row["scur"])) for row in rows}
        except (KeyError, ValueError) as error:
            raise HaproxyRefusedError(
                "HAProxy's statistics have another form than expected",
                action="compare the gate's image with the release",
            ) from error

    async def end_sessions(self, slot: str) -> None:
        """End all sessions of a slot, half-open ones included."""
        await self.end_connections(gatemaps.backend_name(slot), gatemaps.SERVER)

    async def end_connections(self, backend: str, server: str) -> None:
        """End all sessions of one server, half-open ones included."""
        await self._silently(f"shutdown sessions server {backend}/{server}")

    async def forget_rate(self, slot: str, table: str = gatemaps.COUNTS_TABLE) -> None:
        """Begin a slot's minute anew: the next peer there has not asked for anything yet."""
        await self._silently(f"set table {table} key {slot} data.gpc0_rate 0")

    async def counted_keys(self, table: str) -> frozenset[str]:
        """Return a table's keys that are in use by something open now."""
        answer = await self.ask(f"show table {table} data.conn_cur gt 0")
        if not answer.startswith("# table:"):
            raise HaproxyRefusedError(
                f"HAProxy has no table {table} as the gate's configuration should",
                action="compare the gate's configuration with the operator's version",
            )
        return frozenset(_KEY.findall(answer))

    async def replace_file(self, kind: FileKind, path: Path, pem: str) -> None:
        """Bring new content of a certificate, CA or CRL file into use for new handshakes.

        Raises
        ------
        HaproxyRefusedError
            Not taken; the old content stays in use.
        """
        without_blank_lines = "\n".join(line for line in pem.splitlines() if line.strip())
        answer = await self.ask(f"set ssl {kind} {path}", without_blank_lines)
        if "ransaction created" in answer or "ransaction updated" in answer:
            answer = await self.ask(f"commit ssl {kind} {path}")
            if "Success!" in answer:
                return
            await self.ask(f"abort ssl {kind} {path}")
        raise HaproxyRefusedError(
            f"HAProxy did not take the new content of {path.name}: {_first_line(answer)}",
            action="look at the gate's log; the content before stays in use and the agent tries again",
        )

    async def serial_of(self, path: Path) -> str | None:
        """Return the serial (lower-case hex) of a certificate in use, or None when there is none by this path."""
        found = _SERIAL.search(await self.ask(f"show ssl cert {path}"))
        return _whole_bytes(found.group(1)) if found else None

    async def revoked_serials(self, path: Path) -> frozenset[str]:
        """Return the serials (lower-case hex) that the revocation list in use names."""
        answer = await self.ask(f"show ssl crl-file {path}")
        _, _, entries = answer.partition("Revoked Certificates:")
        return frozenset(_whole_bytes(serial) for serial in _SERIAL.findall(_unindented(entries)))

    async def poll(self, done: Callable[[], Awaitable[bool]], seconds: float, pause: float = 0.05) -> bool:
        """Ask until something holds; False when it does not within the time."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not await done():
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(pause)
        return True


def _token(word: str) -> str:
    """Return a word that means itself on the socket; peers' names reach this, commands must not.

    Raises
    ------
    HaproxyRefusedError
        The word could be read as something else.
    """
    if not _TOKEN.fullmatch(word) or "\\" in word:
        raise HaproxyRefusedError("a peer's value cannot be written to HAProxy", action="look at the peer's names")
    return word


def _first_line(answer: str) -> str:
    """Return the start of an answer; HAProxy names files and parsers in it, never their content."""
    return next((line.strip()[:120] for line in answer.splitlines() if line.strip()), "no answer")


def _unindented(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines())


def _whole_bytes(serial: str) -> str:
    digits = serial.lower().lstrip("0") or "0"
    return digits if len(digits) % 2 == 0 else f"0{digits}"
