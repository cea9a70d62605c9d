"""What people approved: read anew whenever it matters, since withdrawing is deleting."""

from datetime import UTC

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from pacs_operator.domain.approval import Approval, ApprovalSpec
from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.names import Zone, namespace_of
from pacs_operator.domain.validation import parse
from pacs_operator.kube.inventory import APPROVAL
from pacs_operator.kube.port import metadata
from pacs_operator.reconcile.context import Pass

_TIME: TypeAdapter[AwareDatetime] = TypeAdapter(AwareDatetime)


def read(run: Pass) -> list[Approval]:
    """Return all approvals that can be read; one that breaks the rules counts for nothing."""
    found = []
    for live in run.ports.kube.list(APPROVAL, namespace_of(run.name, Zone.OPS)):
        data = metadata(live)
        if data.get("deletionTimestamp"):
            continue
        try:
            spec = parse(ApprovalSpec, live.get("spec") or {}, "spec")
            created = _TIME.validate_python(data.get("creationTimestamp")).astimezone(UTC)
        except (InvalidSpecError, ValidationError):
            continue
        found.append(Approval(data["name"], created, spec))
    return found
