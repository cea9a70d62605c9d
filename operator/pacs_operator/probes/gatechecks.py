"""Attacks on one gate replica: transport, identity, idle connections; each with its twin at the same address."""

import contextlib
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from pacs_operator.domain.checks import CONTAINED, Check, Layer
from pacs_operator.probes.idle import hold_idle
from pacs_operator.probes.setting import Setting
from pacs_operator.probes.tls import Credentials, Trust, client_context
from pacs_operator.probes.verdict import PASSED, Verdict, failed, judge, not_run
from pacs_operator.probes.wire import Answer, Caller, Endpoint, attempt

# An AE title that no archive should carry, and that is none of the probe's own.
NOBODY = "PACSPROBE-NOBODY"
#: PS3.8 9.3.4: rejected transient, temporary congestion.
TRY_LATER = "rj-2-3-1"


@dataclass(frozen=True)
class Attack:
    """An attempt that must be refused, as asked of a server that trusts differently.

    ``caller`` builds the attacker for a server with a given trust: once the weak one on loopback, once the gate.
    ``twin`` builds the allowed caller for the gate; it differs from the attacker in one property.
    """

    caller: Callable[[Setting, Trust], Caller]
    twin: Callable[[Setting], Caller]
    plaintext: bool = False


def _caller(
    setting: Setting, trust: Trust, credentials: Credentials | None, version: ssl.TLSVersion | None = None
) -> Caller:
    context = client_context(trust, credentials, version)
    return Caller(setting.config.peer.ae_title, setting.config.archive_ae_title, context, trust.server_name)


def _good(setting: Setting) -> Caller:
    return setting.good_caller()


ATTACKS: dict[Check, Attack] = {
    Check.PLAINTEXT_REFUSED: Attack(
        lambda setting, trust: _caller(setting, trust, setting.peer).but(context=None), _good, plaintext=True
    ),
    Check.OLD_TLS_REFUSED: Attack(
        lambda setting, trust: _caller(setting, trust, setting.peer, ssl.TLSVersion.TLSv1_1),
        lambda setting: _caller(setting, setting.gate_trust, setting.peer, ssl.TLSVersion.TLSv1_2),
    ),
    Check.NO_CERTIFICATE_REFUSED: Attack(lambda setting, trust: _caller(setting, trust, None), _good),
    Check.FOREIGN_CERTIFICATE_REFUSED: Attack(lambda setting, trust: _caller(setting, trust, setting.foreign), _good),
    Check.BORROWED_AE_TITLE_REFUSED: Attack(
        lambda setting, trust: _caller(setting, trust, setting.peer).but(calling=setting.config.store_only.ae_title),
        _good,
    ),
    Check.WRONG_CALLED_AE_TITLE_REFUSED: Attack(
        lambda setting, trust: _caller(setting, trust, setting.peer).but(called=NOBODY), _good
    ),
}


def echo(setting: Setting, replica: Endpoint) -> tuple[Verdict, Answer]:
    """Ask for an echo as the good peer does."""
    answer = attempt(replica, setting.good_caller(), setting.waits)
    return (PASSED if answer.served else failed(answer.layer, answer.code)), answer


def contained(setting: Setting, replica: Endpoint) -> Verdict:
    """Ask for an echo where the archive is contained: an answer would mean that the gate is open."""
    answer = attempt(replica, setting.good_caller(), setting.waits)
    if answer.accepted:
        return failed(Layer.GATE, "accepted")
    return not_run(CONTAINED if answer.code == TRY_LATER else answer.code)


def refused(setting: Setting, check: Check, replica: Endpoint) -> Verdict:
    """Make one attack: first on the weak server, then on the gate, then its twin on the gate."""
    attack = ATTACKS[check]
    weak = setting.weak.plaintext if attack.plaintext else setting.weak.secured
    if not attempt(weak, attack.caller(setting, setting.weak_trust), setting.waits).accepted:
        return not_run("client-cannot")
    answer = attempt(replica, attack.caller(setting, setting.gate_trust), setting.waits)
    if not answer.accepted and not answer.refused:
        return not_run("not-reached" if answer.layer is Layer.NETWORK else answer.code)
    if setting.config.contained and answer.code == TRY_LATER:
        return not_run(CONTAINED)  # no more is proven than that the gate is closed to all
    twin = attempt(replica, attack.twin(setting), setting.waits)
    # While contained the twin is known, and told so: another answer than the attack's, at the same place.
    known = twin.code == TRY_LATER if setting.config.contained else twin.served
    code = "accepted" if answer.accepted else answer.code
    layer = Layer.GATE if answer.accepted else answer.layer
    return judge(attack_succeeded=answer.accepted, layer=layer, code=code, twin_served=known)


def idle_harmless(setting: Setting, replica: Endpoint) -> Verdict:
    """Hold idle connections and ask for an echo meanwhile; the twin is the same echo beforehand."""
    bounds = setting.config.bounds
    good = setting.good_caller()
    if not attempt(replica, good, setting.waits).served:
        return not_run("not-reached")
    with contextlib.ExitStack() as stack:
        held = hold_idle(stack, replica, good, bounds.idle_sockets, setting.waits)
        # A gate may let fewer in than were tried, and the code says how many; with few there was no attack.
        if held < bounds.idle_sockets:
            return not_run(f"held-{held}")
        begun = time.monotonic()
        answer = attempt(replica, good, setting.waits)
        millis = (time.monotonic() - begun) * 1000
    if not answer.served:
        return Verdict("Failed", answer.layer, answer.code, "Served")
    if millis > bounds.echo_beside_idle_millis:
        return Verdict("Failed", Layer.GATE, "late", "Served")
    return Verdict("Passed", Layer.GATE, f"held-{held}", "Served")
