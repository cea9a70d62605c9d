"""What a scrub changes in the manifests: the live order, and no more."""

from typing import Any

import pytest

from pacs_operator.render import render_archive
from tests.render.archives import desired

TRANSIT = {"encryption": {"mode": "Transit"}}
NONE = {"encryption": {"mode": "None", "reason": "skeleton; becomes Transit"}}


def rendered(spec: dict[str, Any], scrub: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    storage = {"sizeGi": 20, "storageClassName": "hostpath"} | ({} if scrub is None else {"scrub": scrub})
    found = render_archive(desired({**spec, "storage": storage}))
    return {f"{m['kind']}/{m['metadata'].get('namespace')}/{m['metadata']['name']}": m for m in found}


@pytest.mark.parametrize("scrub", [{}, {"suspend": True}, {"maxMiPerSecond": 5, "timeZone": "Asia/Tokyo"}])
def test_the_order_reaches_the_agent_without_a_restart(scrub: dict[str, Any]) -> None:
    without, with_it = rendered(TRANSIT, None), rendered(TRANSIT, scrub)
    (changed,) = [name for name in without if without[name] != with_it[name]]
    assert changed == "ConfigMap/radiology-archive/peers"
    assert with_it[changed]["data"].keys() == {"peers.json", "scrub.json"}


def test_without_encryption_the_agent_gets_the_volume() -> None:
    """That is the one restart; later changes of the order cause none."""
    without, with_it, other = (rendered(NONE, scrub) for scrub in (None, {}, {"suspend": True}))
    changed = {name for name in without if without[name] != with_it[name]}
    assert changed == {"ConfigMap/radiology-archive/peers", "StatefulSet/radiology-archive/orthanc"}
    assert {name for name in other if other[name] != with_it[name]} == {"ConfigMap/radiology-archive/peers"}
    pod = with_it["StatefulSet/radiology-archive/orthanc"]["spec"]["template"]["spec"]
    (agent,) = pod["initContainers"]
    assert [mount["name"] for mount in agent["volumeMounts"]].count("images") == 1
