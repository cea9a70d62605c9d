"""A hospital with authorities of its own, and what the gate answers to their certificates."""

import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pacs_operator.domain.gatepeers import LiveIssuer

from .device import PDU_AC, PDU_RJ, Answer, ask, associate_rq, client_context
from .pki import Authority, Leaf
from .process import Gate, Site

ACCEPTED = Answer(PDU_AC, None)
UNKNOWN = Answer(PDU_RJ, (1, 1, 3), clean_end=True)  # PS3.8 9.3.4: calling AE title not recognized
NO_HANDSHAKE = Answer(None, None)
NAME = "ct1.imaging.example"


@dataclass
class Hospital:
    """A root and two authorities under it, of which the archive's people named the first alone."""

    root: Authority
    imaging: Authority
    office: Authority

    def issuer(self, *, lists: bool = True, name: str = "hospital") -> LiveIssuer:
        crls = (self.imaging.crl_pem() + self.root.crl_pem()).decode()
        return LiveIssuer(name=name, ca_pem=self.imaging.chain_pem(), crl_pem=crls if lists else None)


def make_hospital() -> Hospital:
    root = Authority("Hospital root")
    return Hospital(root, Authority("Hospital imaging CA", parent=root), Authority("Hospital office CA", parent=root))


def context(site: Site, leaf: Leaf, chain: str = "") -> ssl.SSLContext:
    """Return a device's TLS; ``chain`` is what it sends beside its own certificate."""
    made = client_context(site.peers, None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "client.pem"
        path.write_bytes(leaf.pem() + chain.encode())
        made.load_cert_chain(path)
    return made


def answer(gate: Gate, leaf: Leaf, chain: str = "", title: bytes = b"CT1") -> Answer:
    return ask(gate.port, context(gate.site, leaf, chain), associate_rq(calling=title))


def reason(gate: Gate) -> str:
    return [record for record in gate.records() if record["event"] == "association"][-1]["reason"]
