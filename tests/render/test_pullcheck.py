"""The pod that pulls new images: restricted like every other, closed in, and with nothing to lose."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from hypothesis import given

from pacs_operator.domain.facts import Desired
from pacs_operator.domain.names import LABEL_ARCHIVE, LABEL_COMPONENT
from pacs_operator.render import pullcheck, render_archive
from tests.scan import ARCHIVES, refused, scan

from .archives import RELEASE, desired
from .test_policies import policies, selects
from .test_properties import BY_DIGEST, OBJECT_NAME, archives, leaves, quick

IMAGES = {str(name): str(image) for name, image in RELEASE.images.document().items()}


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = job["spec"]["template"]["spec"]
    return pod


def test_there_is_one_container_for_each_image_and_a_command_for_each_of_a_release() -> None:
    job = pullcheck.render(desired(), IMAGES)
    assert {container["name"]: container["image"] for container in pod_of(job)["containers"]} == IMAGES
    for container in pod_of(job)["containers"]:
        assert container.get("args") or container.get("command"), "without one it would serve"
    one = pullcheck.render(desired(), {"gate": IMAGES["gate"]})
    assert [container["name"] for container in pod_of(one)["containers"]] == ["gate"]


def test_the_same_images_are_the_same_job() -> None:
    backwards = dict(reversed(IMAGES.items()))
    assert pullcheck.render(desired(), IMAGES) == pullcheck.render(desired(), backwards)
    other = pullcheck.name({**IMAGES, "gate": IMAGES["gate"].replace("a" * 64, "b" * 64)})
    assert pullcheck.name(IMAGES) == pullcheck.name(backwards) != other
    assert OBJECT_NAME.fullmatch(pullcheck.name(IMAGES))


@quick
@given(archives())
def test_it_is_restricted_and_has_nothing_to_lose(of: Desired) -> None:
    job = pullcheck.render(of, {str(name): str(image) for name, image in of.release.images.document().items()})
    pod = pod_of(job)
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == context["runAsGroup"] >= 10000
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert not {"volumes", "initContainers", "serviceAccountName", "hostNetwork", "hostPID", "hostIPC"} & set(pod)
    for container in pod["containers"]:
        assert BY_DIGEST.fullmatch(container["image"])
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
    for path, value in leaves(job):
        assert value not in (None, [], {}, ""), path
    scheduling = ("nodeSelector", "tolerations", "priorityClassName", "imagePullSecrets")
    [conformance] = [m for m in render_archive(replace(of, conformance_run="r1")) if m["kind"] == "Job"]
    assert {key: pod.get(key) for key in scheduling} == {key: pod_of(conformance).get(key) for key in scheduling}


def test_of_all_policies_only_default_deny_selects_it() -> None:
    job = pullcheck.render(desired(), IMAGES)
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert LABEL_COMPONENT not in labels
    assert labels[LABEL_ARCHIVE] == "radiology", "the operator's watch goes by it"
    selecting = [
        policy["metadata"]["name"]
        for policy in policies(render_archive(desired()))
        if policy["metadata"]["namespace"] == job["metadata"]["namespace"]
        and selects(policy["spec"]["podSelector"], labels)
    ]
    assert selecting == ["default-deny"]


@pytest.mark.parametrize("version", ["1.33", "1.35"])
def test_it_is_valid(version: str) -> None:
    kubernetes_validate.validate(pullcheck.render(desired(), IMAGES), version, strict=True)


def test_a_scanner_finds_nothing_but_what_is_accepted(tmp_path: Path) -> None:
    report = scan([*render_archive(desired()), pullcheck.render(desired(), IMAGES)], tmp_path / "job")
    assert any("pullcheck" in resource for _, resource in report.failed), "it was looked at: CPU is not limited"
    assert refused(report.failed, ARCHIVES) == set()
