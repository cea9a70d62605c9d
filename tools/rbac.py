"""Write the chart's RBAC rules from the operator's own inventory of kinds and verbs.

Run ``python tools/rbac.py``; a test holds the file to the inventory, and forbids wildcards and Secrets.
"""

from collections.abc import Iterable
from pathlib import Path

import yaml

from pacs_operator.kube.inventory import rbac_rules

PAGE = Path(__file__).parents[1] / "charts" / "pacs-operator" / "templates" / "rbac.yaml"

HEAD = """\
# Made from operator/pacs_operator/kube/inventory.py by `make docs`; edit the inventory, not this file.
apiVersion: rbac.authorization.k8s.io/v1
kind: {kind}
metadata:
  name: {{{{ .Release.Name }}}}{namespace}
  labels: {{{{- include "pacs-operator.labels" . | nindent 4 }}}}
rules:
{rules}---
apiVersion: rbac.authorization.k8s.io/v1
kind: {kind}Binding
metadata:
  name: {{{{ .Release.Name }}}}{namespace}
  labels: {{{{- include "pacs-operator.labels" . | nindent 4 }}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {kind}, name: {{{{ .Release.Name }}}}}}
subjects:
  - {{kind: ServiceAccount, name: {{{{ .Release.Name }}}}, namespace: {{{{ .Release.Namespace }}}}}}
"""


def rules(wanted: Iterable[tuple[str, str, tuple[str, ...]]]) -> str:
    """Return rules as YAML, one for each resource."""
    return "".join(
        "  - "
        + yaml.safe_dump(
            {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)},
            default_flow_style=True,
            sort_keys=False,
            width=200,
        )
        for group, resource, verbs in wanted
    )


def page() -> str:
    """Return the whole template."""
    cluster = HEAD.format(kind="ClusterRole", namespace="", rules=rules(rbac_rules(operator_namespace=False)))
    own = HEAD.format(
        kind="Role",
        namespace="\n  namespace: {{ .Release.Namespace }}",
        rules=rules(rbac_rules(operator_namespace=True)),
    )
    return cluster + "---\n" + own


if __name__ == "__main__":
    PAGE.write_text(page())
