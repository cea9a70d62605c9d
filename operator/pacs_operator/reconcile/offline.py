"""What can be started while Vault is away, and what was: from the agents' own word."""

from pacs_operator.domain.agentconfig import CLOCK_SKEW, OfflineTold
from pacs_operator.domain.conditions import ConditionType
from pacs_operator.domain.names import LABEL_COMPONENT
from pacs_operator.domain.offline import SECRET, OfflineStart, fingerprint
from pacs_operator.domain.status import OfflinePod, OfflineStatus
from pacs_operator.domain.times import parse_time
from pacs_operator.kube.port import Manifest, labels_of, metadata
from pacs_operator.reconcile.agents import serving
from pacs_operator.reconcile.context import Pass

_NAMED = 4
_GUIDE = "docs/offline-start.md"


def report(run: Pass) -> None:
    """Set ``status.offlineStart`` and its condition; a pod that lives on what was sealed takes VaultReady away."""
    declared = run.archive.spec.offline_start if run.archive else None
    kind = ConditionType.OFFLINE_START
    if declared is None:
        run.status = run.status.model_copy(update={"offline_start": None})
        if any(condition.type is kind for condition in run.observed.conditions):
            run.set(kind, "Unknown", "NotDeclared", "spec.offlineStart is absent: pods that start wait for Vault")
        return
    status = _status(run, declared)
    run.status = run.status.model_copy(update={"offline_start": status})
    _condition(run, status)
    _vault(run, status)


def _status(run: Pass, declared: OfflineStart) -> OfflineStatus:
    """Return what the pods told; of one that is not heard, what it told before."""
    mark = fingerprint(declared.recipient)
    known = run.observed.offline_start
    before = {pod.name: pod for pod in known.pods} if known and known.recipient == mark else {}
    pods = [_pod(run, str(metadata(live)["name"]), str(metadata(live)["uid"]), mark, before) for live in _pods(run)]
    pods.sort(key=lambda pod: pod.name)
    times = [pod.started for pod in pods if pod.started]
    if known and known.recipient == mark and known.last_started:
        times.append(known.last_started)
    return OfflineStatus(
        recipient=mark,
        holder=declared.holder,
        reason=declared.reason,
        pods=pods[:16],
        last_started=max(times, default=None),
    )


def _pods(run: Pass) -> list[Manifest]:
    """Return all pods that seal; those that wait for Vault too, which no agent's port tells of."""
    names = {component.value for component in serving(run)}
    there = (pod for pod in run.pods if not metadata(pod).get("deletionTimestamp"))
    return [pod for pod in there if labels_of(pod).get(LABEL_COMPONENT) in names]


def _pod(run: Pass, name: str, uid: str, mark: str, before: dict[str, OfflinePod]) -> OfflinePod:
    heard = run.memory.agents.get(uid)
    if heard is None:
        return before.get(name) or OfflinePod(name=name)
    told = heard[1].offline
    if told is None or told.recipient != mark:
        return OfflinePod(name=name)
    told = _believable(run, told)
    return OfflinePod(name=name, sealed=told.sealed, started=told.started)


def _believable(run: Pass, told: OfflineTold) -> OfflineTold:
    """Leave out what is said to have happened later: it would stay the newest for ever."""
    end = run.now + CLOCK_SKEW
    late = {name: None for name in ("sealed", "started") if (at := getattr(told, name)) and parse_time(at) > end}
    return told.model_copy(update=late)


def _condition(run: Pass, status: OfflineStatus) -> None:
    kind = ConditionType.OFFLINE_START
    lacking = [pod.name for pod in status.pods if pod.sealed is None]
    if not status.pods:
        run.set(kind, "Unknown", "NoPods", "No pod of this archive runs that could have sealed anything")
        return
    if lacking:
        more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
        text = (
            f"Not sealed, or not told: {', '.join(lacking[:_NAMED])}{more}; these would wait for Vault after a reboot"
        )
        run.set(kind, "False", "NotSealed", text)
        return
    text = f"All {len(status.pods)} pods have sealed what a start needs to key {status.recipient} of {status.holder}"
    if status.last_started is None:
        run.set(
            kind,
            "True",
            "NeverTried",
            f"{text}; applied, not proven: nobody has started by it yet, drill it ({_GUIDE})",
        )
        return
    run.set(kind, "True", "Tried", f"{text}; pods last started by it at {status.last_started}")


def _vault(run: Pass, status: OfflineStatus) -> None:
    """Say who lives on what was sealed; or, while Vault is away, by what those could start that wait."""
    away = run.vault_error
    offline = [pod for pod in status.pods if pod.started]
    if offline:
        since = min(pod.started for pod in offline if pod.started)
        why = f" ({away.reason}: {away.message})" if away else ""
        text = (
            f"{len(offline)} of {len(status.pods)} pods started offline since {since} by key {status.recipient} and "
            f"have not renewed at Vault yet{why}; bring Vault back before their certificates end, then delete Secret "
            f"{SECRET} in every zone ({_GUIDE})"
        )
        run.set(ConditionType.VAULT_READY, "False", "StartedOffline", text)
    elif away is not None:
        text = (
            f"{away}; pods that a reboot stopped can start without it by the key {status.recipient}, which "
            f"{status.holder} has ({_GUIDE})"
        )
        run.set(ConditionType.VAULT_READY, "False", away.reason, text)
