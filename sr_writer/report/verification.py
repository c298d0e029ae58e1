"""What makes a report a verified one: who answers for it, who observed what, and what the model had said instead."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
    TextContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary

from dicom_node.core import codes
from dicom_node.core.assessment.review import REVIEW_REASONS, Review, ReviewedFinding, Reviewer, ReviewReason
from dicom_node.sr_writer.identity import ResultIdentity
from dicom_node.sr_writer.overlays.segmentation import coded
from dicom_node.sr_writer.text import ascii_text, long_string, said_of, written_in_letters_of

_TEXT_LIMIT = 1024
_UNKNOWN_ORGANIZATION = "Not stated"
#: Local codes (PS3.3 8.2): the hospital's own number of a person.
_LOCAL_SCHEME = "L"


def verify(document: Dataset, review: Review, identity: ResultIdentity) -> None:
    """Say that the report is complete, final, and attested to by its readers (PS3.3 C.17.2)."""
    document.CompletionFlag = "COMPLETE"
    document.CompletionFlagDescription = long_string(identity.standing)
    document.PreliminaryFlag = "FINAL"
    document.VerificationFlag = "VERIFIED"
    document.VerifyingObserverSequence = [_verifying_observer(who, at, identity) for who, at in review.readers]


def _verifying_observer(reader: Reviewer, at: datetime, identity: ResultIdentity) -> Dataset:
    item = Dataset()
    item.VerifyingObserverName = _person_name(reader, identity)
    item.VerifyingObserverIdentificationCodeSequence = _identification(reader)
    item.VerifyingOrganization = _organization(reader, identity)
    item.VerificationDateTime = at.astimezone(identity.made_at.tzinfo).strftime("%Y%m%d%H%M%S%z")
    return item


def _person_name(reader: Reviewer, identity: ResultIdentity) -> str:
    """Return the name as far as the letters of the report have it: at worst its first group, or the account."""
    whole = written_in_letters_of(identity.source, reader.name.replace("\\", "/"))
    alphabetic = whole.split("=")[0]
    name = whole if "?" not in whole else alphabetic
    return name if name.strip("^= ") and "?" not in name else long_string(reader.account)


def _identification(reader: Reviewer) -> list[Dataset]:
    if not reader.identifier:
        return []
    meaning = long_string(reader.readable_name)
    return [CodedConcept(value=ascii_text(reader.identifier), scheme_designator=_LOCAL_SCHEME, meaning=meaning)]


def _organization(reader: Reviewer, identity: ResultIdentity) -> str:
    stated = reader.organization or identity.context.institution or _UNKNOWN_ORGANIZATION
    return written_in_letters_of(identity.source, stated.replace("\\", "/"))[:64]


# --- who observed it (TID 1001 to 1003) ------------------------------------------------------------------------------


def person_observers(identity: ResultIdentity) -> list[Any]:
    """Return who has reviewed the report as its observer, beside the device; nobody where nobody has.

    A second reader attests to the document (`verify`), for TID 1002 has room for one person.
    """
    review = identity.context.review
    return [] if review is None else _observer(review.reviewer, identity)


def _observer(reader: Reviewer, identity: ResultIdentity) -> list[Any]:
    person = PersonObserverIdentifyingAttributes(
        name=_person_name(reader, identity),
        login_name=ascii_text(reader.account),
        organization_name=_organization(reader, identity),
    )
    return list(ObserverContext(observer_type=dictionary.DCM.Person, observer_identifying_attributes=person))


# --- what the review changed -----------------------------------------------------------------------------------------


def tell_review(group: Dataset, reviewed: ReviewedFinding, identity: ResultIdentity) -> None:
    """Say in the group of a finding that is the reader's word that it is, and what the model had said of it."""
    context = identity.context
    if context.review is None or not reviewed.is_changed:
        return
    observer = _observer(context.review.reviewer, identity)
    tracked = sum(item.ValueType in {"TEXT", "UIDREF"} and item.RelationshipType == "HAS OBS CONTEXT"
                  for item in group.ContentSequence)  # fmt: skip
    for place, item in enumerate(observer, start=tracked):
        group.ContentSequence.insert(place, item)
    group.ContentSequence.extend(_told_of(reviewed, identity))


def _told_of(reviewed: ReviewedFinding, identity: ResultIdentity) -> Iterator[TextContentItem]:
    said = reviewed.said_by_model
    if reviewed.removed:
        yield _comment("Removed by the reviewer: it should not have been reported.", identity)
    if reviewed.is_added:
        yield _comment("Added by the reviewer: the model did not report it.", identity)
    if said is not None:
        value = said_of(said)[:_TEXT_LIMIT]
        yield TextContentItem(name=coded(codes.SAID_BY_MODEL), value=value, relationship_type="CONTAINS")
    if reviewed.text:
        yield _comment(reviewed.text, identity)


def review_items(identity: ResultIdentity) -> list[Any]:
    """Return what the review says of the report as a whole: who verified it, why it was changed, in codes and words."""
    review = identity.context.review
    if review is None:
        return []
    said = [_comment(identity.standing, identity), *map(_reason, review.reasons)]
    return [*said, _comment(f"Review: {review.text}", identity)] if review.text else said


def _reason(reason: ReviewReason) -> CodeContentItem:
    value = CodedConcept(
        value=str(reason), scheme_designator=codes.PRIVATE_SCHEME, meaning=long_string(REVIEW_REASONS[reason]),
    )  # fmt: skip
    return CodeContentItem(name=coded(codes.REVIEW_REASON), value=value, relationship_type="CONTAINS")


def _comment(text: str, identity: ResultIdentity) -> TextContentItem:
    value = written_in_letters_of(identity.source, text)[:_TEXT_LIMIT]
    return TextContentItem(name=dictionary.DCM.Comment, value=value, relationship_type="CONTAINS")
