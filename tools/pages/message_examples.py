"""HL7 v2 messages for the documentation, made by the code from made-up images and findings."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from dicom_node.analysis.answer import Analysis
from dicom_node.analysis.context import ReplacedResult
from dicom_node.core.assessment.review import Review, ReviewedFinding, Reviewer, ReviewReason
from dicom_node.core.entities import Presence, ReviewState
from dicom_node.core.uids import derived_uid
from dicom_node.fhir.hl7.message import WithdrawnMessages, build_message, withdrawal_message
from dicom_node.fhir.hl7.receiver import Receiver, for_receiver
from tests.support.results import fhir_examples as examples

_RIS = Receiver(applications=("", "RIS"), facilities=("", "GENERAL"), assigning_authority="GENERAL")
_LINK = f"https://viewer.example/?StudyInstanceUIDs={examples.STUDY_UID}"


def message_examples() -> str:
    """A result, the same as a reader has verified it, one that was not made, one that replaces, and a withdrawal."""
    present, lung = examples.FINDINGS[0], examples.FINDINGS[3]
    uids = [derived_uid("example", str(number)) for number in range(5)]
    answer = examples.analysis(findings=(present, lung))
    result = build_message(answer, examples.CONTEXT, (), examples.OPTIONS, uids[0])
    none = build_message(examples.not_analysed(), examples.CONTEXT, (), examples.OPTIONS, uids[1])
    context = replace(examples.CONTEXT, job_key="b" * 64, replaced=(ReplacedResult(job_key=examples.JOB_KEY),))
    absent = replace(present, presence=Presence.ABSENT, probability=0.12)
    later = build_message(examples.analysis(findings=(absent,)), context, (), examples.OPTIONS, uids[2])
    corrected = for_receiver(later, replace(_RIS, replacement="C"))
    told = WithdrawnMessages(messages=[none], reason="The images are of another patient.", at=examples.STARTED_AT)
    taken_back = for_receiver(withdrawal_message(told, uids[3]), replace(_RIS, withdrawal="W", accession="OBR-3"))
    return "\n\n".join([
        _shown("A result", for_receiver(result, _RIS, _LINK)),
        _shown("The same result, reviewed", for_receiver(_reviewed(answer, uids[4]), _RIS, _LINK)),
        _shown("A study that was not analysed", for_receiver(none, _RIS)),
        _shown('A result that replaces it, with `replacement = "C"`', corrected),
        _shown('A withdrawal, with `withdrawal = "W"` and `accession = "OBR-3"`', taken_back),
    ])  # fmt: skip


def _reviewed(answer: Analysis, uid: str) -> str:
    """Return the message of somebody who let the first finding stand and removed the second."""
    context = replace(
        examples.CONTEXT, job_key="c" * 64, review=reviewed_example(answer),
        replaced=(ReplacedResult(job_key=examples.JOB_KEY),),
    )  # fmt: skip
    return build_message(answer, context, (), examples.OPTIONS, uid)


def reviewed_example(answer: Analysis) -> Review:
    """Return the review that the examples of messages and of resources tell of."""
    present, lung = answer.findings
    return Review(
        of_job_key=examples.JOB_KEY, state=ReviewState.MODIFIED, decided_at=examples.STARTED_AT + timedelta(hours=1),
        reviewer=Reviewer(account="aweiss", name="Weiss^Anna^^Dr.", organization="Radiology", identifier="4711"),
        findings=(
            ReviewedFinding(finding=present, said_by_model=present),
            ReviewedFinding(finding=lung, said_by_model=lung, removed=True, text="The scan cuts off the lung."),
        ),
        reasons=(ReviewReason.WRONG_MEASUREMENT,),
    )  # fmt: skip


def _shown(title: str, message: str) -> str:
    return f"### {title}\n\n```text\n{message.rstrip(chr(13)).replace(chr(13), chr(10))}\n```"
