"""Which storage contexts a C-GET proposes: each SOP class with each encoding, so that bytes come as they are stored.

An association has 128 contexts at most (PS3.8 9.3.2.2) and a peer accepts one transfer syntax in each. What a study
holds decides which SOP classes are worth a place.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    MPEG2MPML,
    MPEG4HP41,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_node.send.negotiation import MAX_CONTEXTS, Proposal
from dicom_node.uids import is_valid_uid

UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
#: In order of worth, where not all fit. Deflated is left out: a small one can hold the processor for minutes.
_SYNTAXES = (
    *UNCOMPRESSED, JPEGLosslessSV1, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless, JPEG2000, JPEGLSLossless,
    JPEGExtended12Bit, JPEGLossless, JPEGLSNearLossless, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K, ExplicitVRBigEndian,
    MPEG4HP41, MPEG2MPML,
)  # fmt: skip

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_OF_MODALITY = {
    "CT": ("2", "2.1", "2.2"),
    "MR": ("4", "4.1", "4.4", "4.3", "4.2"),
    "PT": ("128", "130", "128.1"),
    "CR": ("1", "1.1", "1.1.1"),
    "DX": ("1.1", "1", "1.1.1"),
    "MG": ("1.2", "1.2.1", "13.1.3", "1.1"),
    "US": ("6.1", "3.1", "6", "3", "6.2"),
    "XA": ("12.1", "12.1.1", "13.1.1"),
    "RF": ("12.2", "12.2.1", "12.1"),
    "NM": ("20",),
    "SM": ("77.1.6",),
    "OP": ("77.1.5.1", "77.1.5.2", "77.1.5.4"),
    "ES": ("77.1.1", "77.1.1.1"),
    "SR": ("88.11", "88.22", "88.33", "88.34", "88.50", "88.65", "88.67"),
    "PR": ("11.1", "11.2"),
    "SEG": ("66.4", "66.5"),
    "DOC": ("104.1",),
    "RTSTRUCT": ("481.3",),
    "RTPLAN": ("481.5", "481.8"),
    "RTDOSE": ("481.2",),
    "RTIMAGE": ("481.1",),
    "REG": ("66.1", "66.3"),
}
#: What turns up in a study of any modality: captures, reports, key images, presentation states, segmentations.
_ANYWHERE = ("7", "88.59", "88.33", "88.22", "88.11", "88.34", "88.67", "11.1", "66.4", "7.4", "7.2", "104.1")
_MOST_COMMON = ("2", "4", "1", "1.1", "6.1", "3.1", "128", "20", "12.1", "12.2", "1.2", "13.1.3", "2.1", "4.1")


def storage_classes(told: Collection[str], modalities: Collection[str]) -> list[str]:
    """Return the SOP classes to propose: those the PACS `told`, else what such modalities make."""
    known = [uid for uid in told if is_valid_uid(uid)]
    if known:
        return sorted(set(known))
    own = [suffix for modality in sorted(set(modalities)) for suffix in _OF_MODALITY.get(modality, ())]
    return list(dict.fromkeys(_STORAGE + suffix for suffix in (*(own or _MOST_COMMON), *_ANYWHERE)))


def storage_proposals(sop_classes: Sequence[str], taken: int) -> list[Proposal]:
    """Return one context for each class and encoding as far as places reach beside those `taken`."""
    pairs: list[Proposal] = [(sop_class, (str(syntax),)) for syntax in _SYNTAXES for sop_class in sop_classes]
    return pairs[: MAX_CONTEXTS - taken]
