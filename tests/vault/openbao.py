"""A real OpenBao for tests: raft storage, static seal, TLS on loopback, declarative audit file."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests

from tests.machine import free_port
from tests.vault.certs import Authority

BAO = Path(sys.executable).parent / "bao"

CONFIG = """
ui = false
disable_mlock = true
api_addr = "{address}"
cluster_addr = "https://127.0.0.1:{cluster_port}"
storage "raft" {{
  path = "{folder}/data"
  node_id = "n1"
}}
seal "static" {{
  current_key_id = "k1"
  current_key = "file://{folder}/unseal.key"
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster_port}"
  tls_cert_file = "{folder}/tls.crt"
  tls_key_file = "{folder}/tls.key"
}}
audit "file" "to-file" {{
  options {{
    file_path = "{folder}/audit.log"
    mode = "0600"
  }}
}}
"""


class OpenBao:
    """One server process; stopped, frozen, sealed and started again as tests need it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.make("OpenBao test authority")
        self.authority.serve_loopback(folder)
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_text(self.authority.pem)
        self.port, cluster_port = free_port(), free_port()
        self.address = f"https://127.0.0.1:{self.port}"
        self.root_token = ""
        self.audit_file = folder / "audit.log"
        (folder / "data").mkdir()
        (folder / "unseal.key").write_bytes(secrets.token_bytes(32))
        (folder / "config.hcl").write_text(
            CONFIG.format(address=self.address, port=self.port, cluster_port=cluster_port, folder=folder)
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._http = requests.Session()
        self._http.trust_env = False

    def start(self) -> None:
        """Start the process, initialise it the first time, and wait until it is active."""
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [BAO, "server", f"-config={self.folder}/config.hcl"], stdout=log, stderr=log
            )
        if not self.root_token:
            self._wait_for({200, 429, 473, 501, 503})
            answer = self.call("PUT", "sys/init", {"recovery_shares": 1, "recovery_threshold": 1}, token="")
            self.root_token = str(answer["root_token"])
        self._wait_for({200})

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(30)
            self._process = None
        self._http.close()  # drops pooled connections; the session itself stays usable

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def seal(self) -> None:
        self.call("PUT", "sys/seal")
        self._wait_for({503})

    def call(self, method: str, path: str, data: Any = None, token: str | None = None) -> dict[str, Any]:
        """Call the API, as the root token unless another is given; raise on refusal."""
        answer = self.try_call(method, path, data, token)
        answer.raise_for_status()
        return dict(answer.json()) if answer.content else {}

    def try_call(self, method: str, path: str, data: Any = None, token: str | None = None) -> requests.Response:
        """Call the API and return whatever comes."""
        headers = {"X-Vault-Token": self.root_token if token is None else token}
        if method == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        url = f"{self.address}/v1/{path}"
        return self._http.request(method, url, json=data, headers=headers, verify=str(self.ca_file), timeout=30)

    def environment(self, token: str | None = None) -> dict[str, str]:
        """Return what the ``bao`` command line needs to be this server's client."""
        return {
            "PATH": f"{BAO.parent}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "BAO_ADDR": self.address,
            "BAO_CACERT": str(self.ca_file),
            "BAO_TOKEN": self.root_token if token is None else token,
        }

    def audited_writes(self) -> list[str]:
        """Return the paths of all accepted requests that altered something, logins and token calls aside.

        The server's own record, so that it does not depend on what the client says of itself.
        """
        altering = {"create", "update", "delete", "patch"}
        return [
            f"{request['operation']} {request['path']}"
            for request in self._audited()
            if request["operation"] in altering and not _is_login(request)
        ]

    def audited_logins(self) -> int:
        """Return the number of accepted logins so far."""
        return sum(map(_is_login, self._audited()))

    def _audited(self) -> list[dict[str, Any]]:
        records = (json.loads(line) for line in self.audit_file.read_text().splitlines())
        return [r["request"] for r in records if r["type"] == "response" and "error" not in r]

    def _wait_for(self, statuses: set[int], deadline: float = 60) -> None:
        assert self._process is not None
        end = time.monotonic() + deadline
        seen: object = None
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise AssertionError(f"OpenBao ended: {(self.folder / 'server.log').read_text()[-2000:]}")
            try:
                seen = self.try_call("GET", "sys/health", token="").status_code
            except requests.exceptions.ConnectionError as error:
                seen = error
            if seen in statuses:
                return
            time.sleep(0.05)
        raise AssertionError(f"OpenBao health is {seen}, wanted one of {statuses}")


def _is_login(request: dict[str, Any]) -> bool:
    return str(request["path"]).startswith("auth/") and str(request["path"]).endswith("/login")
