"""Orthanc's REST interface on loopback, as far as the agent uses it."""

import ipaddress
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from pacs_operator.agent.errors import AgentConfigError, NeighbourError

QUESTION_SECONDS = 3.0
REMOVAL_SECONDS = 40.0
RESTART_ACTION = "wait: the agent tries again; see Orthanc's log if it stays"


class OrthancRest:
    """Blocking calls; raises :class:`NeighbourError` for everything but success.

    Parameters
    ----------
    url
        ``http://127.0.0.1:<port>``; anything but loopback is refused, because this interface knows no passwords.

    Raises
    ------
    AgentConfigError
        Not a loopback address.
    """

    def __init__(self, url: str) -> None:
        host = urlsplit(url).hostname or ""
        try:
            loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise AgentConfigError(
                f"agent.json: orthancUrl {url!r} is not a loopback address", action="use http://127.0.0.1:8042"
            )
        self._url = url.rstrip("/")

    def call(
        self, method: str, path: str, document: object = None, seconds: float = QUESTION_SECONDS
    ) -> requests.Response:
        """Return the answer to one request, whatever its status."""
        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxy stands between us and loopback
                return session.request(method, self._url + path, json=document, timeout=seconds)
        except requests.RequestException as error:
            raise NeighbourError(
                f"Orthanc does not answer {method} {_bare(path)} ({type(error).__name__})",
                action=RESTART_ACTION,
            ) from error

    def ask(self, method: str, path: str, document: object = None, seconds: float = QUESTION_SECONDS) -> Any:
        """Return the JSON answer, or None when it is empty."""
        answer = self.call(method, path, document, seconds)
        if answer.status_code != 200:
            raise NeighbourError(
                f"Orthanc answered {answer.status_code} to {method} {_bare(path)}",
                action=RESTART_ACTION,
                reason="NeighbourRefused",
            )
        if not answer.content:
            return None
        try:
            return answer.json()
        except ValueError as error:
            raise NeighbourError(
                f"Orthanc's answer to {method} {_bare(path)} is not JSON", action=RESTART_ACTION
            ) from error

    def modalities(self) -> dict[str, dict[str, Any]]:
        """Return all entries with their rights, as they are in effect."""
        found = self.ask("GET", "/modalities?expand")
        if not isinstance(found, dict):
            raise NeighbourError("Orthanc's list of modalities is not a map", action=RESTART_ACTION)
        return found

    def put_modality(self, name: str, entry: dict[str, Any]) -> None:
        """Create or replace one entry."""
        self.ask("PUT", f"/modalities/{quote(name, safe='')}", entry)

    def delete_modality(self, name: str) -> None:
        """Remove one entry."""
        self.ask("DELETE", f"/modalities/{quote(name, safe='')}")

    def destinations(self) -> dict[str, dict[str, str]] | None:
        """Return who may have images sent where, as the archive plugin has it; None when there is no plugin."""
        if self.call("GET", "/pacs/destinations").status_code == 404:
            return None
        return _lists(self.ask("GET", "/pacs/destinations"))

    def put_destinations(self, lists: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        """Replace those lists, and return them as they are in effect."""
        return _lists(self.ask("PUT", "/pacs/destinations", lists))

    def held(self) -> list[tuple[str, str]]:
        """Return identifier and sender's AE title of each quarantined object; none where there is no plugin."""
        if self.call("GET", "/pacs/quarantine").status_code == 404:
            return []
        answer = self.ask("GET", "/pacs/quarantine")
        if not isinstance(answer, list) or not all(isinstance(entry, dict) for entry in answer):
            raise NeighbourError("the archive plugin's list of quarantined objects is none", action=RESTART_ACTION)
        return [(str(entry.get("id")), str(entry.get("aet"))) for entry in answer]

    def ok(self, path: str) -> bool:
        """Tell whether a GET succeeds; never raises."""
        try:
            return self.call("GET", path).status_code == 200
        except NeighbourError:
            return False


def _lists(answer: Any) -> dict[str, dict[str, str]]:
    if not isinstance(answer, dict) or not all(isinstance(entries, dict) for entries in answer.values()):
        raise NeighbourError("the archive plugin's list of destinations is not a map", action=RESTART_ACTION)
    return answer


def _bare(path: str) -> str:
    """Return a path fit for a message: without query and without the identifiers of stored objects."""
    return "/".join(path.partition("?")[0].split("/")[:2])
