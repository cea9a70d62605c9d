"""Kinds of damage to a sealed file of some chunks, beside another object's file of the same length."""

from __future__ import annotations

from collections.abc import Callable

from .volume import CHUNK, HEADER, TAG

STEP = CHUNK + TAG


def chunks(sealed: bytes) -> list[bytes]:
    body = sealed[HEADER:]
    return [body[at : at + STEP] for at in range(0, len(body), STEP)]


def build(header: bytes, parts: list[bytes]) -> bytes:
    return header + b"".join(parts)


def flip(at: int) -> Callable[[bytes, bytes], bytes]:
    def act(own: bytes, other: bytes) -> bytes:
        del other
        place = at % len(own)
        return own[:place] + bytes([own[place] ^ 0x10]) + own[place + 1 :]

    return act


def cut(size: int) -> Callable[[bytes, bytes], bytes]:
    return lambda own, _: own[: size % len(own)]


def reordered(own: bytes, _: bytes) -> bytes:
    first, second, *rest = chunks(own)
    return build(own[:HEADER], [second, first, *rest])


def repeated(own: bytes, _: bytes) -> bytes:
    first, _second, *rest = chunks(own)
    return build(own[:HEADER], [first, first, *rest])


def spliced(own: bytes, other: bytes) -> bytes:
    """The same place of another object sealed with the same data key."""
    mine, theirs = chunks(own), chunks(other)
    return build(own[:HEADER], [mine[0], theirs[1], *mine[2:]])


def dropped(own: bytes, _: bytes) -> bytes:
    mine = chunks(own)
    return build(own[:HEADER], [mine[0], *mine[2:]])


def shortened(own: bytes, _: bytes) -> bytes:
    """Cut at a chunk's end, and the length in the header made to fit: only the final flag tells."""
    kept = chunks(own)[:-1]
    length = sum(len(part) - TAG for part in kept)
    return build(own[:16] + length.to_bytes(8, "big") + own[24:HEADER], kept)


KINDS: dict[str, Callable[[bytes, bytes], bytes]] = {
    "bit flipped in the first chunk": flip(HEADER + 5),
    "bit flipped in the middle": flip(HEADER + STEP + 777),
    "bit flipped in a tag": flip(HEADER + CHUNK + 3),
    "bit flipped in the last byte": flip(-1),
    "bit flipped in the salt": flip(30),
    "bit flipped in the key id": flip(11),
    "bit flipped in the type": flip(7),
    "bit flipped in the day": flip(15),
    "truncated by a byte": cut(-1),
    "truncated at a chunk's end": cut(HEADER + STEP),
    "truncated to the header": cut(HEADER),
    "truncated within the header": cut(20),
    "empty": lambda _own, _other: b"",
    "shortened with a header to match": shortened,
    "a byte appended": lambda own, _: own + b"\0",
    "a chunk appended": lambda own, _: own + chunks(own)[0],
    "chunks reordered": reordered,
    "a chunk repeated": repeated,
    "a chunk spliced in from another object": spliced,
    "a chunk dropped": dropped,
    "swapped with another object": lambda _, other: other,
    "another object's header": lambda own, other: other[:HEADER] + own[HEADER:],
    "another object's chunks": lambda own, other: own[:HEADER] + other[HEADER:],
    "in clear": lambda own, _: bytes(128) + b"DICM" + own[132:],
}
