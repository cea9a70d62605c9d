"""A DICOMweb client: it searches, retrieves and stores over HTTPS with a certificate, and reads all that comes back."""

import email
import email.policy
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pydicom
import requests
from pydicom.dataset import Dataset
from requests.adapters import HTTPAdapter

from pacs_operator.probes.client import Retrieved
from pacs_operator.probes.compare import encode
from pacs_operator.probes.tls import Credentials
from pacs_operator.probes.wire import Endpoint

SECONDS = 60.0
_UID = "00080018"  # SOP Instance UID, as DICOM JSON names it (PS3.18 F.2)
_DICOM = 'multipart/related; type="application/dicom"'
_BOUNDARY = "pacs-probe"


@dataclass(frozen=True)
class WebArchive:
    """Where an archive's DICOMweb is, and how both sides prove themselves.

    Parameters
    ----------
    endpoint
        Address and TCP port of the gate.
    server_name
        Name that its certificate has to bear.
    ca
        File of the authority that signed it.
    credentials
        The client's own certificate; None: it shows none.
    """

    endpoint: Endpoint
    server_name: str
    ca: Path
    credentials: Credentials | None

    def session(self) -> requests.Session:
        """Return a session that follows no redirection and takes nothing from this machine's environment."""
        session = requests.Session()
        session.trust_env = False
        session.verify = str(self.ca)
        if self.credentials is not None:
            session.cert = str(self.credentials.certificate), str(self.credentials.key)
        session.mount("https://", _NamedServer(self.server_name))
        return session

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> requests.Response:
        """Return the answer to one request below ``/dicom-web``.

        Raises
        ------
        requests.RequestException
            None came: TLS failed, or the connection ended.
        """
        url = f"https://{self.endpoint.address}:{self.endpoint.port}/dicom-web{path}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with self.session() as session:
            return session.request(method, url, data=body, headers=named, timeout=SECONDS, allow_redirects=False)

    def find(self, study: str) -> set[str]:
        """Return the SOP Instance UIDs of a study (QIDO-RS, PS3.18 10.6); none when the search was refused."""
        answer = self.ask("GET", f"/studies/{study}/instances", Accept="application/dicom+json")
        if answer.status_code != requests.codes.ok:
            return set()
        return {str(match[_UID]["Value"][0]) for match in answer.json()}

    def retrieve(self, study: str) -> list[Retrieved]:
        """Return a study's objects in the transfer syntaxes they have in the archive (WADO-RS, PS3.18 10.4)."""
        answer = self.ask("GET", f"/studies/{study}", Accept=f"{_DICOM}; transfer-syntax=*")
        if answer.status_code != requests.codes.ok:
            return []
        return [_retrieved(part) for part in _parts(answer)]

    def store(self, datasets: Iterable[Dataset]) -> int:
        """Store objects (STOW-RS, PS3.18 10.5) and return the HTTP status."""
        body = b"".join(_part(dataset) for dataset in datasets) + f"--{_BOUNDARY}--\r\n".encode()
        kind = f"{_DICOM}; boundary={_BOUNDARY}"
        return self.ask("POST", "/studies", body, Content_Type=kind, Accept="application/dicom+json").status_code


class _NamedServer(HTTPAdapter):
    """Connects to an address and asks for a name, so that no resolver has to know the archive."""

    def __init__(self, name: str) -> None:
        self._name = name
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, server_hostname=self._name, assert_hostname=self._name, **kwargs)


def _part(dataset: Dataset) -> bytes:
    file = BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode() + file.getvalue() + b"\r\n"


def _parts(answer: requests.Response) -> list[bytes]:
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP)
    return [cast(bytes, part.get_payload(decode=True)) for part in message.iter_parts()]


def _retrieved(file: bytes) -> Retrieved:
    dataset = pydicom.dcmread(BytesIO(file))
    syntax = dataset.file_meta.TransferSyntaxUID
    return Retrieved(str(dataset.SOPInstanceUID), str(dataset.SOPClassUID), str(syntax), encode(dataset, syntax))
