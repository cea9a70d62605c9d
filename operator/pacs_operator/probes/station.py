"""A device that listens: it takes images over mutual TLS, and only from the archive that it means to be sent to by."""

import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.sop_class import StorageCommitmentPushModel

from pacs_operator.probes.client import SUCCESS, Retrieved, retrieved
from pacs_operator.probes.tls import Credentials
from pacs_operator.probes.wire import VERIFICATION, Endpoint

NOT_AUTHORIZED = 0x0124  # PS3.7 C.5.9


@dataclass(frozen=True)
class Station:
    """Where a device listens, and how it and its callers prove themselves.

    Parameters
    ----------
    endpoint
        Address and TCP port.
    credentials
        The certificate that it shows, for server use.
    ca_pem
        The authority of those who may connect.
    caller
        DNS name that a caller's certificate has to bear.
    """

    endpoint: Endpoint
    credentials: Credentials
    ca_pem: str
    caller: str

    def context(self) -> ssl.SSLContext:
        """Return TLS that asks for a certificate of the authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.credentials.certificate, self.credentials.key)
        context.load_verify_locations(cadata=self.ca_pem)
        context.verify_mode = ssl.CERT_REQUIRED
        return context


@dataclass
class Inbox:
    """What arrived while a station listened.

    Attributes
    ----------
    associations
        How many were accepted, also those that brought nothing.
    objects
        What came, in its own encoding.
    strangers
        How many objects were refused since their sender's certificate bears another name.
    """

    associations: int = 0
    objects: list[Retrieved] = field(default_factory=list)
    strangers: int = 0
    _reports: dict[str, "Report"] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def put(self, transaction: str, report: "Report") -> None:
        """Keep what was reported of a transaction."""
        with self._changed:
            self._reports[transaction] = report
            self._changed.notify_all()

    def report(self, transaction: str, seconds: float) -> "Report | None":
        """Wait for the report of a transaction; None: there was none in time."""
        with self._changed:
            self._changed.wait_for(lambda: transaction in self._reports, seconds)
            return self._reports.get(transaction)


@dataclass(frozen=True)
class Report:
    """What an archive says of a storage commitment: SOP Instance UIDs that it keeps, and that it does not."""

    committed: set[str]
    failed: set[str]


@contextmanager
def listening(station: Station, title: str, kinds: Iterable[tuple[UID, UID]]) -> Iterator[Inbox]:
    """Listen until the block ends.

    Parameters
    ----------
    station
        Where and how.
    title
        The device's AE title; another called title is rejected.
    kinds
        (SOP class, transfer syntax) pairs that it takes.

    Raises
    ------
    OSError
        The address is not this machine's, or the port is taken.
    """
    inbox = Inbox()

    def accepted(event: Event) -> None:
        del event
        inbox.associations += 1

    def store(event: Event) -> int:
        if station.caller not in _names(event):
            inbox.strangers += 1
            return NOT_AUTHORIZED
        inbox.objects.append(retrieved(event))
        return SUCCESS

    def reported(event: Event) -> tuple[int, None]:
        if station.caller not in _names(event):
            inbox.strangers += 1
            return NOT_AUTHORIZED, None
        told = event.event_information
        inbox.put(str(told.TransactionUID), Report(_listed(told, "ReferencedSOP"), _listed(told, "FailedSOP")))
        return SUCCESS, None

    handlers: list[EventHandlerType] = [
        (evt.EVT_ACCEPTED, accepted),
        (evt.EVT_C_STORE, store),
        (evt.EVT_N_EVENT_REPORT, reported),
    ]
    ae = _application(title, kinds)
    address = (station.endpoint.address, station.endpoint.port)
    ae.start_server(address, block=False, ssl_context=station.context(), evt_handlers=handlers)
    try:
        yield inbox
    finally:
        ae.shutdown()


def _application(title: str, kinds: Iterable[tuple[UID, UID]]) -> AE:
    ae = AE(ae_title=title)
    ae.require_called_aet = True
    ae.add_supported_context(VERIFICATION)
    # The archive is the one that serves, and asks for that role on an association of its own (PS3.4 J.3.3).
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    for sop_class, syntax in sorted(set(kinds)):
        ae.add_supported_context(sop_class, syntax)
    return ae


def _listed(told: Dataset, which: str) -> set[str]:
    return {str(item.ReferencedSOPInstanceUID) for item in told.get(f"{which}Sequence", [])}


def _names(event: Event) -> list[str]:
    """Return the DNS names of the caller's certificate, which TLS has verified."""
    transport = event.assoc.dul.socket
    secured = transport.socket if transport is not None else None
    certificate: dict[str, Any] | None = secured.getpeercert() if isinstance(secured, ssl.SSLSocket) else None
    return [value for kind, value in (certificate or {}).get("subjectAltName", ()) if kind == "DNS"]
