"""The gate's configuration: HAProxy in front of Orthanc, static for the life of a pod.

Peers, certificates and revocations reach it through its runtime socket (``agent/gate.py``); what both sides must
agree on is in :mod:`pacs_operator.domain.gatemaps`.
"""

import ipaddress
import math
from dataclasses import dataclass, replace
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined

from pacs_operator.domain import gatemaps, issuers
from pacs_operator.domain.agentconfig import CONFIG_DIR, RUN_DIR, TLS_DIR, AgentConfig
from pacs_operator.domain.archive import ArchiveSpec
from pacs_operator.domain.facts import Desired
from pacs_operator.domain.gatepeers import largest_share
from pacs_operator.domain.names import PROBE_AE_TITLE, Component, Port, service_dns
from pacs_operator.domain.peer import TlsTier
from pacs_operator.render import gate_check, web
from pacs_operator.render.web import WebLayout

SLOTS: int = AgentConfig.model_fields["gate_slots"].default
FIRST_PDU_SECONDS = 5

# RFC 9325 4.2 and DICOM PS3.15 B.12, in OpenSSL's names.
_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
)
_CIPHERSUITES = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")

# What an exception adds, at the end of the list: the gate's order counts, so who knows better gets better.
_TIER_CIPHERS = {
    TlsTier.TLS12_ECDHE_CBC: (
        "ECDHE-ECDSA-AES128-SHA256",
        "ECDHE-ECDSA-AES256-SHA384",
        "ECDHE-RSA-AES128-SHA256",
        "ECDHE-RSA-AES256-SHA384",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-SHA",
        "ECDHE-RSA-AES128-SHA",
        "ECDHE-RSA-AES256-SHA",
    )
}

_BUFFER_BYTES = 131_072
_REWRITE_RESERVE_BYTES = 2_048  # above HAProxy's tune.maxrewrite (1,024), which a buffer never gives to the network
_DEFAULT_THREADS = 2
_TEMPLATES = Environment(
    loader=PackageLoader("pacs_operator.render"),
    undefined=StrictUndefined,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701  # not HTML; every value is a checked identifier or our own
)


@dataclass(frozen=True)
class GateLayout:
    """What the gate's configuration depends on.

    Attributes
    ----------
    ae_title
        Called AE title; any other that is no alias is rejected (1/1/7).
    aliases
        Further called AE titles.
    tiers
        Older TLS that the listener takes at all; who may use it is told live.
    issuers
        Whether certificates of other authorities than the archive's own are taken, and keys; whose is told live.
    refuse_expired_lists
        Whether nobody is let in by a revocation list past its end; else it serves, and what it lists stays refused.
    orthanc_address, orthanc_port
        Where Orthanc's DICOM port is; a name must be fully qualified, HAProxy knows no search list.
    orthanc_name
        DNS name that Orthanc's certificate must carry.
    max_associations
        Of all peers together, in one gate process.
    bind, outbound_bind
        HAProxy's listening addresses, for peers and for Orthanc.
    legacy_bind
        Addresses without TLS, for devices that have none; each port is closed until a peer is given it.
    web
        DICOMweb; None: there is no listener for it.
    nameservers
        ``address:port`` of resolvers; empty means those of /etc/resolv.conf.
    """

    ae_title: str
    orthanc_address: str
    orthanc_port: int
    orthanc_name: str
    max_associations: int
    bind: str
    outbound_bind: str
    legacy_bind: str | None = None
    web: WebLayout | None = None
    aliases: tuple[str, ...] = ()
    tiers: tuple[TlsTier, ...] = ()
    issuers: bool = False
    refuse_expired_lists: bool = False
    threads: int = _DEFAULT_THREADS
    slots: int = SLOTS
    tls: str = TLS_DIR
    run: str = RUN_DIR
    lua_file: str = f"{CONFIG_DIR}/gate.lua"
    nameservers: tuple[str, ...] = ()
    buffer_bytes: int = _BUFFER_BYTES

    @property
    def max_connections_per_source(self) -> int:
        """Return how many sockets one address may hold: all associations, and as many again on their way."""
        return max(64, 2 * self.max_associations)

    @property
    def max_share(self) -> int:
        """Return the most that one peer can have of all associations, whatever its own limit: never all of them."""
        return largest_share(self.max_associations)

    @property
    def max_connections(self) -> int:
        """Return the bound of all sockets; several sources at their own bound leave room for others."""
        return 8 * self.max_connections_per_source


def gate_config(desired: Desired) -> dict[str, str]:
    """Return the gate's files, by name.

    Parameters
    ----------
    desired
        The archive; its peers are not part of it, they are applied live.
    """
    return render(layout(desired))


def archive_web_config(desired: Desired) -> dict[str, str]:
    """Return the configuration of the HAProxy beside Orthanc, by name; nothing where DICOMweb is off."""
    return render_archive_web(layout(desired))


def layout(desired: Desired) -> GateLayout:
    """Return what the configuration of an archive's gate depends on."""
    archive = desired.archive
    name = service_dns(Component.ORTHANC, archive.name)
    cidrs = archive.spec.peers.allowed_cidrs
    return GateLayout(
        ae_title=archive.spec.dicom.ae_title,
        aliases=tuple(archive.spec.dicom.aliases),
        tiers=tuple(sorted(archive.spec.peers.tls_exceptions)),
        issuers=archive.spec.peers.issuers is not None,
        refuse_expired_lists=archive.spec.peers.refuse_expired_lists,
        orthanc_address=f"{name}.{desired.cluster.cluster_domain}",
        orthanc_port=Port.ORTHANC_DICOM,
        orthanc_name=name,
        max_associations=archive.spec.gate.max_associations,
        bind=_bind(cidrs, str(Port.DICOM_TLS)),
        legacy_bind=_legacy_bind(archive.spec),
        outbound_bind=_bind(cidrs, str(Port.GATE_OUTBOUND)),
        web=web.layout(desired, _bind(cidrs, str(Port.GATE_WEB)), _bind(cidrs, str(Port.ORTHANC_WEB))),
        threads=_threads(archive.spec.scheduling.gate.cpu_milli),
    )


def _legacy_bind(spec: ArchiveSpec) -> str | None:
    """Return where devices without TLS may be let in; who withdraws consent leaves the listeners closed."""
    ports = spec.dicom.legacy_ports
    return _bind(spec.peers.allowed_cidrs, f"{ports.first}-{ports.last}") if ports else None


def _bind(allowed_cidrs: list[str], ports: str) -> str:
    """Return the address to listen on; IPv6 only where peers have it, since nodes can lack it altogether."""
    if any(ipaddress.ip_network(cidr).version == 6 for cidr in allowed_cidrs):
        return f":::{ports} v4v6"
    return f"0.0.0.0:{ports}"


def _threads(cpu_milli: int | None) -> int:
    """Return how many threads to run; HAProxy's own choice is the node's processors, not the container's."""
    return math.ceil(cpu_milli / 1000) if cpu_milli else _DEFAULT_THREADS


def render(layout: GateLayout) -> dict[str, str]:
    """Return ``haproxy.cfg`` and ``gate.lua`` for a layout."""
    files = {
        "haproxy.cfg": _TEMPLATES.get_template("haproxy.cfg.j2").render(_values(layout)),
        # One file: the second part goes by the first one's reading of DER.
        "gate.lua": "\n".join(map(_lua, ("gate.lua", "issuers.lua") if layout.issuers else ("gate.lua",))),
    }
    return files | ({"web.lua": _lua("web.lua")} if layout.web else {})


def render_archive_web(layout: GateLayout) -> dict[str, str]:
    """Return the files of the HAProxy beside Orthanc for a layout; nothing where DICOMweb is off."""
    if layout.web is None:
        return {}
    return {
        "web.cfg": _TEMPLATES.get_template("archiveweb.cfg.j2").render(_values(layout)),
        "web.lua": _lua("web.lua"),
    }


def _lua(name: str) -> str:
    return resources.files("pacs_operator.render").joinpath(f"templates/{name}").read_text("utf-8")


def _values(layout: GateLayout) -> dict[str, object]:
    return {
        **{name: getattr(layout, name) for name in GateLayout.__dataclass_fields__},
        "max_connections": layout.max_connections,
        "max_share": layout.max_share,
        "max_connections_per_source": layout.max_connections_per_source,
        "max_first_pdu_bytes": layout.buffer_bytes - _REWRITE_RESERVE_BYTES,
        "first_pdu_seconds": FIRST_PDU_SECONDS,
        "own_title_hex": gatemaps.title_hex(layout.ae_title),
        "called_hex": " ".join(map(gatemaps.title_hex, (layout.ae_title, *layout.aliases))),
        "ciphers": ":".join(_CIPHERS),
        "bind_ciphers": ":".join((*_CIPHERS, *(name for tier in layout.tiers for name in _TIER_CIPHERS[tier]))),
        "modern": " ".join((*_CIPHERS, *_CIPHERSUITES)),
        "ciphersuites": ":".join(_CIPHERSUITES),
        "maps": gatemaps,
        "own_issuer": issuers.OWN,
        "forgiven": _forgiven(layout),
        "forgiven_web": _forgiven(replace(layout, issuers=False)),
        "slot_names": [gatemaps.slot_name(slot) for slot in range(layout.slots)],
        "orthanc_tls": _orthanc_tls(layout),
        # The probe's title is the one that Orthanc always knows; any other it would turn away, and log that.
        "check_request": gate_check.associate_request(PROBE_AE_TITLE, layout.ae_title).hex(),
        "check_release": gate_check.release_request().hex(),
    }


def _forgiven(layout: GateLayout) -> str:
    """Return which of OpenSSL's verification errors end no handshake (X509_STORE_CTX_get_error).

    12: a list has expired. With further authorities 3, no list, and 18, self-signed, are judged with the first PDU.
    """
    expired = [] if layout.refuse_expired_lists else [12]
    chain, leaf = ([3, *expired], [3, *expired, 18]) if layout.issuers else (expired, expired)
    options = (("ca-ignore-err", chain), ("crt-ignore-err", leaf))
    return "".join(f" {name} {','.join(map(str, errors))}" for name, errors in options if errors)


def _orthanc_tls(layout: GateLayout) -> str:
    """Return the server options that re-encrypt towards Orthanc, verify it and show it who we are."""
    return (
        f"ssl verify required ca-file {layout.tls}/ca-internal.pem verifyhost {layout.orthanc_name} "
        f"crt {layout.tls}/orthanc-client.pem no-ssl-reuse"
    )
