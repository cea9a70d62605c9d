"""What holds for every archive: generated specs, releases and peers."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pacs_operator.domain import names
from pacs_operator.domain.catalog import Images
from pacs_operator.domain.facts import Desired
from pacs_operator.domain.gatepeers import LivePeer, LivePeers
from pacs_operator.domain.names import Zone, namespace_of
from pacs_operator.domain.peer import Right
from pacs_operator.render import render_archive

from .archives import CASES, RELEASE, containers, desired, from_files, pod_templates

BY_DIGEST = re.compile(r"[a-z0-9./:-]+@sha256:[0-9a-f]{64}")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
KINDS = {
    "Namespace",
    "ResourceQuota",
    "LimitRange",
    "NetworkPolicy",
    "ServiceAccount",
    "ConfigMap",
    "PersistentVolumeClaim",
    "Service",
    "StatefulSet",
    "Deployment",
    "Job",
}
RUN_OBJECTS = {"ConfigMap", "Job"}

archive_names = st.from_regex(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)
digests = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
quantities = st.integers(min_value=1, max_value=1_000_000)
cidrs = st.builds(lambda a, b: f"10.{a}.{b}.0/24", st.integers(0, 255), st.integers(0, 255))
dns_names = st.from_regex(r"[a-z]{1,20}\.example", fullmatch=True)

resources = st.fixed_dictionaries(
    {},
    optional={"cpuMilli": st.integers(10, 64_000), "memoryMi": st.integers(64, 1_048_576)},
)
schedulings = st.fixed_dictionaries(
    {},
    optional={
        "nodeSelector": st.dictionaries(st.just("disk"), st.sampled_from(["fast", "slow"])),
        "tolerations": st.lists(st.just({"key": "archives", "operator": "Exists"}), max_size=2),
        "priorityClassName": st.just("patient-care"),
        "imagePullSecrets": st.lists(st.just("registry"), max_size=1),
        "gate": resources,
        "orthanc": resources,
        "database": resources,
    },
)
services = st.one_of(
    st.fixed_dictionaries({"type": st.just("NodePort")}, optional={"nodePort": st.integers(30000, 32767)}),
    st.fixed_dictionaries(
        {"type": st.just("LoadBalancer")},
        optional={
            "loadBalancerClass": st.just("example.com/internal"),
            "annotations": st.dictionaries(st.just("example.com/pool"), st.just("imaging")),
        },
    ),
)
gates = st.fixed_dictionaries(
    {"service": services},
    optional={"replicas": st.integers(1, 10), "maxAssociations": st.integers(1, 512)},
)
volumes = st.fixed_dictionaries({"sizeGi": quantities, "storageClassName": st.just("fast")})
specs = st.fixed_dictionaries(
    {
        "gate": gates,
        "storage": volumes,
        "database": volumes.map(lambda volume: volume | {"mode": "Managed"}),
        "scheduling": schedulings,
    }
)
live_peers = st.builds(
    LivePeer.model_validate,
    st.fixed_dictionaries(
        {
            "id": st.from_regex(r"[a-z]{1,12}/[a-z]{1,12}", fullmatch=True),
            "dnsName": dns_names,
            "aeTitles": st.lists(st.from_regex(r"[A-Z]{1,16}", fullmatch=True), min_size=1, max_size=4),
            "sourceCIDRs": st.lists(cidrs, max_size=4),
            "rights": st.lists(st.sampled_from([right.value for right in Right]), min_size=1, unique=True),
            "maxAssociations": st.integers(1, 128),
        }
    ),
)
peer_lists = st.lists(live_peers, max_size=12, unique_by=lambda peer: peer.id)


@st.composite
def archives(draw: st.DrawFn) -> Desired:
    base = desired(
        draw(specs),
        name=draw(archive_names),
        peers=LivePeers(revision="generated", peers=draw(peer_lists)),
        run=draw(st.none() | st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True)),
    )
    images = {name: f"registry.example/{name}@sha256:{draw(digests)}" for name in Images.model_fields}
    return replace(base, release=RELEASE.model_copy(update={"images": Images(**images)}))


every_archive = given(archives())
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@every_archive
def test_same_input_same_output_and_the_input_stays(of: Desired) -> None:
    before = repr(of)
    first, second = render_archive(of), render_archive(of)
    assert json.dumps(first) == json.dumps(second)
    assert repr(of) == before
    first[0]["metadata"]["labels"].clear()  # a caller that changes what it got changes nobody else's
    assert render_archive(of) == second


@quick
@given(archives(), st.randoms(use_true_random=False))
def test_order_of_peers_does_not_matter(of: Desired, random: Any) -> None:
    shuffled = list(of.peers.peers)
    random.shuffle(shuffled)
    assert render_archive(replace(of, peers=LivePeers(revision="generated", peers=shuffled))) == render_archive(of)


@quick
@every_archive
def test_every_object_is_named_labelled_and_at_home(of: Desired) -> None:
    archive = of.archive.name
    seen = set()
    for manifest in render_archive(of):
        metadata, kind = manifest["metadata"], manifest["kind"]
        assert kind in KINDS
        assert OBJECT_NAME.fullmatch(metadata["name"])
        assert (kind, metadata.get("namespace"), metadata["name"]) not in seen
        seen.add((kind, metadata.get("namespace"), metadata["name"]))
        labels = metadata["labels"]
        assert labels[names.LABEL_MANAGED_BY] == names.MANAGED_BY
        assert labels[names.LABEL_ARCHIVE] == archive
        assert labels[names.LABEL_ARCHIVE_UID] == of.archive.uid
        assert labels[names.LABEL_LINEAGE] == of.lineage_id
        home = namespace_of(archive, Zone(labels[names.LABEL_ZONE]))
        assert home == (metadata["name"] if kind == "Namespace" else metadata["namespace"])
        assert all(LABEL_VALUE.fullmatch(value) for value in labels.values())


@quick
@every_archive
def test_namespaces_come_first_and_policies_before_pods(of: Desired) -> None:
    kinds = [manifest["kind"] for manifest in render_archive(of)]
    assert kinds[:4] == ["Namespace"] * 4
    last_policy = max(index for index, kind in enumerate(kinds) if kind == "NetworkPolicy")
    first_pod = min(index for index, kind in enumerate(kinds) if kind in {"StatefulSet", "Deployment", "Job"})
    assert last_policy < first_pod
    for needed in ("ServiceAccount", "ConfigMap", "PersistentVolumeClaim"):
        assert kinds.index(needed) < first_pod


@quick
@every_archive
def test_every_pod_is_restricted(of: Desired) -> None:
    for _, template in pod_templates(render_archive(of)):
        pod = template["spec"]
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] >= 10000
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(pod)
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        for container in containers(template):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["privileged"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert BY_DIGEST.fullmatch(container["image"])
            assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"]["cpu"]
            assert not any("valueFrom" in variable for variable in container.get("env", []))


@quick
@every_archive
def test_volumes_are_memory_configuration_or_our_own_claims(of: Desired) -> None:
    manifests = render_archive(of)

    def at_home(kind: str, namespace: str) -> set[str]:
        home = (kind, namespace)
        return {m["metadata"]["name"] for m in manifests if (m["kind"], m["metadata"].get("namespace")) == home}

    for workload, template in pod_templates(manifests):
        namespace = workload["metadata"]["namespace"]
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        for volume in volumes.values():
            [source] = set(volume) - {"name"}
            assert source in {"emptyDir", "configMap", "projected", "persistentVolumeClaim"}
            if source == "emptyDir":
                assert volume["emptyDir"]["medium"] == "Memory"
                assert volume["emptyDir"]["sizeLimit"]
            if source == "configMap":
                assert volume["configMap"]["name"] in at_home("ConfigMap", namespace)
            if source == "persistentVolumeClaim":
                assert volume["persistentVolumeClaim"]["claimName"] in at_home("PersistentVolumeClaim", namespace)
        mounted = {mount["name"] for container in containers(template) for mount in container["volumeMounts"]}
        assert mounted == set(volumes)
        assert template["spec"]["serviceAccountName"] in at_home("ServiceAccount", namespace)


@quick
@every_archive
def test_only_the_agent_holds_the_token_and_writes_keys(of: Desired) -> None:
    for _, template in pod_templates(render_archive(of)):
        for container in containers(template):
            mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
            assert ("token" in mounts) == (container["name"] == "agent")
            if "tls" in mounts:
                assert mounts["tls"].get("readOnly", False) == (container["name"] != "agent")
        [token] = [volume for volume in template["spec"]["volumes"] if volume["name"] == "token"]
        assert token["projected"]["sources"] == [
            {"serviceAccountToken": {"path": "token", "audience": of.vault.audience, "expirationSeconds": 600}}
        ]


@quick
@every_archive
def test_no_secret_and_no_key_is_rendered(of: Desired) -> None:
    manifests = render_archive(of)
    assert "Secret" not in {manifest["kind"] for manifest in manifests}
    text = json.dumps(manifests)
    assert "PRIVATE KEY" not in text
    assert "password=" not in text
    assert "secretName" not in text


@quick
@every_archive
def test_nothing_is_rendered_that_the_api_server_would_drop(of: Desired) -> None:
    """Else live and desired would differ for ever, and every pass would write."""
    for manifest in render_archive(of):
        for path, value in leaves(manifest):
            empty_by_meaning = path[-2:] == ("spec", "podSelector") and value == {}
            assert value not in (None, [], {}, "") or empty_by_meaning, path
            if isinstance(value, str) and path[-1] in {"memory", "cpu", "storage", "sizeLimit"}:
                assert canonical(value), (path, value)


@quick
@every_archive
def test_sizes_stay_within_what_the_api_takes(of: Desired) -> None:
    for manifest in render_archive(of):
        assert len(json.dumps(manifest)) < 262_144  # a quarter of a request's bound
        assert sum(map(len, manifest["metadata"].get("annotations", {}).values())) < 16_384


def test_the_largest_list_of_peers_fits() -> None:
    peers = [
        LivePeer(
            id=f"{'n' * 63}/{'p' * 240}{index:03}",
            dns_name=f"{index}." + ".".join(["d" * 60] * 4),
            ae_titles=[f"AE{index:03}{title:02}XXXXXXXXX" for title in range(16)],
            source_cidrs=[f"10.{index}.{block}.{block * 16}/28" for block in range(16)],
            rights=list(Right),
            max_associations=128,
        )
        for index in range(200)
    ]
    manifests = render_archive(desired(peers=LivePeers(revision="large", peers=peers)))
    assert max(len(json.dumps(manifest)) for manifest in manifests) < 1_000_000


@pytest.mark.parametrize("version", ["1.33", "1.35"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_manifest_is_valid_for_the_oldest_and_the_newest_kubernetes(case: Path, version: str) -> None:
    for manifest in render_archive(from_files(case)):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_wrong_field_would_be_seen() -> None:
    manifest = next(m for m in render_archive(desired()) if m["kind"] == "Deployment")
    manifest["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, "1.35", strict=True)


@quick
@every_archive
def test_a_run_adds_its_own_objects_and_touches_no_other(of: Desired) -> None:
    with_run = render_archive(replace(of, conformance_run="r1"))
    without = render_archive(replace(of, conformance_run=None))
    added = [manifest for manifest in with_run if manifest not in without]
    assert without == [manifest for manifest in with_run if manifest in without]
    assert {manifest["kind"] for manifest in added} == RUN_OBJECTS
    assert {manifest["metadata"]["name"] for manifest in added} == {"conformance-r1"}


def leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and value:
        return [leaf for key, item in value.items() for leaf in leaves(item, (*path, key))]
    if isinstance(value, list) and value:
        return [leaf for item in value for leaf in leaves(item, (*path, "[]"))]
    return [(path, value)]


def canonical(quantity: str) -> bool:
    """Tell whether a quantity is in the spelling that the API server answers with."""
    found = re.fullmatch(r"(\d+)(m|Mi|Gi|Ti|Pi)?", quantity)
    assert found, quantity
    number, suffix = int(found[1]), found[2]
    if suffix == "m":
        return number % 1000 != 0
    return suffix in (None, "Pi") or number % 1024 != 0
