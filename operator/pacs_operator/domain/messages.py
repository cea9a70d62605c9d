"""Termination messages: what leaves a pod that may have been taken over, packed and bounded (blueprint, decision 4)."""

import base64
import json
import zlib
from typing import Any

MAX_MESSAGE_BYTES = 4096  # Kubernetes' own limit
MAX_RAW_BYTES = 65_536  # a whole run has about 5 kB; a message of 4,096 bytes could unpack to megabytes


def packed(document: object) -> str:
    """Return a termination message.

    Raises
    ------
    ValueError
        The document does not fit into 4,096 bytes.
    """
    raw = json.dumps(document, separators=(",", ":")).encode()
    message = base64.b85encode(zlib.compress(raw, 9)).decode()
    if len(message) > MAX_MESSAGE_BYTES:
        raise ValueError(f"result of {len(message)} bytes exceeds the termination message's {MAX_MESSAGE_BYTES}")
    return message


def unpacked(message: str) -> Any:
    """Return the JSON document in a termination message.

    Raises
    ------
    ValueError
        Truncated, or none of ours.
    """
    try:
        raw = zlib.decompressobj().decompress(base64.b85decode(message.strip()), MAX_RAW_BYTES)
        return json.loads(raw)
    except (zlib.error, RecursionError) as error:
        raise ValueError(type(error).__name__) from error
