"""REST routes of this plugin."""

from __future__ import annotations

from collections.abc import Callable

import orthanc

#: Orthanc's Python plugin lets go of these when its interpreter is no thread's any more: had nobody else a reference,
#: the process would end by SIGSEGV at every stop, before the index and the storage area are closed.
_kept: list[Callable[..., None]] = []


def serve(uri: str, answer: Callable[..., None]) -> None:
    """Let a function answer the requests for a path of Orthanc's REST API.

    Parameters
    ----------
    uri
        Regular expression that the whole path matches.
    answer
        What is called with the output, the path and the request as keywords.
    """
    _kept.append(answer)
    orthanc.RegisterRestCallback(uri, answer)
