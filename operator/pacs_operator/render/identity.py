"""One ServiceAccount for each component: what its pod is towards Vault, and nothing towards the Kubernetes API."""

from pacs_operator.domain.facts import Desired
from pacs_operator.render.manifests import Manifest, components, namespaced


def render(desired: Desired) -> list[Manifest]:
    """Return the ServiceAccounts."""
    return [
        {
            **namespaced(desired, "ServiceAccount", component.value, component),
            "automountServiceAccountToken": False,
        }
        for component in components(desired)
    ]
