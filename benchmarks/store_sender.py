"""A device that stores images as fast as it is let, for `gate` and `storage`: all but UIDs is encoded beforehand.

Speaks DICOM's upper layer itself (PS3.8 9.3, PS3.7 9.3.1), so that what is measured is the receiving side and not a
library's encoding. Holds associations of several ways open and stores block by block, so that two ways can be compared
under the same load of the machine; prints one JSON object a line.
"""

import argparse
import json
import os
import resource
import secrets
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Iterator

IMPLICIT = b"1.2.840.10008.1.2"
CT = b"1.2.840.10008.5.1.4.1.1.2"
UID_BYTES = 38  # "2.25." and 33 digits
_PLACE = b"2.25." + b"9" * (UID_BYTES - 5)
_ROWS = 512
_CONTEXT = 1
_LAST, _COMMAND = 0x02, 0x01


def item(kind: int, content: bytes) -> bytes:
    """Return an item or sub-item of an A-ASSOCIATE PDU."""
    return struct.pack(">BBH", kind, 0, len(content)) + content


def associate_request(calling: str, called: str) -> bytes:
    """Return an A-ASSOCIATE-RQ for CT images."""
    context = bytes((_CONTEXT, 0, 0, 0)) + item(0x30, CT) + item(0x40, IMPLICIT)
    user = item(0x51, struct.pack(">I", 131_072)) + item(0x52, b"2.25.1")
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16).encode(), calling.ljust(16).encode())
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, context) + item(0x50, user)
    return struct.pack(">BBI", 1, 0, len(body)) + body


def element(group: int, number: int, value: bytes, pad: bytes = b"\0") -> bytes:
    """Return a data element, implicit VR little endian."""
    value += pad * (len(value) % 2)
    return struct.pack("<HHI", group, number, len(value)) + value


def store_request() -> bytes:
    """Return the command set of a C-STORE-RQ (PS3.7 table 9.3-1)."""
    rest = (
        element(0, 0x0002, CT)
        + element(0, 0x0100, struct.pack("<H", 1))
        + element(0, 0x0110, struct.pack("<H", 1))
        + element(0, 0x0700, struct.pack("<H", 0))
        + element(0, 0x0800, struct.pack("<H", 1))
        + element(0, 0x1000, _PLACE)
    )
    return element(0, 0, struct.pack("<I", len(rest))) + rest


def image(study: bytes, rows: int = _ROWS, frames: int = 1) -> bytes:
    """Return an image of square frames of 16-bit random pixels that no compression shrinks; 525 kB by default."""
    short = struct.Struct("<H").pack
    return b"".join(
        (
            element(0x0008, 0x0016, CT),
            element(0x0008, 0x0018, _PLACE),
            element(0x0008, 0x0060, b"CT"),
            element(0x0010, 0x0010, b"Benchmark", b" "),
            element(0x0010, 0x0020, b"BENCHMARK", b" "),
            element(0x0020, 0x000D, study),
            element(0x0020, 0x000E, study + b".1"),
            element(0x0028, 0x0002, short(1)),
            element(0x0028, 0x0004, b"MONOCHROME2", b" "),
            element(0x0028, 0x0008, str(frames).encode(), b" "),
            element(0x0028, 0x0010, short(rows)),
            element(0x0028, 0x0011, short(rows)),
            element(0x0028, 0x0100, short(16)),
            element(0x0028, 0x0101, short(16)),
            element(0x0028, 0x0102, short(15)),
            element(0x0028, 0x0103, short(0)),
            element(0x7FE0, 0x0010, secrets.token_bytes(2 * rows * rows) * frames),
        )
    )


def data_pdus(control: int, content: bytes, largest: int) -> bytes:
    """Return P-DATA-TF PDUs (PS3.8 9.3.5), each as large as the acceptor allows."""
    room = largest - 6
    pdus = []
    for start in range(0, len(content), room):
        part = content[start : start + room]
        flags = control | (_LAST if start + room >= len(content) else 0)
        pdus.append(struct.pack(">BBIIBB", 4, 0, len(part) + 6, len(part) + 2, _CONTEXT, flags) + part)
    return b"".join(pdus)


class Association:
    """One accepted association."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, calling: str, called: str) -> None:
        raw = socket.create_connection(address, timeout=60)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(raw)
        self._socket.sendall(associate_request(calling, called))
        kind, body = self._pdu()
        if kind != 2:
            raise SystemExit(f"not accepted: PDU type {kind}, {body[1:4].hex()}")
        at = body.rindex(b"\x51\x00\x00\x04") + 4
        self.largest = struct.unpack_from(">I", body, at)[0] or 131_072
        cipher = self._socket.cipher()
        self.suite = f"{cipher[1]} {cipher[0]}" if cipher else "none"

    def _pdu(self) -> tuple[int, bytes]:
        head = self._read(6)
        return head[0], self._read(struct.unpack(">I", head[2:])[0])

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            if not part:
                raise ConnectionError("the connection ended")
            data += part
        return data

    def store(self, message: bytes | bytearray) -> None:
        """Send one image and wait for its success."""
        self._socket.sendall(message)
        kind, body = self._pdu()
        if kind != 4 or element(0, 0x0900, b"\0\0") not in body:
            raise ConnectionError(f"not stored: PDU type {kind}")

    def release(self) -> None:
        """End in order."""
        self._socket.sendall(struct.pack(">BBII", 5, 0, 4, 0))
        self._pdu()
        self._socket.close()


class Sender(threading.Thread):
    """Stores blocks of images over one association, when told to.

    Parameters
    ----------
    association
        Accepted already.
    gate
        Where all senders of a block begin together, and end.
    rows, frames
        Size of the images.
    """

    def __init__(self, association: Association, gate: threading.Barrier, rows: int, frames: int) -> None:
        super().__init__(daemon=True)
        study = b"2.25." + str(secrets.randbelow(10**30)).encode()
        largest = association.largest
        message = data_pdus(_COMMAND, store_request(), largest) + data_pdus(0, image(study, rows, frames), largest)
        self._places = list(_places(message))
        self._message = bytearray(message)
        self._number = 10 ** (UID_BYTES - 6) + secrets.randbelow(10**30)
        self._association, self._gate = association, gate
        self.count = 0  # of the next block; 0 ends the thread

    def run(self) -> None:
        """Wait for blocks."""
        while True:
            self._gate.wait()
            if not self.count:
                self._association.release()
                return
            for _ in range(self.count):
                self._number += 1
                uid = f"2.25.{self._number}".encode()
                for at in self._places:
                    self._message[at : at + UID_BYTES] = uid
                self._association.store(self._message)
            self._gate.wait()


def _places(message: bytes) -> Iterator[int]:
    at = -1
    while (at := message.find(_PLACE, at + 1)) >= 0:
        yield at


class Way:
    """All associations to one address."""

    def __init__(self, words: list[str], asked: argparse.Namespace) -> None:
        count = asked.associations
        host, port, bundle, ca = words
        context = ssl.create_default_context(cafile=ca)
        context.check_hostname = False
        context.load_cert_chain(bundle)
        associations = [Association((host, int(port)), context, asked.calling, asked.called) for _ in range(count)]
        self.suite = associations[0].suite
        self._gate = threading.Barrier(count + 1)
        self._senders = [Sender(association, self._gate, asked.rows, asked.frames) for association in associations]
        for sender in self._senders:
            sender.start()

    def block(self, each: int) -> dict[str, float]:
        """Store so many images over each association; return how long that took and what it cost here."""
        for sender in self._senders:
            sender.count = each
        before = resource.getrusage(resource.RUSAGE_SELF)
        began = time.perf_counter()
        self._gate.wait()
        self._gate.wait()
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"seconds": seconds, "cpu": cpu, "stored": each * len(self._senders)}

    def close(self) -> None:
        """Release all associations."""
        for sender in self._senders:
            sender.count = 0
        self._gate.wait()
        for sender in self._senders:
            sender.join(timeout=30)


def end(failed: threading.ExceptHookArgs) -> None:
    """End the whole process: without one association nobody could compare the rest."""
    print(f"{failed.exc_type.__name__}: {failed.exc_value}", file=sys.stderr, flush=True)
    os._exit(1)


def main() -> int:
    """Open the associations, then store a block for each line of standard input: the way's name and a number."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--called", required=True)
    parser.add_argument("--calling", required=True)
    parser.add_argument("--associations", type=int, required=True)
    parser.add_argument("--rows", type=int, default=_ROWS, help="of a square frame, at most 65535")
    parser.add_argument("--frames", type=int, default=1)
    parser.add_argument("--way", nargs=5, action="append", metavar=("NAME", "HOST", "PORT", "BUNDLE", "CA"))
    asked = parser.parse_args()
    threading.excepthook = end
    ways = {name: Way(words, asked) for name, *words in asked.way}
    print(json.dumps({name: way.suite for name, way in ways.items()}), flush=True)
    for line in sys.stdin:
        name, each = line.split()
        print(json.dumps(ways[name].block(int(each))), flush=True)
    for way in ways.values():
        way.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
