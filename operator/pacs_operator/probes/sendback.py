"""What an archive sends to a device: images that were asked for by C-MOVE, and reports of storage commitment.

Not in a run: it would need a receiver in the zone of the probes, a way into it, and the right to move.
"""

import contextlib
from collections.abc import Iterator

from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from pacs_operator.domain.checks import Layer
from pacs_operator.probes.client import SUCCESS, Session, commit, move, store
from pacs_operator.probes.compare import decode, differences, encode
from pacs_operator.probes.objects import ProbeObject, shadow_objects
from pacs_operator.probes.servicechecks import STUDY_ROOT_MOVE, query, status_code
from pacs_operator.probes.setting import Setting
from pacs_operator.probes.station import Inbox, Station, listening
from pacs_operator.probes.verdict import PASSED, Verdict, failed, judge, not_run
from pacs_operator.probes.wire import Endpoint


def moved_equal(setting: Setting, replica: Endpoint) -> Verdict:
    """Store a study and have it sent to this device's own receiver: it arrives whole, once, and equal.

    Without the compressed image: a class has one transfer syntax at our receiver, and the archive converts to it.
    """
    session = _session(setting, replica)
    sent = [each for each in shadow_objects().all() if each.transfer_syntax == ExplicitVRLittleEndian]
    if (wrong := _store(session, sent)) is not None:
        return not_run(wrong, Layer.DICOM)
    with _listening(setting, sent) as inbox:
        status = _move(session, session.calling, sent[0])
    if status != SUCCESS:
        return failed(Layer.DICOM, status_code(status))
    received = {each.sop_instance_uid: each for each in inbox.objects}
    if inbox.strangers or len(inbox.objects) != len(received) or received.keys() - {each.uid for each in sent}:
        return failed(Layer.DICOM, "unexpected")
    if len(received) != len(sent):
        return failed(Layer.DICOM, "missing")
    for each in sent:
        syntax = UID(received[each.uid].transfer_syntax)
        own = decode(encode(each.dataset, each.transfer_syntax), each.transfer_syntax)
        if syntax != each.transfer_syntax or differences(own, decode(received[each.uid].encoded, syntax)):
            return failed(Layer.DICOM, "differs")
    return PASSED


def unlisted_refused(setting: Setting, replica: Endpoint) -> Verdict:
    """Have a study sent to a title that is none of this device's destinations; twin: to its own."""
    device = setting.config.device
    if device is None or device.unlisted_ae_title is None:
        return not_run("client-cannot")
    session, sent = _session(setting, replica), shadow_objects().all()[:1]
    if (wrong := _store(session, sent)) is not None:
        return not_run(wrong, Layer.DICOM)
    with _listening(setting, sent) as inbox:
        status = _move(session, device.unlisted_ae_title, sent[0])
        # The other device's address may be this machine's, too: then what leaves is seen.
        arrived = bool(inbox.associations)
        twin = _move(session, session.calling, sent[0]) == SUCCESS and bool(inbox.objects)
    granted = status == SUCCESS or arrived
    return judge(attack_succeeded=granted, layer=Layer.DICOM, code=status_code(status), twin_served=twin)


def commitment_reported(setting: Setting, replica: Endpoint) -> Verdict:
    """Ask for storage commitment of what was stored: the report comes on a new association and says so."""
    session, sent = _session(setting, replica), shadow_objects().all()[:2]
    if (wrong := _store(session, sent)) is not None:
        return not_run(wrong, Layer.DICOM)
    with _listening(setting, sent) as inbox:
        return _reported(setting, session, inbox, sent)


def _reported(setting: Setting, session: Session, inbox: Inbox, sent: list[ProbeObject]) -> Verdict:
    transaction = generate_uid()
    status = commit(session, transaction, [(each.sop_class, each.uid) for each in sent])
    if status != SUCCESS:
        return failed(Layer.DICOM, status_code(status))
    report = inbox.report(transaction, setting.config.bounds.dimse_millis / 1000)
    if report is None:
        return failed(Layer.DICOM, "missing")
    good = report.committed == {each.uid for each in sent} and not report.failed
    return PASSED if good else failed(Layer.DICOM, "differs")


def commitment_denied(setting: Setting, replica: Endpoint) -> Verdict:
    """Ask for storage commitment of what was never stored: the report says that it failed; twin: what was stored."""
    session = _session(setting, replica)
    here, absent = shadow_objects().all()[:1], shadow_objects().all()[0]
    if (wrong := _store(session, here)) is not None:
        return not_run(wrong, Layer.DICOM)
    with _listening(setting, here) as inbox:
        transaction = generate_uid()
        status = commit(session, transaction, [(absent.sop_class, absent.uid)])
        report = inbox.report(transaction, setting.config.bounds.dimse_millis / 1000) if status == SUCCESS else None
        twin = _reported(setting, session, inbox, here) == PASSED
    if report is None:
        return not_run(status_code(status) if status != SUCCESS else "missing", Layer.DICOM)
    promised = absent.uid in report.committed or absent.uid not in report.failed
    code = "accepted" if promised else "denied"
    return judge(attack_succeeded=promised, layer=Layer.DICOM, code=code, twin_served=twin)


def _session(setting: Setting, replica: Endpoint) -> Session:
    return setting.session(replica, setting.config.peer)


def _store(session: Session, sent: list[ProbeObject]) -> str | None:
    statuses = store(session, [(each.uid, each.sop_class, each.transfer_syntax, each.dataset) for each in sent])
    return next((status_code(status) for status in statuses.values() if status != SUCCESS), None)


def _move(session: Session, destination: str, one: ProbeObject) -> int | None:
    study = query("STUDY", StudyInstanceUID=str(one.dataset.StudyInstanceUID))
    return move(session, STUDY_ROOT_MOVE, destination, [study])[0]


@contextlib.contextmanager
def _listening(setting: Setting, sent: list[ProbeObject]) -> Iterator[Inbox]:
    device = setting.config.device
    if device is None:
        raise ValueError("a device that is sent to has to listen")
    endpoint = Endpoint(device.listen_address, device.listen_port)
    trust = setting.gate_trust
    station = Station(endpoint, setting.peer, trust.ca_pem, trust.server_name)
    kinds = {(each.sop_class, each.transfer_syntax) for each in sent}
    with listening(station, setting.config.peer.ae_title, kinds) as inbox:
        yield inbox
