"""Records of the gate as counts of peers."""

from datetime import UTC, datetime

import pytest

from pacs_operator.agent.gatelog import Reason, Record, Tally, parse, parse_asn1_time

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
LINE = (
    "event=association reason={reason} peer=imaging/ct1 slot=003 identity=ct1.imaging.example calling=CT1 "
    "called=RADIOLOGY source=198.18.10.11 tls=TLSv1.3 cipher=TLS_AES_128_GCM_SHA256 not_after=261129154844Z "
    "serial=6a86 crl=0 state={state}"
)


def test_an_accepted_association() -> None:
    assert parse(LINE.format(reason="Accepted", state="--")) == Record(
        reason=Reason.ACCEPTED,
        peer="imaging/ct1",
        slot="003",
        identity="ct1.imaging.example",
        serial="6a86",
        not_after=datetime(2026, 11, 29, 15, 48, 44, tzinfo=UTC),
    )


@pytest.mark.parametrize("state", ["SC", "sC", "SD", "CC"])
def test_accepted_by_the_gate_but_never_by_the_archive(state: str) -> None:
    record = parse(LINE.format(reason="Accepted", state=state))
    assert record
    assert record.reason is Reason.ARCHIVE_UNAVAILABLE


@pytest.mark.parametrize(
    "line",
    ["", "Proxy dicom started.", "event=association reason=", "reason=Unheard", "\x00\xff", "a=b=c", "= = ="],
)
def test_lines_that_are_no_record(line: str) -> None:
    assert parse(line) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("491231235959Z", datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("20500101000000Z", datetime(2050, 1, 1, tzinfo=UTC)),
        ("991301000000Z", None),
        ("2611291548", None),
        ("-", None),
        ("", None),
    ],
)
def test_certificate_times(text: str, expected: datetime | None) -> None:
    assert parse_asn1_time(text) == expected


def record(reason: Reason, peer: str | None = None, identity: str | None = None) -> Record:
    return Record(reason, peer, "001", identity, "aa", NOW)


def test_counts() -> None:
    tally = Tally()
    tally.know({"ct1.imaging.example": "imaging/ct1"})
    tally.add(record(Reason.ACCEPTED, "imaging/ct1"), NOW)
    tally.add(record(Reason.WRONG_CALLED_AE_TITLE, "imaging/ct1"), NOW)
    tally.add(record(Reason.TIMEOUT, None, "ct1.imaging.example"), NOW)  # told by its certificate
    tally.add(record(Reason.UNKNOWN_CERTIFICATE, None, "stranger.example"), NOW)
    tally.add(record(Reason.TLS), NOW)
    counts = tally.peers["imaging/ct1"]
    assert (counts.associations, counts.rejections, counts.last_rejection_reason) == (1, 2, "Timeout")
    assert counts.last_association == "2026-11-29T12:00:00Z"
    assert tally.serials == {"001": {"aa"}}
    assert set(tally.peers) == {"imaging/ct1"}, "a stranger is nobody's count"
    tally.know({})
    assert not tally.peers
