"""The index: a managed PostgreSQL's pod, or what Orthanc's agent found of somebody else's server."""

from pacs_operator.domain.conditions import ConditionType
from pacs_operator.domain.database import CHECK_FAILED, SHORTCOMINGS, SUBJECT, ExternalDatabase
from pacs_operator.domain.names import Component, Zone, namespace_of
from pacs_operator.kube.inventory import STATEFUL_SET
from pacs_operator.reconcile.agents import answers
from pacs_operator.reconcile.context import Pass

_MAJOR = 10_000  # 170004 is 17.4


def report(run: Pass) -> None:
    """Set DatabaseReady."""
    external = run.archive.spec.database.external if run.archive else None
    if external is not None:
        _external(run, external)
        return
    live = run.owned.get((STATEFUL_SET.kind, namespace_of(run.name, Zone.DATA), Component.POSTGRES.value))
    ready = int(((live or {}).get("status") or {}).get("readyReplicas") or 0)
    if ready < 1:
        run.set(ConditionType.DATABASE_READY, "False", "NotReady", "PostgreSQL has no ready pod")
    else:
        run.set(ConditionType.DATABASE_READY, "True", "Answering", "PostgreSQL answers its agent")


def _external(run: Pass, external: ExternalDatabase) -> None:
    told = answers(run, Component.ORTHANC)
    where = f"PostgreSQL {external.name} at {external.host}:{external.port}"
    standing = next((status.problems[SUBJECT] for status in told if SUBJECT in status.problems), None)
    found = next((status.database for status in told if status.database), None)
    if standing is not None:
        short = SHORTCOMINGS.get(standing, CHECK_FAILED)
        text = f"{where}: {short.text} ({short.action})"
        run.set(ConditionType.DATABASE_READY, "False", short.reason, text)
    elif found is not None:
        version = f"{found.server_version // _MAJOR}.{found.server_version % _MAJOR}"
        text = f"{where} answers Orthanc's agent: version {version}, verified, and this archive's own"
        run.set(ConditionType.DATABASE_READY, "True", "Answering", text)
    else:
        why = next((f": {error}" for error in run.memory.agent_errors.values()), "")
        text = f"Orthanc's agent has not yet told of {where}{why}"
        run.set(ConditionType.DATABASE_READY, "Unknown", "NotObserved", text)
