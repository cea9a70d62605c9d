"""Data keys of images: made and opened by Orthanc's pod alone, in its own context; the key above them is nobody's."""

import base64
import uuid
from collections.abc import Iterator

import pytest

from pacs_operator.domain.names import Component, data_key, data_mount
from pacs_operator.vault.errors import VaultForbiddenError, VaultMisconfiguredError
from tests.vault.world import AUDIENCE, World

ARCHIVE = "datakeys"
LINEAGE = uuid.uuid4().hex
KEY = data_key(ARCHIVE)
PATH = f"{data_mount(LINEAGE)}/keys/{KEY}"
CONTEXT = f"{LINEAGE}/1"


@pytest.fixture(scope="module")
def provisioned(world: World) -> Iterator[World]:
    world.client().ensure_archive(ARCHIVE, LINEAGE, AUDIENCE)
    world.client().ensure_importer(ARCHIVE, AUDIENCE)
    yield world


def test_a_data_key_opens_in_its_own_context_only(provisioned: World) -> None:
    pod = provisioned.pod(ARCHIVE, Component.ORTHANC)
    made = pod.make_data_key(LINEAGE, KEY, CONTEXT)
    assert len(made.plain) == 32
    assert made.plain not in made.wrapped.encode() and "plain" not in repr(made)
    assert pod.unwrap_data_key(LINEAGE, KEY, CONTEXT, made.wrapped) == made.plain
    with pytest.raises(VaultMisconfiguredError):
        pod.unwrap_data_key(LINEAGE, KEY, f"{LINEAGE}/2", made.wrapped)


@pytest.mark.parametrize("component", [c for c in Component if c is not Component.ORTHANC])
def test_no_other_component_opens_one(provisioned: World, component: Component) -> None:
    own = provisioned.pod(ARCHIVE, Component.ORTHANC)
    wrapped = own.make_data_key(LINEAGE, KEY, CONTEXT).wrapped
    other = provisioned.pod(ARCHIVE, component)
    with pytest.raises(VaultForbiddenError):
        other.unwrap_data_key(LINEAGE, KEY, CONTEXT, wrapped)
    with pytest.raises(VaultForbiddenError):
        other.make_data_key(LINEAGE, KEY, CONTEXT)
    assert own.unwrap_data_key(LINEAGE, KEY, CONTEXT, wrapped)


CLOSED = [
    ("POST", f"{data_mount(LINEAGE)}/datakey/plaintext/{KEY}", {"context": "YQ=="}),
    ("POST", f"{data_mount(LINEAGE)}/decrypt/{KEY}", {"context": "YQ==", "ciphertext": "vault:v1:AAAA"}),
    ("POST", f"{PATH}/rotate", {}),
    ("POST", f"{PATH}/config", {"deletion_allowed": True}),
    ("POST", f"{PATH}/trim", {"min_available_version": 1}),
    ("DELETE", PATH, None),
    ("DELETE", f"{PATH}/soft-delete", None),
    ("GET", f"{data_mount(LINEAGE)}/export/encryption-key/{KEY}", None),
    ("GET", f"{data_mount(LINEAGE)}/backup/{KEY}", None),
    ("DELETE", f"sys/mounts/{data_mount(LINEAGE)}", None),
]


@pytest.mark.parametrize(
    ("verb", "path", "data"), CLOSED, ids=[f"{verb} {path.replace(LINEAGE, '')}" for verb, path, _ in CLOSED]
)
def test_neither_operator_nor_pod_may(provisioned: World, verb: str, path: str, data: dict[str, object] | None) -> None:
    asked = {"operator": provisioned.operator_token()}
    if not path.endswith(KEY) or verb != "POST":  # what the pod itself may is shown above
        asked["pod"] = provisioned.component_token(ARCHIVE, Component.ORTHANC)
    for who, token in asked.items():
        assert provisioned.bao.try_call(verb, path, data, token).status_code == 403, who


def test_the_twin_an_administrator_may_rotate_and_what_was_wrapped_still_opens(provisioned: World) -> None:
    pod = provisioned.pod(ARCHIVE, Component.ORTHANC)
    made = pod.make_data_key(LINEAGE, KEY, CONTEXT)
    provisioned.bao.call("POST", f"{PATH}/rotate", {})
    assert pod.unwrap_data_key(LINEAGE, KEY, CONTEXT, made.wrapped) == made.plain
    newer = pod.rewrap_data_key(LINEAGE, KEY, CONTEXT, made.wrapped)
    assert int(newer.split(":")[1][1:]) > int(made.wrapped.split(":")[1][1:])
    assert pod.unwrap_data_key(LINEAGE, KEY, CONTEXT, newer) == made.plain


def test_a_key_that_somebody_weakened_is_told_and_not_touched(provisioned: World) -> None:
    provisioned.bao.call("POST", f"{PATH}/config", {"deletion_allowed": True})
    with pytest.raises(VaultMisconfiguredError, match="deletion_allowed"):
        provisioned.client().ensure_archive(ARCHIVE, LINEAGE, AUDIENCE)
    provisioned.bao.call("POST", f"{PATH}/config", {"deletion_allowed": False})
    assert not provisioned.client().ensure_archive(ARCHIVE, LINEAGE, AUDIENCE)


def test_the_context_is_needed(provisioned: World) -> None:
    token = provisioned.component_token(ARCHIVE, Component.ORTHANC)
    path = f"{data_mount(LINEAGE)}/datakey/plaintext/{KEY}"
    assert provisioned.bao.try_call("POST", path, {}, token).status_code in (400, 403)
    context = base64.b64encode(CONTEXT.encode()).decode()
    assert provisioned.bao.try_call("POST", path, {"context": context}, token).status_code == 200
