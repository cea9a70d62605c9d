"""An identity provider for tests: projected-style tokens, and the TokenReview endpoint that validates them.

The kubernetes auth method asks ``POST /apis/authentication.k8s.io/v1/tokenreviews``; this one checks signature,
expiry and audience as an API server does. The cluster tier uses the real one.
"""

import base64
import http.server
import json
import ssl
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from tests.vault.certs import Authority

PATH = "/apis/authentication.k8s.io/v1/tokenreviews"


class TestIdentityProvider:
    """Issues tokens of ServiceAccounts and reviews them over HTTPS."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self.authority = Authority.make("identity provider test authority")
        self.reviewer_token = uuid.uuid4().hex
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._server = _serve(self, *self.authority.serve_loopback(folder))
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def token(self, namespace: str, name: str, audience: str = "vault", *, life: float = 600) -> str:
        """Return a token of a ServiceAccount; negative ``life`` makes one that has expired."""
        now = int(time.time())
        claims = {
            "iss": "https://kubernetes.default.svc",
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "aud": [audience],
            "iat": now - 3600,
            "nbf": now - 3600,
            "exp": int(now + life),
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": name, "uid": _uid(namespace, name)},
            },
        }
        signed = f"{_encode({'alg': 'ES256', 'typ': 'JWT'})}.{_encode(claims)}"
        r, s = utils.decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def review(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Answer a TokenReview's status."""
        try:
            signed, _, signature = spec["token"].rpartition(".")
            raw = _decode(signature)
            der = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
            self._key.public_key().verify(der, signed.encode(), ec.ECDSA(hashes.SHA256()))
            claims = json.loads(_decode(signed.split(".")[1]))
        except (InvalidSignature, ValueError, IndexError):
            return {"authenticated": False, "error": "invalid bearer token"}
        if claims["exp"] <= time.time():
            return {"authenticated": False, "error": "token has expired"}
        audiences = [aud for aud in claims["aud"] if aud in spec.get("audiences", claims["aud"])]
        if not audiences:
            return {"authenticated": False, "error": "token audiences do not match"}
        account = claims["kubernetes.io"]["serviceaccount"]
        user = {"username": claims["sub"], "uid": account["uid"], "groups": ["system:serviceaccounts"]}
        return {"authenticated": True, "user": user, "audiences": audiences}


def _serve(provider: TestIdentityProvider, certificate: Path, key: Path) -> http.server.ThreadingHTTPServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.headers["Authorization"] != f"Bearer {provider.reviewer_token}":
                self._answer(401, {"kind": "Status", "status": "Failure", "reason": "Unauthorized", "code": 401})
            elif self.path != PATH:
                self._answer(404, {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404})
            else:
                self._answer(201, {**body, "status": provider.review(body["spec"])})

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            payload = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent: requests hold tokens."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _uid(namespace: str, name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.{namespace}"))


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _encode(data: dict[str, Any]) -> str:
    return _base64(json.dumps(data).encode())


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
