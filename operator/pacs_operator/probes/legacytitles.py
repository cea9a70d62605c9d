"""The plaintext port of a device without TLS, asked from the device's own address: its titles and no others."""

from pacs_operator.domain.checks import Layer
from pacs_operator.domain.conformanceconfig import LegacyDevice
from pacs_operator.probes.gatechecks import NOBODY, other_case
from pacs_operator.probes.setting import Setting
from pacs_operator.probes.verdict import Verdict, judge
from pacs_operator.probes.wire import Answer, Caller, Endpoint, attempt


def pinned(setting: Setting, replica: Endpoint) -> Verdict:
    """Ask at every device's port as somebody else, for somebody else, and in TLS; twin: as the device itself.

    Not in a run: the gate drops what comes from a pod's address before it reads a title.
    """
    verdicts = [_one(setting, replica, device) for device in setting.config.legacy_devices]
    return min(verdicts, key=lambda verdict: ("Failed", "NotRun", "Passed").index(verdict.outcome))


def _one(setting: Setting, replica: Endpoint, device: LegacyDevice) -> Verdict:
    good = setting.good_caller()
    itself = good.but(calling=device.ae_title, context=None)
    answers = [_ask(setting, replica, device, caller) for caller in _strangers(itself, good)]
    through = next((answer for answer in answers if answer.accepted), None)
    unheard = next((answer for answer in answers if answer.layer is Layer.NETWORK), None)
    shown = through or unheard or answers[0]
    # Not its echo: such a device may only store, where nothing else was granted.
    twin = _ask(setting, replica, device, itself).accepted
    if through:
        return judge(attack_succeeded=True, layer=Layer.GATE, code="accepted", twin_served=twin)
    return judge(attack_succeeded=False, layer=shown.layer, code=shown.code, twin_served=twin and unheard is None)


def _strangers(itself: Caller, good: Caller) -> list[Caller]:
    return [
        itself.but(calling=NOBODY),
        itself.but(calling=good.calling),
        itself.but(called=NOBODY),
        itself.but(called=other_case(good.called)),
        itself.but(context=good.context),
    ]


def _ask(setting: Setting, replica: Endpoint, device: LegacyDevice, caller: Caller) -> Answer:
    return attempt(Endpoint(replica.address, device.port), caller, setting.waits)
