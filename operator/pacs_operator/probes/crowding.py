"""Attacks that take places: idle, slow and silent callers, and a peer that wants more than its share.

Each is bounded by what the configuration says, holds for as long as one answer takes, and lets go at once.
"""

import contextlib
import time
from collections.abc import Callable

from pacs_operator.domain.checks import Layer
from pacs_operator.probes.gatechecks import TRY_LATER
from pacs_operator.probes.idle import hold_idle, hold_silent, hold_slow
from pacs_operator.probes.setting import Setting
from pacs_operator.probes.verdict import Verdict, judge, not_run
from pacs_operator.probes.wire import Answer, Caller, Endpoint, attempt

_PAUSE_SECONDS = 0.1


def idle_harmless(setting: Setting, replica: Endpoint) -> Verdict:
    """Hold idle connections and ask for an echo meanwhile; the twin is the same echo beforehand."""
    count = setting.config.bounds.idle_sockets
    return _echo_beside(setting, replica, lambda stack, good: hold_idle(stack, replica, good, count, setting.waits))


def slow_harmless(setting: Setting, replica: Endpoint) -> Verdict:
    """Hold callers that are in the middle of their request, and ask for an echo; the twin is the echo beforehand."""
    count = setting.config.bounds.idle_sockets
    return _echo_beside(setting, replica, lambda stack, good: hold_slow(stack, replica, good, count, setting.waits))


def _echo_beside(setting: Setting, replica: Endpoint, hold: Callable[[contextlib.ExitStack, Caller], int]) -> Verdict:
    bounds, good = setting.config.bounds, setting.good_caller()
    if not attempt(replica, good, setting.waits).served:
        return not_run("not-reached")
    with contextlib.ExitStack() as stack:
        held = hold(stack, good)
        answer = attempt(replica, good, setting.waits)
    if not answer.served and held and answer.code != TRY_LATER:
        return Verdict("Failed", answer.layer, answer.code, "Served")
    # A gate may let fewer in than were tried, and the code says how many; with few there was no attack. A full one
    # tells everybody to try later: it is busy, and no listener hangs.
    if held < bounds.idle_sockets or not answer.served:
        return not_run(f"held-{held}")
    return _in_time(setting, answer.millis, held)


def _in_time(setting: Setting, millis: int, held: int) -> Verdict:
    if millis > setting.config.bounds.echo_beside_idle_millis:
        return Verdict("Failed", Layer.GATE, "late", "Served")
    return Verdict("Passed", Layer.GATE, f"held-{held}", "Served")


def silent_harmless(setting: Setting, replica: Endpoint, store: Callable[[Endpoint], str | None]) -> Verdict:
    """Hold silent associations of the good peer while the other one stores; the twin is the same C-STORE beforehand.

    Parameters
    ----------
    store
        Lets the other peer store one object, and returns the code of what went wrong, or None.
    """
    if store(replica) is not None:
        return not_run("not-reached")
    count = setting.config.silent_associations
    with contextlib.ExitStack() as stack:
        silence = hold_silent(stack, replica, setting.good_caller(), count, setting.waits)
        if silence.held < count:
            return not_run(f"held-{silence.held}")
        begun = time.monotonic()
        problem = store(replica)
        millis = round((time.monotonic() - begun) * 1000)
    if problem is not None:
        return Verdict("Failed", Layer.DICOM, problem, "Served")
    return _in_time(setting, millis, silence.held)


def limit_held(setting: Setting, replica: Endpoint) -> Verdict:
    """Let a peer ask for one association more than it may have; the twin is the same request once the others ended."""
    caller, limit = setting.store_only_caller(), setting.config.association_limit
    with contextlib.ExitStack() as stack:
        silence = hold_silent(stack, replica, caller, limit + 1, setting.waits)
    twin = _granted_again(setting, replica, caller)
    if silence.refusal is None:
        return judge(attack_succeeded=True, layer=Layer.GATE, code="accepted", twin_served=twin)
    if silence.held < limit or silence.refusal.code != TRY_LATER:
        return not_run(f"held-{silence.held}" if silence.held < limit else silence.refusal.code)
    return judge(attack_succeeded=False, layer=Layer.GATE, code=TRY_LATER, twin_served=twin)


def _granted_again(setting: Setting, replica: Endpoint, caller: Caller) -> bool:
    """Tell whether the peer is let in again: the gate sees the end of an association a moment after its peer does."""
    until = time.monotonic() + setting.waits.answer
    answer: Answer = attempt(replica, caller, setting.waits)
    while not answer.accepted and answer.code == TRY_LATER and time.monotonic() < until:
        time.sleep(_PAUSE_SECONDS)
        answer = attempt(replica, caller, setting.waits)
    return answer.accepted
