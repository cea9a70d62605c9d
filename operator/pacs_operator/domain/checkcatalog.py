"""The catalog of conformance checks: what each one tries, its allowed twin, and which threat it covers."""

from pacs_operator.domain.checks import WEB_CHECKS, Check, CheckInfo, Group

CHECKS: dict[Check, CheckInfo] = {
    Check.GATE_REPLICAS: CheckInfo(
        Group.AVAILABILITY,
        "Every gate replica that the archive wants has an address of its own",
        "A replica that nobody attacked may enforce nothing",
    ),
    Check.ECHO: CheckInfo(
        Group.SERVICE,
        "C-ECHO by the good peer is answered with success",
        "Modalities cannot reach the archive",
        each_replica=True,
    ),
    Check.STORE_IMAGE: CheckInfo(
        Group.SERVICE, "C-STORE of a CT image with pixels is acknowledged", "Images cannot be archived"
    ),
    Check.STORE_REPORT: CheckInfo(
        Group.SERVICE, "C-STORE of a structured report is acknowledged", "Reports and dose records are lost"
    ),
    Check.STORE_DOCUMENT: CheckInfo(
        Group.SERVICE, "C-STORE of an encapsulated PDF is acknowledged", "Scanned documents are lost"
    ),
    Check.STORE_COMPRESSED: CheckInfo(
        Group.SERVICE,
        "C-STORE of an RLE compressed image is acknowledged without transcoding",
        "Compressed images are refused or altered",
    ),
    Check.STORE_CHARACTER_SETS: CheckInfo(
        Group.SERVICE,
        "C-STORE of names in Latin, Cyrillic, Greek, Japanese and Unicode character sets is acknowledged",
        "A patient's name becomes unreadable or matches somebody else",
    ),
    Check.FIND_PATIENT: CheckInfo(
        Group.SERVICE, "C-FIND at PATIENT level finds exactly the probe's patient", "Images cannot be found"
    ),
    Check.FIND_STUDY: CheckInfo(
        Group.SERVICE,
        "C-FIND at STUDY level, by patient and by study, finds the probe's study",
        "Images cannot be found",
    ),
    Check.FIND_SERIES: CheckInfo(
        Group.SERVICE, "C-FIND at SERIES level finds all the probe's series", "Images cannot be found"
    ),
    Check.FIND_IMAGE: CheckInfo(
        Group.SERVICE, "C-FIND at IMAGE level finds every image of a series", "Images cannot be found"
    ),
    Check.GET_EQUAL: CheckInfo(
        Group.SERVICE,
        "C-GET returns every stored object with its transfer syntax and every element unchanged",
        "The archive alters what it was trusted with",
    ),
    Check.PLAINTEXT_REFUSED: CheckInfo(
        Group.TRANSPORT,
        "An association request without TLS is not accepted",
        "Images travel readable through the hospital's network",
        "The same request inside TLS",
        each_replica=True,
    ),
    Check.OLD_TLS_REFUSED: CheckInfo(
        Group.TRANSPORT,
        "A client that speaks at most TLS 1.1 is refused",
        "Traffic is decrypted by attacks on retired protocols (RFC 8996)",
        "The same client with TLS 1.2",
        each_replica=True,
    ),
    Check.STATIC_RSA_REFUSED: CheckInfo(
        Group.TRANSPORT,
        "A client that offers key exchange without forward secrecy only (static RSA) is refused",
        "Who records traffic today reads it once the gate's key is stolen (RFC 9325, 4.1)",
        "The same client with ECDHE and AES-GCM",
        each_replica=True,
    ),
    Check.CBC_SUITES_REFUSED: CheckInfo(
        Group.TRANSPORT,
        "A client that offers AES-CBC only, and has no exception, gets no association",
        "Traffic without authenticated encryption is altered on its way (RFC 9325, 4.2)",
        "The same client with AES-GCM",
        each_replica=True,
    ),
    Check.NO_CERTIFICATE_REFUSED: CheckInfo(
        Group.IDENTITY,
        "A client without certificate gets no association",
        "Anybody on the network reads and writes images",
        "The same client with its certificate",
        each_replica=True,
    ),
    Check.FOREIGN_CERTIFICATE_REFUSED: CheckInfo(
        Group.IDENTITY,
        "A certificate with the right name signed by another authority gets no association",
        "Whoever can make a certificate becomes a modality",
        "The same name signed by the archive's authority",
        each_replica=True,
    ),
    Check.IMITATED_AUTHORITY_REFUSED: CheckInfo(
        Group.IDENTITY,
        "A certificate with the right name by an authority that the run makes under the name of the archive's own, as "
        "a sibling archive's or another hospital's may be named, gets no association",
        "A sibling archive, or whoever copies a name, lets its own devices in",
        "The same name signed by the archive's authority",
        each_replica=True,
    ),
    Check.PADDED_CHAIN_REFUSED: CheckInfo(
        Group.IDENTITY,
        "The same certificate, shown with its own authority and with the archive's root appended, gets no association",
        "Whoever appends a public root to a chain of their own is taken for one of its devices",
        "The same name signed by the archive's authority",
        each_replica=True,
    ),
    Check.SERVER_CERTIFICATE_REFUSED: CheckInfo(
        Group.IDENTITY,
        "The archive's authority's certificate for servers only gets no association, though name and dates are right",
        "Who steals a server's key becomes a modality",
        "The same name with a certificate for clients",
        each_replica=True,
    ),
    Check.EXPIRED_CERTIFICATE_REFUSED: CheckInfo(
        Group.IDENTITY,
        "A certificate of the archive's authority with the right name gets no association once it has expired",
        "A device that was sold or lost comes in for ever",
        "The same name with a certificate that is in date",
        each_replica=True,
    ),
    Check.BORROWED_AE_TITLE_REFUSED: CheckInfo(
        Group.IDENTITY,
        "A valid certificate with the AE title of another peer gets no association",
        "One stolen device acts as every other",
        "The same certificate with its own AE title",
        each_replica=True,
    ),
    Check.UNKNOWN_AE_TITLE_REFUSED: CheckInfo(
        Group.IDENTITY,
        "A valid certificate with an AE title that no peer has is rejected",
        "A stolen device hides behind a title of its own",
        "The same certificate with its own AE title",
        each_replica=True,
    ),
    Check.WRONG_CALLED_AE_TITLE_REFUSED: CheckInfo(
        Group.IDENTITY,
        "An association for another called AE title is rejected",
        "Images meant for another archive end in this one",
        "The same request for the archive's AE title",
        each_replica=True,
    ),
    Check.CALLED_AE_TITLE_CASE_REFUSED: CheckInfo(
        Group.IDENTITY,
        "An association for the archive's AE title in the other case (where it has no letters: with one "
        "more) is rejected",
        "Archives whose titles look alike are mistaken for each other",
        "The same request for the archive's AE title",
        each_replica=True,
    ),
    Check.SESSION_RESUMPTION_REFUSED: CheckInfo(
        Group.IDENTITY,
        "A TLS session is never resumed, neither of TLS 1.2 nor of TLS 1.3: each connection shows its certificate anew",
        "A revoked device goes on with a session from before",
        "The same client with a full handshake",
        each_replica=True,
    ),
    Check.UNGRANTED_ECHO_REFUSED: CheckInfo(
        Group.RIGHTS,
        "A peer without the right Echo gets no answer to C-ECHO",
        "Orthanc answers to titles it was not told about",
        "C-STORE by the same peer, and C-ECHO by a peer that has the right",
    ),
    Check.UNGRANTED_FIND_REFUSED: CheckInfo(
        Group.RIGHTS,
        "A peer that may only store gets no answer to C-FIND",
        "A stolen modality lists every patient of the hospital",
        "C-STORE by the same peer, and the same C-FIND by a peer that has the right",
    ),
    Check.UNGRANTED_GET_REFUSED: CheckInfo(
        Group.RIGHTS,
        "A peer that may only store gets nothing by C-GET",
        "A stolen modality copies images",
        "C-STORE by the same peer, and the same C-GET by a peer that has the right",
    ),
    Check.PROBE_CONFINED: CheckInfo(
        Group.RIGHTS,
        "The probe's own certificate cannot store an object outside the reserved patient prefix",
        "Who steals the probe's identity plants images in real patients' folders",
        "The same object with the reserved prefix",
    ),
    Check.IDLE_CONNECTIONS_HARMLESS: CheckInfo(
        Group.AVAILABILITY,
        "With idle TCP connections and idle TLS sessions held open, a good peer is served in time",
        "One silent socket stops all modalities",
        "The same echo without idle connections",
        each_replica=True,
    ),
    Check.SLOW_REQUESTS_HARMLESS: CheckInfo(
        Group.AVAILABILITY,
        "With TLS sessions held open that have sent half an association request, a good peer is served in time",
        "One slow device stops all modalities",
        "The same echo without them",
        each_replica=True,
    ),
    Check.SILENT_ASSOCIATIONS_HARMLESS: CheckInfo(
        Group.AVAILABILITY,
        "With associations of one peer held open that say nothing (16, or a quarter of what the gate lets in), another "
        "peer's image is stored in time",
        "One hanging device stops all modalities",
        "The same C-STORE without them",
        each_replica=True,
    ),
    Check.ASSOCIATION_LIMIT_HELD: CheckInfo(
        Group.AVAILABILITY,
        "A peer that has all the associations it may have is told to try again later",
        "One device that runs wild takes all places",
        "The same request once the others have ended",
        each_replica=True,
    ),
    Check.UNLISTED_SOP_CLASS_REFUSED: CheckInfo(
        Group.INGEST,
        "A SOP class that no archive knows is refused when the association is negotiated",
        "Objects that nobody can show lie in the archive",
        "A CT image in the same association",
    ),
    Check.UNLISTED_TRANSFER_SYNTAX_REFUSED: CheckInfo(
        Group.INGEST,
        "A transfer syntax that no archive knows is refused when the association is negotiated",
        "Objects that nobody can read lie in the archive",
        "The same SOP class in Explicit VR Little Endian, in the same association",
    ),
    Check.DIFFERING_DUPLICATE_REFUSED: CheckInfo(
        Group.INGEST,
        "Another image under a SOP Instance UID that is stored already is answered with failure, and the stored one "
        "stays as it was",
        "A copied UID replaces a patient's image",
        "The very same image once more",
    ),
    Check.ORTHANC_UNREACHABLE: CheckInfo(
        Group.NETWORK,
        "Orthanc's DICOM port does not answer a zone that has no business there",
        "Who is in the cluster walks around the gate",
        "The control port of the same pod answers",
    ),
    Check.POSTGRES_UNREACHABLE: CheckInfo(
        Group.NETWORK,
        "PostgreSQL's port does not answer a zone that has no business there",
        "Who is in the cluster reads the index of all patients",
        "The control port of the same pod answers",
    ),
    Check.OUTBOUND_GATE_UNREACHABLE: CheckInfo(
        Group.NETWORK,
        "The gate's outbound side, which is Orthanc's alone, does not answer this zone",
        "Who is in the cluster sends images out in the name of the archive",
        "The DICOM port of the same address answers",
    ),
    Check.LEGACY_PORTS_CLOSED: CheckInfo(
        Group.NETWORK,
        "No plaintext port of a device without TLS lets in who comes from another address, though with the device's "
        "own AE title; code ports-0 where no device has such a port",
        "Whoever reaches the port and knows a title is the old scanner",
        "The DICOM port of the same address answers",
    ),
    Check.CONTROL_FOREIGN_REFUSED: CheckInfo(
        Group.IDENTITY,
        "A modality's certificate opens nothing on the control port",
        "A stolen modality removes objects or reads status",
        "The same request with the clean-up certificate",
    ),
    Check.CONTROL_ROUTE_REFUSED: CheckInfo(
        Group.RIGHTS,
        "The clean-up certificate is refused every route but its own",
        "One leaked identity opens all of the control port",
        "Its own route with the same certificate",
    ),
    Check.WEB_QUERY: CheckInfo(
        Group.SERVICE,
        "QIDO-RS finds exactly the instances that the run stored",
        "Viewers find nothing, or other patients' images",
        each_replica=True,
    ),
    Check.WEB_RETRIEVE_EQUAL: CheckInfo(
        Group.SERVICE,
        "WADO-RS returns a stored object with its transfer syntax and every element unchanged",
        "Viewers show something else than what was stored",
        each_replica=True,
    ),
    Check.WEB_NO_CERTIFICATE_REFUSED: CheckInfo(
        Group.IDENTITY,
        "HTTPS without client certificate gets no answer, with Orthanc's default password neither",
        "Anybody on the network reads and writes images",
        "A search with the good peer's certificate",
        each_replica=True,
    ),
    Check.WEB_FOREIGN_CERTIFICATE_REFUSED: CheckInfo(
        Group.IDENTITY,
        "A certificate with the right name signed by another authority gets no answer over HTTPS",
        "Whoever can make a certificate becomes a viewer",
        "The same request with the name signed by the archive's authority",
        each_replica=True,
    ),
    Check.WEB_UNGRANTED_REFUSED: CheckInfo(
        Group.RIGHTS,
        "A peer that may only store neither searches nor retrieves over HTTPS",
        "A stolen modality lists every patient of the hospital",
        "The same search by a peer that has the right",
        each_replica=True,
    ),
    Check.WEB_ROUTE_REFUSED: CheckInfo(
        Group.RIGHTS,
        "Administrative routes of Orthanc, and other spellings that lead there, are refused over HTTPS",
        "One viewer's certificate deletes images and reconfigures the archive",
        "A search by the same certificate",
        each_replica=True,
    ),
    Check.WEB_METHOD_REFUSED: CheckInfo(
        Group.RIGHTS,
        "TRACE, OPTIONS, PUT, DELETE and PATCH are refused over HTTPS",
        "One viewer's certificate deletes images",
        "GET by the same certificate",
        each_replica=True,
    ),
    Check.OBJECTS_REMOVED: CheckInfo(
        Group.CLEANUP,
        "The run's objects are removed by the restricted route and cannot be found any more",
        "Probes fill the archive, and test patients appear in doctors' lists",
    ),
    Check.NO_RESIDUE: CheckInfo(
        Group.CLEANUP,
        "No object of any earlier run is left",
        "A run that died left test patients in doctors' lists",
    ),
}

NETWORK_CHECKS: frozenset[Check] = frozenset(check for check, info in CHECKS.items() if info.group is Group.NETWORK)

_ONE_STACK = frozenset(
    {
        Check.GATE_REPLICAS,
        Check.GET_EQUAL,
        Check.OLD_TLS_REFUSED,
        Check.UNGRANTED_GET_REFUSED,
        Check.SESSION_RESUMPTION_REFUSED,
        Check.IDLE_CONNECTIONS_HARMLESS,
        Check.SLOW_REQUESTS_HARMLESS,
        Check.SILENT_ASSOCIATIONS_HARMLESS,
        Check.ASSOCIATION_LIMIT_HELD,
        Check.CONTROL_FOREIGN_REFUSED,
        Check.CONTROL_ROUTE_REFUSED,
        Check.OBJECTS_REMOVED,
        Check.NO_RESIDUE,
    }
)
#: What the tests try with DCMTK's programs, too, on a real gate and Orthanc; a run itself speaks pynetdicom alone.
SECOND_STACK: frozenset[Check] = frozenset(Check) - NETWORK_CHECKS - WEB_CHECKS - _ONE_STACK
