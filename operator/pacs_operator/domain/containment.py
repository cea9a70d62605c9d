"""Containment: an archive that is suspected of being attacked serves nobody but the peers that an emergency needs.

Read apart from the rest of a spec, since it has to arrive also when nobody can honour that rest.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.gatepeers import LivePeer
from pacs_operator.domain.model import Model

MAX_SPARED = 16


class SparedPeer(Model):
    """A ``DicomPeer`` that is served on."""

    namespace: Annotated[str, Field(min_length=1, max_length=63)]
    name: Annotated[str, Field(min_length=1, max_length=253)]

    @property
    def key(self) -> str:
        """Return ``namespace/name``."""
        return f"{self.namespace}/{self.name}"


class Containment(Model):
    """``PacsArchive.spec.containment``."""

    mode: Literal["None", "Isolated"]
    reason: Annotated[str, Field(min_length=3, max_length=256)] | None = None
    spare_emergency_peers: Annotated[list[SparedPeer], Field(max_length=MAX_SPARED)] = []

    @model_validator(mode="after")
    def _says_why(self) -> Self:
        if self.mode == "Isolated" and self.reason is None:
            raise InvalidSpecError(
                "spec.containment.reason: missing while mode is Isolated",
                action="say in a few words what is suspected, for those who find no archive",
            )
        return self

    @property
    def isolated(self) -> bool:
        """Tell whether the archive is closed."""
        return self.mode == "Isolated"

    @property
    def spared(self) -> frozenset[str]:
        """Return the ids of the peers that are served on."""
        return frozenset(peer.key for peer in self.spare_emergency_peers)


def wanted(spec: Any) -> Containment | None:
    """Return the containment that a spec asks for as far as it can be read, or None when it asks for none.

    Parameters
    ----------
    spec
        ``spec`` of a live ``PacsArchive``; anything, also what breaks every other rule.

    Returns
    -------
    Containment or None
        One that says ``Isolated``. What else of it cannot be read counts as absent: a slip of the pen in a list of
        names must not leave an archive open that somebody wants closed.
    """
    said = spec.get("containment") if isinstance(spec, Mapping) else None
    if not isinstance(said, Mapping) or said.get("mode") != "Isolated":
        return None
    reason = said.get("reason")
    text = reason[:256] if isinstance(reason, str) else "not given"
    spared = list(_readable(said.get("spareEmergencyPeers")))
    readable: dict[str, Any] = {"mode": "Isolated", "reason": text, "spare_emergency_peers": spared}
    return Containment.model_construct(**readable)  # not validated on purpose: this much is read, and no rule judges it


def _readable(said: Any) -> Iterable[SparedPeer]:
    for entry in said[:MAX_SPARED] if isinstance(said, list) else []:
        try:
            yield SparedPeer.model_validate(entry)
        except ValidationError:
            continue


def contain(peers: Iterable[LivePeer], containment: Containment | None) -> list[LivePeer]:
    """Return live peers with the mark that closes the gate to them; the archive's own probes are spared by nobody.

    Parameters
    ----------
    peers
        In any order, which stays.
    containment
        What the spec asks for; None takes every mark away.
    """
    if containment is None or not containment.isolated:
        return [peer if peer.contained is None else peer.model_copy(update={"contained": None}) for peer in peers]
    return [peer.model_copy(update={"contained": None if peer.id in containment.spared else True}) for peer in peers]
