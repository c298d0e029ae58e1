"""Whether an image was compressed with loss before it came, how, and how far (PS3.3 C.7.6.1.1.5)."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import HTJ2K, JPEG2000, UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

#: Encodings that always lose something, and those that may, by the defined terms of their methods (C.7.6.1.1.5.1).
_LOSING = {JPEGBaseline8Bit: "ISO_10918_1", JPEGExtended12Bit: "ISO_10918_1"}
_MAY_LOSE = {JPEGLSNearLossless: "ISO_14495_1", JPEG2000: "ISO_15444_1", HTJ2K: "ISO_15444_15"}
#: What people call them.
_METHOD_NAMES = {
    "ISO_10918_1": "JPEG",
    "ISO_14495_1": "JPEG-LS",
    "ISO_15444_1": "JPEG 2000",
    "ISO_15444_15": "HTJ2K",
    "ISO_13818_2": "MPEG2",
    "ISO_14496_10": "MPEG-4",
    "ISO_23008_2": "HEVC",
}
_LOSSY_COMPRESSION = ("113040", "DCM")


@dataclass(frozen=True, slots=True)
class LossyHistory:
    """Defined terms of the methods, the ratio over all steps (original to compressed; `None` where nothing says it),
    and whether something was lost for certain or may have been."""

    methods: tuple[str, ...]
    ratio: float | None
    is_certain: bool

    @property
    def method_names(self) -> str:
        """The methods as people call them."""
        return ", ".join(_METHOD_NAMES.get(one, one) for one in self.methods) or "by an unnamed method"


def lossy_history(header: Dataset) -> LossyHistory | None:
    """Return what an image lost, `None` where nothing says that it lost anything.

    Where the attributes are missing the transfer syntax speaks: of a baseline JPEG, nobody has to say that it is lossy.
    """
    said = str(header.get("LossyImageCompression") or "")
    syntax = UID(getattr(getattr(header, "file_meta", None), "TransferSyntaxUID", ""))
    by_syntax = _LOSING.get(syntax, "") or ("" if said == "00" else _MAY_LOSE.get(syntax, ""))
    if said != "01" and not by_syntax:
        return None
    methods = tuple(str(one) for one in _several(header.get("LossyImageCompressionMethod")))
    return LossyHistory(methods or (by_syntax,) * bool(by_syntax), _ratio(header), said == "01" or syntax in _LOSING)


def is_lossy_copy(header: Dataset) -> bool:
    """Tell whether an image is called derived for no other reason than that it was compressed with loss.

    PS3.3 C.7.6.1.1.5: such an image becomes DERIVED, Value 2 of Image Type stays, and its Derivation Code says so.
    """
    kind = [str(one).strip().upper() for one in _several(header.get("ImageType"))]
    codes = [
        (str(item.get("CodeValue", "")), str(item.get("CodingSchemeDesignator", "")))
        for item in header.get("DerivationCodeSequence") or []
    ]
    return kind[:2] == ["DERIVED", "PRIMARY"] and bool(codes) and set(codes) == {_LOSSY_COMPRESSION}


def _ratio(header: Dataset) -> float | None:
    """Return the product over all steps (C.7.6.1.1.5.2): each value is the ratio of one."""
    ratio = 1.0
    for one in _several(header.get("LossyImageCompressionRatio")):
        if not isinstance(one, int | float) or one <= 0:
            return None
        ratio *= float(one)
    return ratio if header.get("LossyImageCompressionRatio") else None


def _several(value: object) -> list[object]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]
