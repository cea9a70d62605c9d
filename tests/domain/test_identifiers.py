"""AE titles, identities and networks: what is one, and what the refusal says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs_operator.domain.errors import InvalidSpecError
from pacs_operator.domain.identifiers import check_ae_title, check_disjoint, check_dns_name, covered, parse_cidr

PRINTABLE = [chr(code) for code in range(0x21, 0x7F) if chr(code) != "\\"]


@given(st.text(st.sampled_from(PRINTABLE), min_size=1, max_size=16))
def test_printable_ascii_is_an_ae_title(title: str) -> None:
    assert check_ae_title(title, "f") == title


@given(st.text(min_size=1))
def test_what_passes_has_at_most_16_ascii_bytes_and_no_backslash(title: str) -> None:
    try:
        check_ae_title(title, "f")
    except InvalidSpecError as error:
        assert error.message.startswith("f: ")
        assert error.action
        return
    assert len(title.encode("ascii")) <= 16
    assert "\\" not in title
    assert title == title.strip(" ")


@pytest.mark.parametrize(
    ("title", "rule"),
    [
        ("", "it is empty"),
        ("    ", "it is empty"),
        ("A" * 17, "it has 17 bytes, 16 are allowed"),
        (" CT1", "it begins or ends with a space"),
        ("A\\B", "it contains a backslash"),
        ("A\x07", "it contains a control or non-ASCII character"),
        ("RÖNTGEN", "it contains a control or non-ASCII character"),
        ("CT1\n", "it begins or ends with a space"),
    ],
)
def test_the_refusal_names_the_rule(title: str, rule: str) -> None:
    with pytest.raises(InvalidSpecError, match=rule) as caught:
        check_ae_title(title, "spec.dicom.aeTitle")
    assert repr(title) in caught.value.message
    assert caught.value.reason == "InvalidAETitle"


@pytest.mark.parametrize(
    "name", ["", "ct1", "*.example", "CT1.example", "ct1..example", "a_b.example", "ct1.example\n"]
)
def test_not_an_identity(name: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        check_dns_name(name, "spec.certificate.dnsName")
    assert caught.value.reason == "InvalidIdentity"


def test_networks() -> None:
    assert parse_cidr("198.18.10.11/32", "f").num_addresses == 1
    for value, reason in [
        ("198.18.10.11/24", "InvalidCIDR"),
        ("300.0.0.0/8", "InvalidCIDR"),
        ("0.0.0.0/0", "UnboundedCIDR"),
        ("::/0", "UnboundedCIDR"),
    ]:
        with pytest.raises(InvalidSpecError) as caught:
            parse_cidr(value, "f")
        assert caught.value.reason == reason
    check_disjoint(["198.18.10.0/24", "198.18.11.0/24", "2001:db8::/32"], "f")
    with pytest.raises(InvalidSpecError, match=r"198.18.10.1/32 overlaps 198.18.10.0/24"):
        check_disjoint(["198.18.10.0/24", "198.18.10.1/32"], "f")


def test_covered() -> None:
    assert covered("198.18.10.0/24", ["10.0.0.0/8", "198.18.0.0/16"])
    assert not covered("198.18.0.0/15", ["198.18.0.0/16"])
    assert not covered("2001:db8::/64", ["198.18.0.0/16"])
