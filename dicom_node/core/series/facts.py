"""What a series is, concluded from the attributes of its headers; routes and models may ask for it and rank by it.

`kernel_sharpness` and `ct_values` are told of CT alone. They choose among several reconstructions of one scan: which
of them a model should get does not depend on a UID.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from dicom_node.core.entities import Series
from dicom_node.core.series.body_regions import regions_of
from dicom_node.core.series.kernels import KernelSharpness, sharpness_of
from dicom_node.core.series.predicates import number_in
from dicom_node.core.series.spectral import spectral_of

Attributes = Mapping[str, frozenset[str]]

CONVENTIONAL = "conventional"
#: Attributes that are concluded, for conditions.
CONCLUDED = frozenset({"body_region", "kernel_sharpness", "ct_values"})
_LOCALIZERS = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "REF_SURVIEW"})
_WORD = re.compile(r"[A-Z]+")
_BREATHED_OUT = re.compile(r"EXP|EXPI|EXSP|E[XK]?S?PIR[A-Z]*|EXHAL[A-Z]*|AUSATM[A-Z]*|AUSATEM[A-Z]*")
_BREATHED_IN = re.compile(r"INSP[A-Z]*|INHAL[A-Z]*|EINATM[A-Z]*|EINATEM[A-Z]*")
#: A series that extends over less than this share of the longest one shows a part of what was scanned.
_PART = 0.5


def concluded(attributes: Attributes) -> dict[str, frozenset[str]]:
    """Return what follows from a series' attributes."""
    found: dict[str, frozenset[str]] = {}
    body = regions_of(attributes)
    if body is not None:
        found["body_region"] = body.regions
    if "CT" in attributes.get("modality", ()):
        found["kernel_sharpness"] = frozenset({_sharpness(attributes).value})
        found["ct_values"] = frozenset({_ct_values(attributes)})
    return found


def evidence_of(attribute: str, attributes: Attributes) -> str:
    """Say by what a concluded attribute is known: for the clause that tells it."""
    body = regions_of(attributes) if attribute == "body_region" else None
    if body is not None:
        return body.evidence
    if attribute == "kernel_sharpness":
        return f"ConvolutionKernel {_listed(attributes, 'convolution_kernel') or 'absent'}"
    return ""


def extent_mm(series: Series, attributes: Attributes) -> float | None:
    """Return how far the slices of a series reach at most, `None` where no slice thickness is told."""
    thickness = [value for text in attributes.get("slice_thickness", ()) if (value := number_in(text)) is not None]
    if not thickness or _is_localizer(attributes):
        return None
    frames = (number_in(one.attributes.get("number_of_frames", "1")) for one in series.instances)
    return max(thickness) * sum(1.0 if one is None else one for one in frames)


def is_expiratory(texts: Iterable[str]) -> bool:
    """Tell whether descriptions of a series say that it was taken after breathing out.

    A text that names both speaks of the whole examination and says nothing of the series.

    >>> is_expiratory(["Lung 1.0 EXP"]), is_expiratory(["Thorax INSP/EXP"]), is_expiratory(["Exsp.", "Insp. 1 mm"])
    (True, False, False)
    """
    said = set()
    for text in texts:
        words = _WORD.findall(unicodedata.normalize("NFKD", text).upper())
        out, into = (any(kind.fullmatch(word) for word in words) for kind in (_BREATHED_OUT, _BREATHED_IN))
        said |= {out} if out != into else set()
    return said == {True}


def whole_or_part(extent: float | None, longest: float | None) -> str:
    """Return ``part`` of a series that is much shorter than the longest of its study, otherwise ``whole``."""
    return "part" if extent is not None and longest is not None and extent < _PART * longest else "whole"


# --- ranking -------------------------------------------------------------------------------------------------------


def _original(attributes: Attributes) -> tuple[float, str]:
    if _is_localizer(attributes):
        return 2, "localizer"
    first = {value.split("\\")[0].upper() for value in attributes.get("image_type", ())}
    return (0, "ORIGINAL") if "ORIGINAL" in first else (1, "not ORIGINAL")


def _whole(attributes: Attributes) -> tuple[float, str]:
    is_part = "part" in attributes.get("extent", ())
    return float(is_part), "part of the scan" if is_part else "whole"


def _conventional(attributes: Attributes) -> tuple[float, str]:
    values = _listed(attributes, "ct_values") or CONVENTIONAL
    return float(values != CONVENTIONAL), values


def _inspired(attributes: Attributes) -> tuple[float, str]:
    texts = [text for name in ("series_description", "protocol_name") for text in sorted(attributes.get(name, ()))]
    expired = is_expiratory(texts)
    return float(expired), "in expiration" if expired else "not in expiration"


def _soft(attributes: Attributes) -> tuple[float, str]:
    sharpness, kernel = _sharpness(attributes), _listed(attributes, "convolution_kernel")
    return sharpness.place, f"{sharpness} ({kernel})" if kernel else sharpness


def _sharp(attributes: Attributes) -> tuple[float, str]:
    place, text = _soft(attributes)
    return -place, text


#: Rank keys that are no attributes, each with what it makes of a series: a number, lowest first, and words.
RANK_KEYS: Mapping[str, Callable[[Attributes], tuple[float, str]]] = {
    "original_first": _original,
    "whole_first": _whole,
    "conventional_first": _conventional,
    "inspiration_first": _inspired,
    "soft_kernel_first": _soft,
    "sharp_kernel_first": _sharp,
}
#: What decides where the keys of route and model leave two series equal, before their UIDs do.
LAST_KEYS = (
    *("original_first", "whole_first", "conventional_first", "inspiration_first", "soft_kernel_first"),
    "series_number",
)


def _sharpness(attributes: Attributes) -> KernelSharpness:
    makers = sorted(attributes.get("manufacturer", ()))
    return sharpness_of(sorted(_whole_values(attributes.get("convolution_kernel", ()))), "".join(makers[:1]))


def _ct_values(attributes: Attributes) -> str:
    types = sorted(_whole_values(attributes.get("image_type", ())), key=lambda text: -text.count("\\"))
    description = " ".join(sorted(attributes.get("series_description", ())))
    rescale_types = sorted(attributes.get("rescale_type", ()), reverse=True)
    found = spectral_of((types or [""])[0].split("\\"), "".join(rescale_types[-1:]), description)
    return found.words if found is not None and not found.is_like_conventional else CONVENTIONAL


def _is_localizer(attributes: Attributes) -> bool:
    return not _LOCALIZERS.isdisjoint(value.upper() for value in attributes.get("image_type", ()))


def _whole_values(values: Collection[str]) -> list[str]:
    """Return values without those that are parts of a longer one."""
    parts: set[str] = {part for value in values if "\\" in value for part in value.split("\\")}
    return [value for value in values if value not in parts]


def _listed(attributes: Attributes, name: str) -> str:
    listed: Sequence[str] = sorted(_whole_values(attributes.get(name, ())))
    return ", ".join(listed)
