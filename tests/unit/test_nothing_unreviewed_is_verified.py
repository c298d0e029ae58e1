"""What no person has reviewed is told apart from what one has, by its bytes, however they are written."""

from __future__ import annotations

import json
import zlib
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage

from dicom_node.analysis.written import MARK, REVIEWED_MARK, summarise
from dicom_node.core.errors import ReportInvalid
from dicom_node.fhir import own as bundles
from dicom_node.fhir.builders.bundle import build_bundle
from dicom_node.fhir.hl7 import own as messages
from dicom_node.fhir.hl7.message import build_message
from dicom_node.fhir.json_types import to_json_bytes
from dicom_node.headers.file_meta import file_head
from dicom_node.headers.own import require_unverified
from dicom_node.index.lineage import LINE
from dicom_node.jobs.keeping import marked
from dicom_node.sr_writer import to_part10
from tests.support.results.fhir_examples import CONTEXT, OPTIONS, analysis
from tests.unit.test_reviewed_messages import accepted, context

UID = "2.25.7"
ABOUT = (str(ComprehensiveSRStorage), UID)


def report(flag: str) -> bytes:
    """Return a report with a VerificationFlag, as the node writes its own."""
    document = Dataset()
    document.SOPClassUID, document.SOPInstanceUID = ABOUT
    document.CompletionFlag, document.VerificationFlag = "PARTIAL", flag
    return to_part10(document)


UNVERIFIED, VERIFIED = report("UNVERIFIED"), report("VERIFIED")
FLAG = b"\x40\x00\x93\xa4CS\x08\x00VERIFIED"
WRITTEN = {
    "as the node writes it": VERIFIED,
    "of no known representation": VERIFIED.replace(FLAG, FLAG.replace(b"CS\x08\0", b"UN\0\0\x08\0\0\0")),
    "with no representation": VERIFIED.replace(FLAG, FLAG.replace(b"CS\x08\0", b"\x08\0\0\0")),
    "behind a blank": VERIFIED.replace(FLAG, FLAG.replace(b"\x08\0", b"\x0a\0  ")),
    "in small letters": VERIFIED.replace(b"VERIFIED", b"verified"),
    "behind the other": UNVERIFIED + FLAG,
    "final": UNVERIFIED + b"\x40\x00\x96\xa4CS\x06\x00FINAL ",
    "deflated": file_head(*ABOUT, "1.2.840.10008.1.2.1.99") + zlib.compress(VERIFIED)[2:-4],
    "under another name": UNVERIFIED.replace(UID.encode(), b"2.25.8"),
    "not as a file": UNVERIFIED[132:],
}


def test_a_report_that_nobody_verified_may_be_kept() -> None:
    assert dcmread(BytesIO(UNVERIFIED)).VerificationFlag == "UNVERIFIED"
    require_unverified(UNVERIFIED, *ABOUT)


@pytest.mark.parametrize("content", WRITTEN.values(), ids=WRITTEN)
def test_a_report_that_calls_itself_verified_or_hides_what_it_says_may_not(content: bytes) -> None:
    with pytest.raises(ReportInvalid):
        require_unverified(content, *ABOUT)


def said_twice(bundle: bytes) -> bytes:
    return bundle.replace(b'"status":"preliminary"', b'"status":"final","status":"preliminary"')


def with_a_reader(bundle: bytes) -> bytes:
    told = json.loads(bundle)
    next(one["resource"] for one in told["entry"] if one["resource"]["resourceType"] == "DiagnosticReport").update(
        resultsInterpreter=[{"display": "Dr. Nobody"}]
    )
    return to_json_bytes(told)


PRELIMINARY = to_json_bytes(build_bundle(analysis(), CONTEXT, (), OPTIONS))
FINAL = to_json_bytes(build_bundle(analysis(), context(accepted()), (), OPTIONS))
OTHERS = {
    "final": FINAL,
    "final for who reads the first of two": said_twice(PRELIMINARY),
    "by a reader": with_a_reader(PRELIMINARY),
    "in other letters": PRELIMINARY.decode().encode("utf-16"),
    "no JSON": b"\0",
    "too deep": b"[" * 100_000,
}


def test_a_bundle_that_is_preliminary_may_be_kept_and_one_that_is_final_is_the_nodes_own() -> None:
    bundles.require_unreviewed(PRELIMINARY)
    assert bundles.own_bundle(FINAL) == json.loads(FINAL)


@pytest.mark.parametrize("bundle", OTHERS.values(), ids=OTHERS)
def test_a_bundle_that_says_or_hides_more_may_not(bundle: bytes) -> None:
    with pytest.raises(ReportInvalid):
        bundles.require_unreviewed(bundle)


def test_a_message_that_is_final_may_not_be_kept_and_one_that_is_preliminary_may() -> None:
    final = build_message(analysis(), context(accepted()), (), OPTIONS, UID).encode()
    assert messages.checked(final, UID) == final.decode()
    messages.require_unreviewed(build_message(analysis(), CONTEXT, (), OPTIONS, UID).encode(), UID)
    with pytest.raises(ReportInvalid, match="no person has reviewed it"):
        messages.require_unreviewed(final, UID)


def test_what_a_summary_says_of_its_review_and_its_line_is_the_word_of_the_node() -> None:
    said = {"mark": REVIEWED_MARK, LINE: {"model": "another", "route": "another"}, "findings": []}
    assert marked(said, CONTEXT) == {"mark": MARK, "findings": []}
    assert marked(said, context(accepted()))["mark"] == REVIEWED_MARK
    assert summarise(analysis(), accepted())["mark"] == REVIEWED_MARK != summarise(analysis())["mark"]
