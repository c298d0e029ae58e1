"""BodyPartExamined and Laterality of objects made from images (PS3.3 C.7.3.1: Laterality is type 2C)."""

from __future__ import annotations

import copy

from pydicom.dataset import Dataset

#: Defined terms of PS3.16 Annex L that do not come in pairs; for any other term a missing side matters.
UNPAIRED_PARTS = frozenset(
    {
        *("ABDOMEN", "ABDOMENPELVIS", "AORTA", "BACK", "BLADDER", "BRAIN", "CEREBELLUM", "CERVIX", "CHEST"),
        *("CHESTABDOMEN", "CHESTABDPELVIS", "CIRCLEOFWILLIS", "COCCYX", "COLON", "CSPINE", "CTSPINE", "DUODENUM"),
        *("ESOPHAGUS", "FACE", "GALLBLADDER", "HEAD", "HEADNECK", "HEART", "ILEUM", "ILIUM", "JAW", "JEJUNUM"),
        *("LARYNX", "LIVER", "LSPINE", "LSSPINE", "MEDIASTINUM", "MOUTH", "NECK", "NECKCHEST", "NECKCHESTABDOMEN"),
        *("NECKCHESTABDPELV", "NOSE", "PANCREAS", "PELVIS", "PENIS", "PHARYNX", "PROSTATE", "RECTUM", "SCALP"),
        *("SKULL", "SPINE", "SPLEEN", "SSPINE", "STERNUM", "STOMACH", "THYMUS", "THYROID", "TLSPINE", "TONGUE"),
        *("TRACHEA", "TSPINE", "UTERUS", "VAGINA", "VULVA", "WHOLEBODY"),
    }
)


def set_body_part(dataset: Dataset, source: Dataset) -> None:
    """Give `dataset` the body part of the source, and a laterality where that part is paired or unknown.

    What the source does not say stays empty: that is what type 2C asks for, and inventing a side is not an option.
    A segmentation names the side of each segment instead.
    """
    part = str(source.get("BodyPartExamined") or "")
    if part:
        dataset["BodyPartExamined"] = copy.deepcopy(source["BodyPartExamined"])
    if part not in UNPAIRED_PARTS and dataset.Modality != "SEG":
        dataset.Laterality = _side_of(source)


def _side_of(source: Dataset) -> str:
    for keyword in ("Laterality", "ImageLaterality"):
        side = str(source.get(keyword) or "")
        if side in {"L", "R"}:
            return side
    return ""
