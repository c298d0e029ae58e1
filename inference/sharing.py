"""Which attributes of an image leave this machine with its pixels: those the card of a remote model declares."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_node.inference.cards.card import ModelCard

#: Older people are few enough to be found by their age (45 CFR 164.514).
_OLDEST_TOLD_YEARS = 90


def shared_attributes(card: ModelCard, header: Dataset) -> dict[str, str]:
    """Return the declared attributes that the image has, by keyword; empty for a model that runs here."""
    if card.server is None:
        return {}
    told = {keyword: str(header.get(keyword)) for keyword in card.server.attributes if header.get(keyword) is not None}
    if "PatientAge" in told:
        told["PatientAge"] = _without_great_age(told["PatientAge"])
    return {keyword: value for keyword, value in told.items() if value}


def _without_great_age(age: str) -> str:
    years = age.endswith("Y") and age[:-1].isdigit()
    return f"{_OLDEST_TOLD_YEARS:03d}Y" if years and int(age[:-1]) > _OLDEST_TOLD_YEARS else age
