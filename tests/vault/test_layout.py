"""The pure description: names, and how what is written compares with what is read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs_operator.domain.leaves import archive_leaves, is_reserved_dns_name
from pacs_operator.domain.names import CaName, Component, component_role, pki_mount
from pacs_operator.vault.layout import Entry, Operator, Site, archive_layout, importer_login, peer_entry, same
from pacs_operator.vault.port import Changes

SITE = Site("https://vault.example:8200/", "pacs-kubernetes", Operator("pacs-operator-system", "pacs-operator"))
NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)


@given(NAMES)
def test_roles_begin_with_namespace_and_account_of_their_pod_alone(archive: str) -> None:
    """That prefix is all that the component policy goes by."""
    layout = archive_layout(archive, "ab", "vault", SITE)
    prefixes = {
        component: f"{login.written['bound_service_account_namespaces']}.{component.value}."
        for component, login in zip(Component, [*layout.logins, importer_login(archive, "vault", SITE)], strict=True)
    }
    for leaf in archive_leaves(archive):
        role = component_role(archive, leaf.component, leaf.name)
        assert [c for c, prefix in prefixes.items() if role.startswith(prefix)] == [leaf.component]
        assert not role.startswith("peer.")


@given(NAMES)
def test_every_name_an_archive_bears_is_reserved(archive: str) -> None:
    for leaf in archive_leaves(archive):
        assert all(map(is_reserved_dns_name, leaf.dns_names))
    assert is_reserved_dns_name(SITE.operator.status_dns)


def test_each_ca_signs_what_the_table_says_and_addresses_lie_below_vaults() -> None:
    layout = archive_layout("x", "ab", "vault", SITE)
    assert [authority.path for authority in layout.authorities] == [pki_mount("ab", ca) for ca in CaName]
    for authority in layout.authorities:
        assert all(role.path.startswith(f"{authority.path}/roles/") for role in authority.roles)
        urls = next(entry for entry in authority.settings if entry.path.endswith("/urls"))
        assert urls.written["issuing_certificates"] == f"https://vault.example:8200/v1/{authority.path}/ca"


@pytest.mark.parametrize(
    ("wanted", "live", "expected"),
    [
        ("604800s", 604800, True),
        ("604800s", 604801, False),
        ("256", 256, True),
        (False, False, True),
        (False, 0, False),
        (True, False, False),
        (["b", "a"], ["a", "b"], True),
        (["a"], ["a", "b"], False),
        ("DigitalSignature,KeyEncipherment", ["KeyEncipherment", "DigitalSignature"], True),
        ("DigitalSignature", ["DigitalSignature", "KeyAgreement"], False),
        ([], [], True),
        ("", "", True),
        ("forbid", "permit", False),
    ],
)
def test_comparison_with_what_vault_reads_back(wanted: object, live: object, expected: bool) -> None:
    assert same(wanted, live) is expected


def test_drift_names_altered_absent_and_untouched_fields() -> None:
    entry = Entry("p", {"a": "1", "b": "2", "not_after_bound": "forbid"}, {"c": False, "d": []}, overwrites=True)
    assert entry.drift({"a": 1, "b": 2, "c": False, "d": []}) == (), "HashiCorp's Vault knows no bound on not_after"
    assert entry.drift({"a": 1, "b": 3, "not_after_bound": "permit", "c": True}) == ("b", "c", "not_after_bound")
    assert entry.drift({"a": 1, "c": False}) == ("b",)


def test_peers_role_is_one_name_for_both_directions() -> None:
    entry = peer_entry("ab", "imaging", "ct1", "ct1.imaging.example")
    assert entry.path == "pacs/ab/peers/roles/peer.imaging.ct1"
    assert entry.written["allowed_domains"] == ["ct1.imaging.example"]
    assert (entry.written["client_flag"], entry.written["server_flag"]) == (True, True)


def test_changes_add_up_and_are_false_when_nothing_was_written() -> None:
    assert not Changes()
    assert Changes(created=("a",)) + Changes(deleted=("b",)) == Changes(created=("a",), deleted=("b",))
    assert Changes(repaired=("a",))
