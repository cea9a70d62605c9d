"""Attacks on one gate replica: transport, identity, idle connections; each with its twin at the same address."""

import datetime
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from pacs_operator.domain.checks import CONTAINED, Check, Layer
from pacs_operator.probes.setting import Setting
from pacs_operator.probes.tls import Credentials, Trust, client_context
from pacs_operator.probes.verdict import PASSED, Verdict, failed, judge, not_run
from pacs_operator.probes.weak import handshakes
from pacs_operator.probes.wire import Answer, Caller, Endpoint, attempt

# An AE title that no archive should carry, and that is none of the probe's own.
NOBODY = "PACSPROBE-NOBODY"
# TLS 1.2 suites in OpenSSL's words: what the gate asks for, and what RFC 9325 4.1 and 4.2 advise against.
_GCM = "ECDHE+AESGCM"
_STATIC_RSA = "kRSA+AES:@SECLEVEL=0"
_CBC = "ECDHE+AES:!AESGCM:!AESCCM:@SECLEVEL=0"
# A gate's clock may be so much behind this pod's; and a certificate that lives longer is not the one meant.
_EXPIRED_SECONDS, _LONGEST_WAIT_SECONDS = 2, 60
#: PS3.8 9.3.4: rejected transient, temporary congestion.
TRY_LATER = "rj-2-3-1"


@dataclass(frozen=True)
class Attack:
    """An attempt that must be refused, as asked of a server that trusts differently.

    ``caller`` builds the attacker for a server with a given trust: once the weak one on loopback, once the gate.
    ``twin`` builds the allowed caller for the gate; it differs from the attacker in one property.
    ``able`` shows, before anything is attacked, that the client can do what it is about to try.
    """

    caller: Callable[[Setting, Trust], Caller]
    twin: Callable[[Setting], Caller]
    able: Callable[[Setting, "Attack"], bool]


def _at_weak(setting: Setting, attack: Attack) -> bool:
    """Tell whether the attack succeeds against the weak server."""
    return attempt(setting.weak.secured, attack.caller(setting, setting.weak_trust), setting.waits).accepted


def _at_weak_in_clear(setting: Setting, attack: Attack) -> bool:
    return attempt(setting.weak.plaintext, attack.caller(setting, setting.weak_trust), setting.waits).accepted


def _at_weak_once_expired(setting: Setting, attack: Attack) -> bool:
    left = setting.expired.not_after() - datetime.datetime.now(datetime.UTC)
    wait = max(0.0, left.total_seconds() + _EXPIRED_SECONDS)
    if wait > _LONGEST_WAIT_SECONDS:
        return False
    time.sleep(wait)
    return _at_weak(setting, attack)


def _good_for_servers(setting: Setting, attack: Attack) -> bool:
    """Tell whether the certificate serves: no server takes it from a client, but all else about it is right."""
    del attack
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(setting.server_only.certificate, setting.server_only.key)
    name = setting.server_only.dns_names()[0]
    client = client_context(Trust(setting.gate_trust.ca_pem, name), None)
    return handshakes(server, client, name)


def _caller(
    setting: Setting,
    trust: Trust,
    credentials: Credentials | None,
    version: ssl.TLSVersion | None = None,
    ciphers: str | None = None,
) -> Caller:
    context = client_context(trust, credentials, version, ciphers)
    return Caller(setting.config.peer.ae_title, setting.config.archive_ae_title, context, trust.server_name)


def _good(setting: Setting) -> Caller:
    return setting.good_caller()


def _old(setting: Setting, trust: Trust, ciphers: str) -> Caller:
    return _caller(setting, trust, setting.peer, ssl.TLSVersion.TLSv1_2, ciphers)


def _modern(setting: Setting) -> Caller:
    return _old(setting, setting.gate_trust, _GCM)


def other_case(title: str) -> str:
    """Return the title in the other case; with a letter more (or instead of the last character) where it has none."""
    swapped = title.swapcase()
    return swapped if swapped != title else title[:15] + "X"


ATTACKS: dict[Check, Attack] = {
    Check.PLAINTEXT_REFUSED: Attack(
        lambda setting, trust: _caller(setting, trust, setting.peer).but(context=None), _good, _at_weak_in_clear
    ),
    Check.OLD_TLS_REFUSED: Attack(
        lambda setting, trust: _caller(setting, trust, setting.peer, ssl.TLSVersion.TLSv1_1),
        lambda setting: _caller(setting, setting.gate_trust, setting.peer, ssl.TLSVersion.TLSv1_2),
        _at_weak,
    ),
    Check.STATIC_RSA_REFUSED: Attack(lambda setting, trust: _old(setting, trust, _STATIC_RSA), _modern, _at_weak),
    Check.CBC_SUITES_REFUSED: Attack(lambda setting, trust: _old(setting, trust, _CBC), _modern, _at_weak),
    Check.NO_CERTIFICATE_REFUSED: Attack(lambda setting, trust: _caller(setting, trust, None), _good, _at_weak),
    Check.FOREIGN_CERTIFICATE_REFUSED: Attack(
        lambda setting, trust: _caller(setting, trust, setting.foreign), _good, _at_weak
    ),
    Check.IMITATED_AUTHORITY_REFUSED: Attack(
        lambda setting, trust: _caller(setting, trust, setting.imitated), _good, _at_weak
    ),
    Check.PADDED_CHAIN_REFUSED: Attack(lambda setting, trust: _caller(setting, trust, setting.padded), _good, _at_weak),
    Check.SERVER_CERTIFICATE_REFUSED: Attack(
        lambda setting, trust: _caller(setting, trust, setting.server_only), _good, _good_for_servers
    ),
    Check.BORROWED_AE_TITLE_REFUSED: Attack(
        lambda setting, trust: _caller(setting, trust, setting.peer).but(calling=setting.config.store_only.ae_title),
        _good,
        _at_weak,
    ),
    Check.UNKNOWN_AE_TITLE_REFUSED: Attack(
        lambda setting, trust: _caller(setting, trust, setting.peer).but(calling=NOBODY), _good, _at_weak
    ),
    Check.WRONG_CALLED_AE_TITLE_REFUSED: Attack(
        lambda setting, trust: _caller(setting, trust, setting.peer).but(called=NOBODY), _good, _at_weak
    ),
    Check.CALLED_AE_TITLE_CASE_REFUSED: Attack(
        lambda setting, trust: _caller(setting, trust, setting.peer).but(
            called=other_case(setting.config.archive_ae_title)
        ),
        _good,
        _at_weak,
    ),
    Check.EXPIRED_CERTIFICATE_REFUSED: Attack(
        lambda setting, trust: _caller(setting, trust, setting.expired), _good, _at_weak_once_expired
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
    if not attack.able(setting, attack):
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
