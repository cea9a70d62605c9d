"""The real API: the official client's dynamic client, over dictionaries, without discovery."""

import http.client
import json
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import urllib3.exceptions
from kubernetes import client, config, dynamic
from kubernetes.client.exceptions import ApiException

from pacs_operator.domain import names
from pacs_operator.domain.errors import NotFoundError
from pacs_operator.kube.errors import ApiUnreachableError, translate
from pacs_operator.kube.inventory import Kind, kind_of
from pacs_operator.kube.port import APPLY_PATCH, MERGE_PATCH, Manifest, metadata

PAGE = 500
CONNECT_SECONDS, READ_SECONDS = 5, 20
_METHODS = {"apply": "patch", "create": "post", "replace": "put"}


class _NoDiscovery:
    """Discovery would read the whole API at start and write a cache file; the inventory knows all paths."""

    def __init__(self, _client: object, _cache_file: object) -> None:
        return


def load_api_client(pool_size: int) -> client.ApiClient:
    """Return a client for the pod's own account, or for ``KUBECONFIG`` outside a cluster.

    Parameters
    ----------
    pool_size
        Connections kept open; as many as there are workers.
    """
    configuration = client.Configuration()
    if Path("/var/run/secrets/kubernetes.io/serviceaccount/token").exists():
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    configuration.connection_pool_maxsize = pool_size
    configuration.retries = False  # the queue backs off; hidden retries would hide trouble and multiply load
    return client.ApiClient(configuration)


class KubeClient:
    """``KubePort`` on a real API server.

    Parameters
    ----------
    api_client
        Configured client of the official library.
    on_write
        Called with verb and kind for each write, for the metric.
    manager
        Whom ``managedFields`` name as the writer.
    """

    def __init__(
        self,
        api_client: client.ApiClient,
        on_write: Callable[[str, str], None] | None = None,
        *,
        manager: str = names.FIELD_MANAGER,
    ) -> None:
        self._dynamic = dynamic.DynamicClient(api_client, discoverer=_NoDiscovery)  # type: ignore[no-untyped-call]
        self._on_write = on_write or (lambda _verb, _kind: None)
        self._manager = manager

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> Manifest | None:
        """Return the live object, or None when it does not exist."""
        try:
            return self._call("get", kind.path(namespace, name))
        except NotFoundError:
            return None

    def list(self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None) -> list[Manifest]:
        """Return all live objects, page by page; an expired page token (410) is retried by the queue."""
        selector = ",".join(f"{key}={value}" for key, value in (labels or {}).items()) or None
        items: list[Manifest] = []
        token: str | None = None
        while True:
            page = self._call("get", kind.path(namespace), label_selector=selector, limit=PAGE, _continue=token)
            for item in page.get("items") or []:
                items.append({**item, "apiVersion": kind.api_version, "kind": kind.kind})
            token = (page.get("metadata") or {}).get("continue") or None
            if token is None:
                return items

    def apply(self, manifest: Manifest, *, force: bool) -> Manifest:
        """Server-side apply."""
        return self._write("apply", manifest, content_type=APPLY_PATCH, force_conflicts=force)

    def apply_status(self, manifest: Manifest) -> Manifest:
        """Server-side apply of the status subresource."""
        return self._write("apply", manifest, "status", content_type=APPLY_PATCH, force_conflicts=True)

    def create(self, manifest: Manifest) -> Manifest:
        """Create."""
        return self._write("create", manifest)

    def replace(self, manifest: Manifest) -> Manifest:
        """Update the whole object."""
        return self._write("replace", manifest)

    def patch(self, kind: Kind, name: str, namespace: str | None, patch: Manifest) -> Manifest:
        """Merge-patch."""
        self._on_write("patch", kind.kind)
        path = kind.path(namespace, name)
        return self._call("patch", path, body=patch, content_type=MERGE_PATCH, field_manager=self._manager)

    def delete(self, manifest: Manifest) -> None:
        """Delete by uid; gone already is a success, another object of the same name a conflict."""
        kind, data = kind_of(manifest), metadata(manifest)
        # A workload stays visible until its pods are gone, for those who wait for them; the rest goes at once.
        propagation = "Foreground" if kind.api_version in ("apps/v1", "batch/v1") else "Background"
        options = {"preconditions": {"uid": data["uid"]}, "propagationPolicy": propagation}
        self._on_write("delete", kind.kind)
        try:
            self._call("delete", kind.path(data.get("namespace"), data["name"]), body=options)
        except NotFoundError:
            return

    def _write(self, verb: str, manifest: Manifest, subresource: str | None = None, **more: Any) -> Manifest:
        kind, data = kind_of(manifest), metadata(manifest)
        self._on_write(verb, kind.kind)
        name = None if verb == "create" else data["name"]
        path = kind.path(data.get("namespace"), name, subresource)
        return self._call(_METHODS[verb], path, body=manifest, field_manager=self._manager, **more)

    def _call(self, method: str, path: str, **params: Any) -> Manifest:
        try:
            response = self._dynamic.request(
                method, path, serialize=False, _request_timeout=(CONNECT_SECONDS, READ_SECONDS), **params
            )
        except ApiException as error:
            raise translate(error.status, error.body, f"{method.upper()} {path}") from None
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, ssl.SSLError, OSError) as error:
            raise ApiUnreachableError(
                f"{method.upper()} {path}: {type(error).__name__}",
                action="check that the Kubernetes API can be reached from the operator's pod",
            ) from None
        return _object(response.data, f"{method.upper()} {path}")


def _object(body: str | bytes, what: str) -> Manifest:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ApiUnreachableError(
            f"{what}: the answer is no JSON object",
            action="check that no proxy or login page answers in place of the Kubernetes API",
        )
    return found
