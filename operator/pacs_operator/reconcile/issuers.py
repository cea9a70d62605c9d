"""Authorities of the hospital: which the gate takes, and what stands in their way."""

from datetime import datetime, timedelta

from cryptography import x509

from pacs_operator.domain.archive import Archive
from pacs_operator.domain.conditions import ConditionType, Verdict
from pacs_operator.domain.gatepeers import LiveIssuer
from pacs_operator.domain.issuers import Issuer, Trust, ends, usable
from pacs_operator.reconcile.context import Pass

_ENDING = timedelta(days=60)
_OLD = 0.5  # of a list's time: by then somebody has missed several newer ones


def live_issuers(archive: Archive | None, own_root: x509.Certificate | None) -> list[LiveIssuer] | None:
    """Return what the gate is told of the archive's issuers; None where the archive names none at all.

    Parameters
    ----------
    archive
        The archive. What of its issuers cannot be gone by is left out, and nobody is let in by it.
    own_root
        The root of the archive's own peers CA; None where it is not known yet.
    """
    said = archive.spec.peers.issuers if archive else None
    if said is None:
        return None
    good = {trust.name for trust in usable(said, own_root)[0]}
    first = {issuer.name: issuer for issuer in reversed(said) if issuer.name in good}
    return [LiveIssuer(name=one.name, ca_pem=one.ca_pem, crl_pem=one.crl_pem) for one in reversed(first.values())]


def narrowed(before: list[LiveIssuer] | None, wanted: list[LiveIssuer] | None) -> list[LiveIssuer] | None:
    """Return the issuers in force without those that are no longer wanted, with the revocation lists wanted now.

    Parameters
    ----------
    before, wanted
        What the gate has, and what the spec says; a list that a CA signed takes away at most.
    """
    if before is None:
        return None
    known = {issuer.name: issuer for issuer in wanted or ()}
    left = []
    for issuer in before:
        want = known.get(issuer.name)
        if want is not None and want.ca_pem == issuer.ca_pem:
            left.append(issuer if want.crl_pem is None else want)
    return left


def report(run: Pass) -> None:
    """Say in the archive's conditions what is in force of spec.peers.issuers."""
    kind = ConditionType.PEER_ISSUERS
    said = run.archive.spec.peers.issuers if run.archive else None
    known = any(condition.type is kind for condition in run.observed.conditions)
    if not said:
        if known:
            run.set(kind, "True", "OwnAuthorityOnly", "Certificates of the archive's own authority alone are taken")
        return
    trusts, why = usable(said, run.memory.own_root)
    if why:
        run.set(kind, "False", "IssuerInvalid", f"Not trusted, and its peers refused: {'; '.join(why.values())}")
        return
    status, reason, text = _verdict(said, trusts, run.now, refuse=_refuses(run))
    run.set(kind, status, reason, text)


def _refuses(run: Pass) -> bool:
    return run.archive is not None and run.archive.spec.peers.refuse_expired_lists


def _verdict(said: list[Issuer], trusts: list[Trust], now: datetime, *, refuse: bool = False) -> Verdict:
    expired = [trust.name for trust in trusts if ends(trust) <= now]
    if expired:
        return "False", "IssuerExpired", f"Certificates of these authorities have ended: {', '.join(expired)}"
    over = [trust.name for trust in trusts if _list_age(trust, now) >= 1]
    if over:
        text = f"Revocation lists have ended, and only what they list stays refused: {', '.join(over)}"
        if refuse:
            text = (
                f"Revocation lists have ended, and all devices of these authorities are refused: {', '.join(over)}; "
                "write the newer lists to crlPEM of spec.peers.issuers"
            )
        return "False", "IssuerListExpired", text
    old = [trust.name for trust in trusts if _list_age(trust, now) >= _OLD]
    if old:
        return "False", "IssuerListOld", f"Revocation lists are past half of their time: {', '.join(old)}"
    text = f"Trusted: {', '.join(trust.name for trust in trusts)}"
    unlisted = [f"{issuer.name} ({issuer.no_crl_reason})" for issuer in said if issuer.no_crl_reason]
    if unlisted:
        text = f"{text}; STANDING EXCEPTION, no revocation list: {'; '.join(unlisted)}"
    soon = [trust.name for trust in trusts if ends(trust) - now < _ENDING]
    if soon:
        return "True", "IssuerEnding", f"{text}; certificates of these end within 60 days: {', '.join(soon)}"
    return "True", "RevocationUnchecked" if unlisted else "IssuersTrusted", text


def _list_age(trust: Trust, now: datetime) -> float:
    """Return how much of the time of the oldest list is over: 1 and more when it has ended."""
    ages = [0.0]
    for one in trust.lists:
        if one.next_update_utc is not None:
            ages.append((now - one.last_update_utc) / (one.next_update_utc - one.last_update_utc))
    return max(ages)
