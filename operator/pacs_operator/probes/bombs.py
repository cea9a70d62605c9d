"""Objects that are small on the wire and huge when somebody looks at them: an archive that keeps one can be ended."""

import gzip
from dataclasses import replace

from pydicom import Dataset
from pydicom.uid import UID

from pacs_operator.domain.checks import Layer
from pacs_operator.probes.client import NotAssociatedError, store
from pacs_operator.probes.objects import shadow_objects
from pacs_operator.probes.servicechecks import status_code
from pacs_operator.probes.setting import Setting
from pacs_operator.probes.verdict import Verdict, judge, not_run
from pacs_operator.probes.webchecks import Reply, ask, fetch, part10, stow
from pacs_operator.probes.wire import Endpoint

#: Of rows and of columns: the most that an object can claim (PS3.5 6.2, US). Three samples of 64 bits each are 96 GiB
#: a frame, more than the largest object that any archive may be told to take.
CLAIMED = 65535
PADDING = 64 * 2**20  # bytes of zeros behind a request, which gzip folds to some 64 KiB


def refused(setting: Setting, replica: Endpoint) -> Verdict:
    """Store a bomb by C-STORE and by STOW-RS, and an object in a folded request; twins: the same, each honest.

    The twins come last, so that they tell whether the archive has borne the bombs, too.
    """
    objects = shadow_objects()
    bombs = [(way, _claiming(objects.compressed())) for way in (_c_store, _stow)] + [(_folded_stow, objects.small())]
    answers = []
    for way, bomb in bombs:
        answers.append(way(setting, replica, bomb))
        if fetch(setting, replica, bomb).served:
            return judge(attack_succeeded=True, layer=Layer.DICOM, code="accepted", twin_served=True)
    if any(answer.layer in (Layer.NETWORK, Layer.PROBE) for answer in answers):
        return not_run("not-reached")
    served = True
    for way in (_c_store, _stow):
        honest = objects.compressed()
        way(setting, replica, honest)
        served = fetch(setting, replica, honest).served and served
    return judge(attack_succeeded=False, layer=answers[0].layer, code=answers[0].code, twin_served=served)


def _claiming(dataset: Dataset) -> Dataset:
    """Let an image of one compressed frame claim pixels that nobody has memory for."""
    dataset.Rows = dataset.Columns = CLAIMED
    dataset.SamplesPerPixel, dataset.BitsAllocated = 3, 64
    return dataset


def _c_store(setting: Setting, replica: Endpoint, dataset: Dataset) -> Reply:
    kind = UID(dataset.SOPClassUID), UID(dataset.file_meta.TransferSyntaxUID)
    session = setting.session(replica, setting.config.peer)
    try:
        return Reply(Layer.DICOM, status_code(store(session, [("one", *kind, dataset)])["one"]))
    except NotAssociatedError:
        return Reply(Layer.PROBE, "not-reached")


def _stow(setting: Setting, replica: Endpoint, dataset: Dataset) -> Reply:
    return ask(setting, replica, stow(setting, part10(dataset)))


def _folded_stow(setting: Setting, replica: Endpoint, dataset: Dataset) -> Reply:
    request = stow(setting, part10(dataset))
    headers = (*request.headers, ("Content-Encoding", "gzip"))
    return ask(
        setting, replica, replace(request, headers=headers, body=gzip.compress((request.body or b"") + bytes(PADDING)))
    )
