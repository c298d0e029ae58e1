"""Whether the values of a CT image are Hounsfield units as every scanner gives them, or what spectral CT computed.

The standard says it by the fourth value of Image Type (PS3.3 C.8.2.1.1.1, C.8.15.2.1.1.5) and by Rescale Type HU_MOD
(C.11.1.1.2); older scanners say it in words. Not every word is looked for: only those that stand for nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

#: Values 4 and later of Image Type.
_TERMS = {
    "VMI": "virtual monoenergetic",
    "MAT_SPECIFIC": "a map of one material",
    "MAT_REMOVED": "with a material removed from them",
    "MAT_FRACTIONAL": "a map of the fraction of a material",
    "MAT_MODIFIED": "with a material's contrast modified",
    "MAT_VALUE_BASED": "a map of what a material was made of",
    "EFF_ATOMIC_NUM": "a map of effective atomic numbers",
    "ELECTRON_DENSITY": "a map of electron density",
}
#: What stands in descriptions, by the term that it stands for.
_WORDS = (
    ("VMI", re.compile(r"\b(?:vmi\b|mono(?:e|\+|[ -]?energetic)|mono\s*\d{2,3}\s*kev|\d{2,3}\s*kev\b)", re.IGNORECASE)),
    ("MAT_REMOVED", re.compile(r"\bvnca?\b|virtual (?:non|un)|water \(iodine\)", re.IGNORECASE)),
    ("MAT_SPECIFIC", re.compile(r"\biodine[ _-]?(?:map|overlay|density|no water|\()|\bpbv\b", re.IGNORECASE)),
    ("EFF_ATOMIC_NUM", re.compile(r"\bz[ _-]?eff", re.IGNORECASE)),
    ("ELECTRON_DENSITY", re.compile(r"\belectron[ _-]density\b", re.IGNORECASE)),
)
_KEV = re.compile(r"(\d{2,3})\s*kev", re.IGNORECASE)
#: Between these, monoenergetic values of soft tissue and lung are those of 120 kVp, and photon-counting scanners make
#: such images in the place of conventional ones.
_LIKE_120_KVP_KEV = (60.0, 80.0)


@dataclass(frozen=True, slots=True)
class Spectral:
    """What was computed, in words that follow "the images are"; `is_like_conventional`: values as of 120 kVp."""

    words: str
    is_like_conventional: bool = False


def spectral_of(
    image_type: Sequence[str], rescale_type: str, description: str, energy_kev: float | None = None
) -> Spectral | None:
    """Return what spectral CT computed of an image, `None` for a conventional one.

    `description` is that of the series: a protocol is called after what else is made of the same scan. `energy_kev` is
    Monoenergetic Energy Equivalent (0018,937C); without it, the description may name the energy.
    """
    told = " ".join([*image_type[2:], description])
    term = next((one.strip().upper() for one in image_type[3:] if one.strip().upper() in _TERMS), "")
    term = term or next((term for term, words in _WORDS if words.search(told)), "")
    if term == "VMI":
        return _monoenergetic(energy_kev or _energy_in(told))
    if term:
        return Spectral(_TERMS[term])
    is_modified = rescale_type.strip().upper() == "HU_MOD"
    return Spectral("in Hounsfield units that were modified afterwards (Rescale Type HU_MOD)") if is_modified else None


def _monoenergetic(energy_kev: float | None) -> Spectral:
    if energy_kev is None:
        return Spectral("virtual monoenergetic, of an energy that is not told")
    low, high = _LIKE_120_KVP_KEV
    return Spectral(f"virtual monoenergetic at {energy_kev:g} keV", low <= energy_kev <= high)


def _energy_in(text: str) -> float | None:
    found = _KEV.search(text)
    return float(found[1]) if found else None
