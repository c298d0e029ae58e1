"""A report on a storage commitment as it comes from a PACS, whole or broken."""

from __future__ import annotations

import pytest
from pydicom import Dataset
from pynetdicom.dsutils import encode

from dicom_node.dimse.commitment_scu import read_report

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"


def item(uid: str, reason: int | None = None) -> Dataset:
    one = Dataset()
    one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", uid
    if reason is not None:
        one.FailureReason = reason
    return one


def encoded(transaction: str, committed: list[Dataset], failed: list[Dataset], *, implicit: bool = False) -> bytes:
    report = Dataset()
    if transaction:
        report.TransactionUID = transaction
    if committed:
        report.ReferencedSOPSequence = committed
    if failed:
        report.FailedSOPSequence = failed
    whole = encode(report, implicit, is_little_endian=True)
    assert whole is not None
    return whole


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_what_is_kept_and_what_is_not_is_read_with_its_reason(syntax: str) -> None:
    whole = encoded("1.2.3", [item("1.1")], [item("1.2", 0x0112), item("1.3")], implicit=syntax == IMPLICIT)
    report = read_report(whole, syntax, "PACS")
    assert (report.transaction_uid, set(report.committed)) == ("1.2.3", {"1.1"})
    assert report.failed == {"1.2": 0x0112, "1.3": 0}, "a failure without a reason is one"


def test_what_stands_under_both_is_not_committed() -> None:
    report = read_report(encoded("1.2.3", [item("1.1"), item("1.2")], [item("1.2", 0x0110)]), EXPLICIT, "PACS")
    assert (set(report.committed), report.failed) == ({"1.1"}, {"1.2": 0x0110})


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\x00" * 7,
        b"not a data set at all",
        encoded("", [item("1.1")], []),
        encoded("1.2.3", [item("1.1")], []).replace(b"1.2.3", b"1.2.x"),
    ],
    ids=["empty", "zeros", "words", "no transaction", "no UID"],
)
def test_what_is_no_report_is_told_as_such(broken: bytes) -> None:
    with pytest.raises(ValueError, match="the report"):
        read_report(broken, EXPLICIT, "PACS")


def test_a_report_that_is_cut_off_proves_nothing_of_what_is_missing() -> None:
    whole = encoded("1.2.3", [item("1.1.1"), item("1.1.2")], [])
    assert "1.1.2" not in read_report(whole[:-3], EXPLICIT, "PACS").committed
