"""Comparing, leases, the inventory, and the CRDs' revision."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from pacs_operator.domain.errors import ConflictError
from pacs_operator.kube.apply import in_apply_order
from pacs_operator.kube.crds import NEEDED_REVISION, CrdTooOldError, check_crds
from pacs_operator.kube.diff import compare, show, smaller
from pacs_operator.kube.errors import ApiUnreachableError
from pacs_operator.kube.inventory import APPLY_ORDER, INVENTORY, kind_of, rbac_rules
from pacs_operator.kube.lease import RENEW_DEADLINE, Lease, LeaseName
from pacs_operator.kube.port import Manifest
from tests.engine.simapi import ACTION, SimulatedApi, WriteLog
from tests.engine.world import World, archive_manifest


def policy(**spec: object) -> dict:
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p"}, "spec": spec}


def quota(**hard: object) -> dict:
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard}}


@pytest.mark.parametrize(
    ("desired", "live", "paths"),
    [
        (policy(podSelector={}), policy(podSelector={}), []),
        (policy(podSelector={}), policy(podSelector={"matchLabels": {"a": "b"}}), ["spec.podSelector"]),
        (policy(ingress=[]), policy(ingress=[{}]), ["spec.ingress"]),
        (policy(ingress=[]), policy(), []),
        (policy(ingress=[{}]), policy(), ["spec.ingress"]),
        (policy(a=1), policy(a=1, defaulted=True), []),
        (policy(a=0), policy(), ["spec.a"]),
        (policy(a=False), policy(a=True), ["spec.a"]),
        (quota(pods="10"), quota(pods="10"), []),
        (quota(**{"limits.memory": "1024Mi"}), quota(**{"limits.memory": "1Gi"}), []),
        (quota(**{"limits.memory": "1Gi"}), quota(**{"limits.memory": "2Gi"}), ["spec.hard.limits.memory"]),
    ],
)
def test_what_counts_as_different(desired: dict, live: dict, paths: list[str]):
    assert [show(path) for path in compare(desired, live).changed] == paths


def test_a_quantity_outside_resources_is_text():
    one = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"limit": "1024Mi"}}
    assert compare(one, {**one, "data": {"limit": "1Gi"}})


@pytest.mark.parametrize(
    ("manager", "fields", "added"),
    [
        ("kubectl-edit", {"f:spec": {"f:egress": {}}}, ["spec.egress"]),
        ("pacs-operator", {"f:spec": {"f:podSelector": {}}}, []),
        ("kubectl-edit", {"f:metadata": {"f:annotations": {"f:note": {}}}}, []),
    ],
)
def test_fields_of_others_are_seen_by_ownership(manager: str, fields: dict, added: list[str]):
    live = policy(podSelector={}, egress=[{}])
    ours = {"manager": "pacs-operator", "operation": "Apply", "fieldsV1": {"f:spec": {"f:podSelector": {}}}}
    live["metadata"]["managedFields"] = [ours, {"manager": manager, "operation": "Update", "fieldsV1": fields}]
    found = compare(policy(podSelector={}), live)
    assert [show(path) for path in found.added] == added
    assert found.managers == (("kubectl-edit",) if added else ())


def test_what_a_controller_writes_into_the_status_is_nobodys_drift():
    live = policy(podSelector={})
    entry = {
        "manager": "kubelet",
        "operation": "Update",
        "subresource": "status",
        "fieldsV1": {"f:status": {"f:x": {}}},
    }
    live["metadata"]["managedFields"] = [entry]
    assert not compare(policy(podSelector={}), live)


def test_ports_are_matched_by_their_keys():
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s"},
        "spec": {"ports": [{"port": 2762, "name": "dicom-tls"}]},
    }
    key = 'k:{"port":2762,"protocol":"TCP"}'
    owned: Manifest = {"f:spec": {"f:ports": {key: {".": {}, "f:name": {}, "f:port": {}, "f:nodePort": {}}}}}
    live = {
        **service,
        "metadata": {
            "name": "s",
            "managedFields": [{"manager": "pacs-operator", "operation": "Apply", "fieldsV1": owned}],
        },
    }
    assert [path[-1] for path in compare(service, live).changed] == ["nodePort"]


def test_smaller():
    assert smaller("5Gi", "5121Mi")
    assert not smaller("1Ti", "1024Gi")


def test_every_rendered_kind_is_in_the_inventory_and_in_order():
    world = World()
    world.api.put(archive_manifest())
    seen = []
    keep = world.renderer.render_archive

    def watched(desired):
        seen.extend(keep(desired))
        return keep(desired)

    world.renderer.render_archive = watched
    world.settle()
    kinds = {kind_of(manifest) for manifest in seen}
    assert kinds == set(APPLY_ORDER), "a kind that nothing renders needs no verbs"
    ranked = [kind_of(manifest) for manifest in in_apply_order(seen)]
    assert ranked == sorted(ranked, key=APPLY_ORDER.index)
    with pytest.raises(KeyError):
        in_apply_order([{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}])


def test_the_inventory_asks_for_no_more_than_is_used():
    rules = {(group, resource): set(verbs) for group, resource, verbs in [*rbac_rules(False), *rbac_rules(True)]}
    assert "secrets" not in {resource for _, resource in rules}
    for (_, resource), verbs in rules.items():
        assert "*" not in verbs
        if resource in ("pods", "persistentvolumes", "pacsarchives", "pacsapprovals"):
            assert "delete" not in verbs, "what serves, and what people said, is never deleted by name"
        if resource in ("pacsapprovals", "pacsimports"):
            assert not verbs & {"create", "patch", "update", "delete"}, (
                "the operator approves and imports nothing itself"
            )
    assert len(rules) == len(INVENTORY) + 3


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 20, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def candidates() -> tuple[SimulatedApi, Clock, Lease, Lease]:
    api, clock = SimulatedApi(WriteLog()), Clock()

    def monotonic() -> float:
        return clock.now.timestamp()

    one, other = (Lease(api, LeaseName("pacs-operator", name), clock, monotonic) for name in ("one", "other"))
    return api, clock, one, other


def test_one_leads_and_the_other_waits_until_the_lease_has_stood_still():
    _, clock, one, other = candidates()
    assert one.try_hold()
    assert not other.try_hold()
    for _ in range(10):
        clock.advance(8)
        assert one.try_hold()
        assert not other.try_hold()
    clock.advance(29)
    assert not other.try_hold()
    clock.advance(8)
    assert other.try_hold()
    assert not one.try_hold()
    assert one.lost


def test_an_api_that_does_not_answer_costs_the_lead_before_anybody_else_may_take_it():
    api, clock, one, other = candidates()
    assert one.try_hold()
    other.try_hold()
    began = clock.now
    api.log.faults.errors = [(lambda *_: True, ApiUnreachableError("x", action=ACTION)) for _ in range(99)]
    while one.try_hold():
        assert not one.lost
        clock.advance(1)
    assert one.lost
    assert clock.now - began < timedelta(seconds=30)


def test_a_released_lease_is_free_at_once():
    _, _, one, other = candidates()
    assert one.try_hold()
    one.release()
    assert other.try_hold()
    assert not other.lost


def test_a_clock_that_is_set_gives_and_takes_no_lead():
    api, clock = SimulatedApi(WriteLog()), Clock()
    one, other = (Lease(api, LeaseName("pacs-operator", name), clock, lambda: 7.0) for name in ("one", "other"))
    assert one.try_hold()
    assert not other.try_hold()
    clock.advance(3600)
    assert not other.try_hold()
    assert not one.lost
    assert one.remaining == RENEW_DEADLINE.total_seconds()


def test_two_that_try_together_never_both_lead():
    api, _, one, other = candidates()
    api.log.faults.errors = []
    assert one.try_hold()
    one.release()
    live = api.list(next(kind for kind in INVENTORY if kind.kind == "Lease"))[0]
    stale = dict(live)
    assert one.try_hold()
    api.get = lambda *_: stale
    assert not other.try_hold(), "the version moved on: a conflict, not a second leader"


def crd(plural: str, revision: str | None) -> dict:
    annotations = {"pacs-operator.io/crd-revision": revision} if revision else {}
    metadata = {"name": f"{plural}.pacs-operator.io", "annotations": annotations}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": metadata}


@pytest.mark.parametrize("revision", ["0", "1", None, "old"])
def test_older_crds_are_refused_by_name(revision: str | None):
    api = SimulatedApi(WriteLog())
    for plural in ("pacsarchives", "dicompeers", "pacscatalogs", "pacsapprovals", "pacsimports"):
        api.put(crd(plural, str(NEEDED_REVISION)))
    check_crds(api)
    api.edit(
        ("CustomResourceDefinition", "", "dicompeers.pacs-operator.io"),
        "x",
        lambda live: live["metadata"].update(annotations=crd("x", revision)["metadata"]["annotations"]),
    )
    with pytest.raises(CrdTooOldError, match="dicompeers") as caught:
        check_crds(api)
    assert "Helm does not upgrade" in caught.value.action


def test_the_crds_of_this_tree_are_new_enough():
    for file in (Path(__file__).parents[2] / "crds").glob("*.yaml"):
        revision = yaml.safe_load(file.read_text())["metadata"]["annotations"]["pacs-operator.io/crd-revision"]
        assert int(revision) == NEEDED_REVISION, file.name


def test_absent_crds_are_refused():
    with pytest.raises(CrdTooOldError, match="not installed"):
        check_crds(SimulatedApi(WriteLog()))


def test_conflict_is_an_error_of_its_own():
    assert ConflictError("x", action=ACTION).reason == "Conflict"
