"""Refuse CRDs that are older than this operator needs."""

from pacs_operator.domain.errors import PacsError
from pacs_operator.domain.names import GROUP
from pacs_operator.kube.inventory import APPROVAL, ARCHIVE, CATALOG, CRD, IMPORT, PEER
from pacs_operator.kube.port import KubePort, annotations_of

ANNOTATION_REVISION = f"{GROUP}/crd-revision"
NEEDED_REVISION = 3


class CrdTooOldError(PacsError):
    """A CRD is missing or older than this operator needs."""

    reason = "CrdTooOld"


def check_crds(kube: KubePort) -> None:
    """Refuse to run on CRDs that would silently drop fields we write.

    Raises
    ------
    CrdTooOldError
        Names the CRD, its revision and the one needed.
    """
    for kind in (ARCHIVE, PEER, CATALOG, APPROVAL, IMPORT):
        name = f"{kind.plural}.{GROUP}"
        live = kube.get(CRD, name)
        if live is None:
            raise CrdTooOldError(f"CRD {name} is not installed", action="apply the crds of this operator's release")
        text = annotations_of(live).get(ANNOTATION_REVISION, "0")
        if not text.isdigit() or int(text) < NEEDED_REVISION:
            raise CrdTooOldError(
                f"CRD {name} has revision {text}, this operator needs {NEEDED_REVISION} or later",
                action="apply the crds of this operator's release first: Helm does not upgrade CRDs",
            )
