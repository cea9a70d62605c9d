"""A logged-in connection to Vault: the only importer of hvac. Nothing of it, nor of requests, leaks out."""

import base64
import binascii
import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from hvac import exceptions as hvac_errors  # type: ignore[import-untyped]
from hvac.adapters import RawAdapter  # type: ignore[import-untyped]

from pacs_operator.domain.errors import VaultError
from pacs_operator.vault import errors
from pacs_operator.vault.authorities import certificates

RENEW_AT = 2 / 3  # of the token's life: a login is cheap, a refused call in the middle of a renewal is not

Json = dict[str, Any]


@dataclass(frozen=True)
class Login:
    """Where Vault is, and as what one logs in by Kubernetes auth.

    Parameters
    ----------
    address
        ``https://host:port``.
    ca_file
        PEM file of the authorities that may have signed Vault's server certificate; the system's are not trusted.
    auth_path
        Mount of the kubernetes auth method, without ``auth/``.
    role
        Role of that mount.
    token_file
        The projected ServiceAccount token; read anew at each login, since the kubelet replaces it.
    timeout_seconds
        For connecting and for each answer.
    """

    address: str
    ca_file: Path
    auth_path: str
    role: str
    token_file: Path
    timeout_seconds: float = 10


class VaultSession:
    """Reads and writes of Vault's API, with login on demand and typed errors.

    Parameters
    ----------
    login
        Where and as what.
    clock
        Seconds since the epoch; the life of tokens is judged by it.

    Attributes
    ----------
    writes : int
        Calls so far that altered something (logins are not counted).
    """

    def __init__(self, login: Login, clock: Callable[[], float] = time.time) -> None:
        self._login = login
        self._clock = clock
        self._lock = threading.RLock()
        self._token: str | None = None
        self._renew_at = 0.0
        self.writes = 0
        http = requests.Session()
        http.trust_env = False  # neither proxies nor another CA bundle from the environment
        http.verify = str(login.ca_file)
        # The adapter, not hvac.Client: the client would take token, address and certificates from VAULT_* variables.
        self._adapter = RawAdapter(base_uri=login.address, timeout=login.timeout_seconds, session=http)

    def read(self, path: str, absent: str | None = None) -> Json | None:
        """Return the ``data`` of a path, or None when nothing is there.

        Parameters
        ----------
        path
            Path below ``/v1/``.
        absent
            Text by which Vault says "not there" with status 400 instead of 404 on this path.
        """
        answer = self._call("get", path, absent=absent)
        return None if answer is None else _data(answer)

    def list(self, path: str) -> list[str]:
        """Return the names under a path; an absent path has none."""
        answer = self._call("list", path)
        return [] if answer is None else [str(key) for key in _data(answer).get("keys") or []]

    def write(self, path: str, data: Json) -> Json:
        """Create or update a path and return the answer's ``data`` (empty when Vault has nothing to say)."""
        answer = self._call("post", path, data)
        self.writes += 1
        if answer is None:
            raise errors.VaultMisconfiguredError(
                f"Vault has nothing at {path}",
                action="have Vault's administrator run deploy/vault/bootstrap; if this is an archive's mount, "
                "wait for the operator to create it",
            )
        return _data(answer)

    def delete(self, path: str) -> None:
        """Remove a path; an absent one is fine."""
        self._call("delete", path)
        self.writes += 1

    def fetch_pem(self, path: str) -> str:
        """Return a PEM document that Vault publishes without login (CA certificates, CRLs)."""
        with _translated(self._login, path):
            try:
                answer = self._request("get", path, token=None)
            except hvac_errors.Forbidden:  # what Vault says without login of a mount that is not there
                answer = None
            pem = "" if answer is None else str(answer.text)
        if "-----BEGIN " not in pem:
            raise errors.VaultMisconfiguredError(
                f"Vault publishes nothing at {path}",
                action="wait for the operator to create the archive's authorities; see condition VaultReady",
            )
        return pem.strip() + "\n"

    def _call(
        self, method: str, path: str, data: Json | None = None, absent: str | None = None
    ) -> requests.Response | None:
        with _translated(self._login, path):
            token = self._current_token()
            try:
                return self._request(method, path, token, data, absent)
            except hvac_errors.Forbidden:
                # Expired, revoked and forbidden look the same; only a fresh token tells them apart.
                self._forget(token)
                return self._request(method, path, self._current_token(), data, absent)

    def _request(
        self, method: str, path: str, token: str | None, data: Json | None = None, absent: str | None = None
    ) -> requests.Response | None:
        headers = {"X-Vault-Token": token} if token else {}
        try:
            answer: requests.Response = self._adapter.request(
                method, f"/v1/{quote(path)}", headers=headers, **({} if data is None else {"json": data})
            )
        except hvac_errors.InvalidPath:
            return None
        except hvac_errors.InvalidRequest as error:
            if absent is not None and any(absent in said for said in error.errors or ()):
                return None
            raise
        return answer

    def _forget(self, token: str) -> None:
        with self._lock:
            if self._token == token:
                self._token = None

    def _current_token(self) -> str:
        with self._lock:
            if self._token is None or self._clock() >= self._renew_at:
                self._token, life = self._log_in()
                self._renew_at = self._clock() + life * RENEW_AT
            return self._token

    def _log_in(self) -> tuple[str, float]:
        path = f"auth/{self._login.auth_path}/login"
        jwt = _read_token(self._login.token_file)
        try:
            answer = self._request("post", path, None, {"role": self._login.role, "jwt": jwt})
        except hvac_errors.Forbidden as error:
            raise self._refused_login(jwt, ", ".join(error.errors or ())) from error
        if answer is None:
            raise _no_auth(self._login)
        auth = _document(answer).get("auth")
        try:
            return str(auth["client_token"]), float(auth["lease_duration"])  # type: ignore[index]
        except (KeyError, TypeError, ValueError):
            raise _not_understood("a login's answer holds no token") from None

    def _refused_login(self, jwt: str, said: str) -> VaultError:
        expiry = _expiry(jwt)
        if expiry is not None and expiry <= self._clock():
            return errors.VaultTokenExpiredError(
                f"the Kubernetes token in {self._login.token_file} expired {self._clock() - expiry:.0f} s ago",
                action="check that the kubelet renews projected tokens on this node and that the node's clock is right",
            )
        return errors.VaultForbiddenError(
            f"Vault refuses the login as role {self._login.role} at auth/{self._login.auth_path}: {said}",
            action="compare the role's bound namespace, ServiceAccount and audience with the pod's, and check that "
            "Vault reaches this cluster's TokenReview API; an auth method that is not there looks the same. "
            "deploy/vault/bootstrap sets all of it up",
        )


@contextmanager
def _translated(login: Login, path: str) -> Iterator[None]:
    """Turn whatever hvac and requests raise into the family of `errors`."""
    try:
        yield
    except hvac_errors.VaultError as error:
        raise _from_hvac(error, login, path) from error
    except requests.exceptions.RequestException as error:
        raise _from_requests(error, login) from error


def _from_hvac(error: Exception, login: Login, path: str) -> VaultError:
    said = ", ".join(getattr(error, "errors", None) or []) or type(error).__name__
    if isinstance(error, hvac_errors.VaultDown | hvac_errors.VaultNotInitialized):
        return errors.VaultSealedError(
            f"Vault at {login.address} is sealed or not initialised", action="unseal Vault; running pods keep serving"
        )
    if isinstance(error, hvac_errors.Forbidden | hvac_errors.Unauthorized):
        return errors.VaultForbiddenError(
            f"Vault denies role {login.role} the path {path}",
            action="have Vault's administrator run deploy/vault/bootstrap again, which writes the policies",
        )
    if isinstance(error, hvac_errors.InvalidRequest):
        return errors.VaultMisconfiguredError(
            f"Vault refuses {path}: {said}",
            action="if the text names an unknown role, run deploy/vault/bootstrap or wait for the operator; "
            "else compare what is asked with the role",
        )
    return errors.VaultFailedError(
        f"Vault at {login.address} failed on {path}: {said}",
        action="see Vault's log: often no active node, a full audit device or a rate limit",
    )


def _from_requests(error: requests.exceptions.RequestException, login: Login) -> VaultError:
    if isinstance(error, requests.exceptions.SSLError) and not _closed(error):
        return errors.VaultUntrustedError(
            f"Vault's certificate at {login.address} is not signed by the configured authority or bears another name",
            action="put the PEM of the authority that signed Vault's server certificate where Vault's CA is configured",
        )
    if isinstance(error, requests.exceptions.Timeout):
        return errors.VaultTimeoutError(
            f"Vault at {login.address} did not answer within {login.timeout_seconds:g} s",
            action="check that Vault is not overloaded and that network policies and firewalls let the operator and "
            "the zones through",
        )
    return errors.VaultUnreachableError(
        f"Vault at {login.address} cannot be reached ({type(error).__name__})",
        action="check that Vault runs and that its address is right",
    )


def _closed(error: BaseException | None) -> bool:
    """Tell whether the other side went in the middle of the handshake, as a balancer does with no Vault behind it.

    That says nothing of a certificate, and is an outage like any other.
    """
    while error is not None and not isinstance(error, ssl.SSLEOFError):
        error = error.__cause__ or error.__context__
    return error is not None


def _no_auth(login: Login) -> VaultError:
    return errors.VaultMisconfiguredError(
        f"Vault has no kubernetes auth method at auth/{login.auth_path}",
        action="have Vault's administrator run deploy/vault/bootstrap with this --auth-path",
    )


def _data(answer: requests.Response) -> Json:
    if not answer.content:
        return {}
    data = _document(answer).get("data")
    return data if isinstance(data, dict) else {}


def _document(answer: requests.Response) -> Json:
    try:
        document = answer.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise _not_understood("an answer is no JSON object")
    return document


def _not_understood(what: str) -> VaultError:
    """Name what is wrong with an answer, never what is in it: it may hold a token."""
    return errors.VaultFailedError(
        f"Vault was not understood: {what}",
        action="check that the address is Vault's or OpenBao's own and that no proxy or login page answers for it",
    )


def _read_token(path: Path) -> str:
    try:
        jwt = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise errors.VaultMisconfiguredError(
            f"the Kubernetes token {path} cannot be read ({type(error).__name__})",
            action="mount a projected ServiceAccount token with Vault's audience at this path",
        ) from error
    if not jwt:
        raise errors.VaultMisconfiguredError(
            f"the Kubernetes token {path} is empty",
            action="mount a projected ServiceAccount token with Vault's audience at this path",
        )
    return jwt


def _expiry(jwt: str) -> float | None:
    """Return ``exp`` of a token without trusting it: only to word an error, Vault has already refused."""
    try:
        payload = jwt.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return None


def memory_file(pem: str) -> Path:
    """Return a path under which this process can read the certificates of a text; they never reach a disk.

    The TLS library takes authorities from files only for its own trust, and the container's root is read-only.

    Raises
    ------
    VaultUntrustedError
        No certificate is in it.
    """
    try:
        content = certificates(pem)
    except ValueError as error:
        raise errors.VaultUntrustedError(
            f"the authorities given for Vault hold no readable certificate (PEM, {len(pem)} characters)",
            action="put the PEM of the authority that signed Vault's server certificate into spec.vault.caPem, "
            "or for the operator's own Vault into vault.caPem of the chart",
        ) from error
    descriptor = os.memfd_create("vault-ca", os.MFD_CLOEXEC)
    os.write(descriptor, content)
    return Path(f"/proc/self/fd/{descriptor}")
