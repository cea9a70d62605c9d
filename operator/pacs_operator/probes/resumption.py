"""TLS sessions from before: who resumes one shows no certificate, and is not held against a revocation list."""

import contextlib
import ssl
from dataclasses import dataclass

from pacs_operator.domain.checks import Layer
from pacs_operator.probes.setting import Setting
from pacs_operator.probes.tls import Trust, client_context
from pacs_operator.probes.verdict import Verdict, judge, not_run
from pacs_operator.probes.wire import Answer, Caller, Endpoint, converse, opened

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@dataclass(frozen=True)
class Resumption:
    """Two connections of one client, the second with the session of the first."""

    answer: Answer
    resumed: bool = False


def resumption_refused(setting: Setting, replica: Endpoint) -> Verdict:
    """Try to resume a session of either TLS version; the twin is the full handshake that the gate makes instead."""
    for version in VERSIONS:
        weak = _resume(setting, setting.weak.secured, setting.weak_trust, version)
        if not (weak.answer.accepted and weak.resumed):
            return not_run("client-cannot")
        found = _resume(setting, replica, setting.gate_trust, version)
        if found.resumed:
            return judge(attack_succeeded=True, layer=Layer.TLS, code="resumed", twin_served=found.answer.served)
        if not found.answer.served:
            return not_run(found.answer.code)
    return judge(attack_succeeded=False, layer=Layer.TLS, code="full-handshake", twin_served=True)


def _resume(setting: Setting, endpoint: Endpoint, trust: Trust, version: ssl.TLSVersion) -> Resumption:
    context = client_context(trust, setting.peer, version)
    caller = Caller(setting.config.peer.ae_title, setting.config.archive_ae_title, context, trust.server_name)
    session = None
    result = Resumption(Answer(accepted=False, served=False, layer=Layer.NETWORK, code="not-reached"))
    # The first connection stays open until the second is made: OpenSSL forgets a session whose connection ended
    # without close_notify, and a server that ends so would look as if it refused to resume.
    with contextlib.ExitStack() as held:
        for _ in range(2):
            stream = opened(endpoint, caller, setting.waits, session)
            if isinstance(stream, Answer):
                return Resumption(stream)
            held.enter_context(contextlib.closing(stream))
            # Without release, after which the server ends it. Of TLS 1.3 a session comes with the first answer.
            answer = converse(stream, caller, release=False)
            secured = stream if isinstance(stream, ssl.SSLSocket) else None
            session = secured.session if secured else None
            result = Resumption(answer, bool(secured and secured.session_reused))
            if not answer.accepted:
                break
    return result
