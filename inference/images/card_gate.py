"""What a model card asks of every study before any pixel is read: modality, age, a patient at all."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from dicom_node.core.errors import NotAnalysable
from dicom_node.core.series.age import age_in_years
from dicom_node.inference.cards.card import Gate, ModelCard
from dicom_node.inference.images.exclusions import check_readable, check_subject
from dicom_node.inference.images.mr_weighting import check_sequence
from dicom_node.inference.images.radiographs.views import is_of_an_animal


def check_card_gate(card: ModelCard, headers: Sequence[Dataset]) -> None:
    """Compare the headers with the card.

    Raises `NotAnalysable`: NO_IMAGES, UNREADABLE_ATTRIBUTE, WRONG_MODALITY, TEST_SUBJECT, NOT_HUMAN,
    AGE_UNKNOWN, AGE_OUT_OF_RANGE, ECHO_PLANAR, NOT_T1_WEIGHTED or CONTRAST_MEDIUM.
    """
    if not headers:
        raise NotAnalysable("NO_IMAGES", "The job names no image.")
    for header in headers:
        check_readable(header, ("Modality", "PatientID"))
    modalities = {str(header.get("Modality", "")) for header in headers}
    if card.accepted_modalities and not modalities & card.accepted_modalities:
        raise NotAnalysable(
            "WRONG_MODALITY",
            f"The images are {', '.join(sorted(modalities))}; the model takes "
            f"{', '.join(sorted(card.accepted_modalities))}.",
        )
    check_subject(headers, card.gate)
    if not card.gate.animals_allowed and any(map(is_of_an_animal, headers)):
        raise NotAnalysable(
            "NOT_HUMAN",
            "The images are of an animal, as their header says; the model is for people. To analyse animals, set "
            "[gate] animals_allowed in the model card.",
        )
    _check_age(card.gate, headers[0])
    check_sequence(card.gate, headers)


def _check_age(gate: Gate, header: Dataset) -> None:
    low, high = gate.min_age_years, gate.max_age_years
    if low is None and high is None:
        return
    wanted = f"{low or 0:g} to {high or 150:g} years"
    years = age_years(header)
    if years is None and gate.age_may_be_absent:
        return
    if years is None:
        raise NotAnalysable(
            "AGE_UNKNOWN",
            f"The model takes ages {wanted} only and the images state none. "
            "Send PatientAge, or PatientBirthDate and StudyDate.",
        )
    # A patient of five years and eleven months is "005Y".
    if (low is not None and years < low) or (high is not None and years >= high + 1):
        raise NotAnalysable("AGE_OUT_OF_RANGE", f"The model takes ages {wanted} only.")


def age_remarks(gate: Gate, headers: Sequence[Dataset]) -> list[str]:
    """Return a sentence where a model of certain ages was given images that tell none; else nothing."""
    low, high = gate.min_age_years, gate.max_age_years
    if (low is None and high is None) or age_years(headers[0]) is not None:
        return []
    made_for = f"from {low:g} years on" if high is None else f"of {low or 0:g} to {high:g} years"
    return [f"The images tell no age, and the model is made for patients {made_for}."]


def age_years(header: Dataset) -> float | None:
    """Return the age in years from PatientAge, or from the birth and study dates; `None` if neither is usable."""
    stated, born, studied = (
        str(header.get(keyword) or "") for keyword in ("PatientAge", "PatientBirthDate", "StudyDate")
    )
    return age_in_years(stated, born, studied)
