"""How sharp a CT image was reconstructed, read from the name that its vendor gave the convolution kernel.

A sharp kernel adds noise in the fine detail. Of one scan, the share of lung below -950 HU is a few points with a soft
kernel and more than three times that with a sharp one (Gallardo-Estrella et al., Eur Radiol 2016;26:478; Lee et al.,
Korean J Radiol 2019;20:295). Convolution Kernel (0018,1210) is free text (PS3.3 C.8.2.1), so this is a table of the
vendors' names. It says what is meant, not what is in the pixels: a name that nobody here knows is `UNKNOWN`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum


class KernelSharpness(StrEnum):
    """How sharp, in the order in which series are chosen for densities: nobody knows yet is better than sharp."""

    SOFT = "soft"
    MEDIUM = "medium"
    UNKNOWN = "unknown"
    SHARP = "sharp"

    @property
    def place(self) -> int:
        """Where it stands in that order, from 0."""
        return list(KernelSharpness).index(self)


_SOFT, _MEDIUM, _SHARP = KernelSharpness.SOFT, KernelSharpness.MEDIUM, KernelSharpness.SHARP

#: Names made of words: GE's, Canon's, United Imaging's, and what others write out. The sharpest word counts.
_WORDS = {
    _SOFT: "SOFT VSOFT SMOOTH VSMOOTH STANDARD STND STD",
    _MEDIUM: "DETAIL DTL CHEST MEDIUM MSHARP BODY CARDIAC",
    _SHARP: "SHARP VSHARP USHARP LUNG BONE BONEPLUS EDGE ULTRA ULTRAHIGH HRES HIGHRES HRCT DETAILPLUS",
}
#: Philips: one letter for the filter, and letters before it for what is scanned.
_PHILIPS = {
    _SOFT: "A B UA CA XCA SA SB",
    _MEDIUM: "C EB UB CB XCB YA SC",
    _SHARP: "D E F L UC UD EC CC CD XCC XCD YB YC YD YE SD",
}
#: Canon and Toshiba: ranges of the numbers behind FC.
_CANON = (
    (range(1, 5), _SOFT), (range(5, 6), _MEDIUM), (range(6, 9), _SOFT), (range(9, 10), _MEDIUM),
    (range(10, 14), _SOFT), (range(14, 17), _MEDIUM), (range(17, 19), _SOFT), (range(19, 30), _MEDIUM),
    (range(30, 40), _SHARP), (range(40, 50), _MEDIUM), (range(50, 60), _SHARP), (range(60, 80), _MEDIUM),
    (range(80, 90), _SHARP),
)  # fmt: skip
_CANON_NAME = re.compile(r"FC0*(\d{1,2})(?!\d)")
#: Siemens: family (B, H, Q, U …, and on newer scanners a second letter), resolution, and a letter for the rotation.
_SIEMENS_NAME = re.compile(r"[BDHIJQSTU][A-Z]?(\d{2})(?:[A-Z]{1,2})?")
_SIEMENS_MEDIUM, _SIEMENS_SHARP = 40, 50
_WORD = re.compile(r"[A-Z]+")

_BY_WORD = {word: sharpness for sharpness, words in _WORDS.items() for word in words.split()}
_BY_LETTERS = {letters: sharpness for sharpness, names in _PHILIPS.items() for letters in names.split()}
#: Who names kernels by letters alone; of others such a name says nothing.
_NAMES_BY_LETTERS = ("PHILIPS", "MARCONI", "PICKER", "ELSCINT")


def sharpness_of(convolution_kernel: str | Sequence[str] | None, manufacturer: str | None = None) -> KernelSharpness:
    """Return how sharp a kernel is: of several names, the sharpest that is known.

    `convolution_kernel` is the value as pydicom gives it, or its values joined by a backslash. Second values are often
    none: Siemens writes the strength of its iterative reconstruction there. Without a `manufacturer` (removed from
    many public images) every vendor's names are tried.
    """
    known = [found for name in _names(convolution_kernel) if (found := _sharpness(name, manufacturer or ""))]
    return max(known, key=lambda one: one.place, default=KernelSharpness.UNKNOWN)


def _names(value: str | Sequence[str] | None) -> Iterable[str]:
    values = [value] if isinstance(value, str) else value or ()
    for one in values:
        yield from (name.strip(" \0").upper() for name in str(one).split("\\"))


def _sharpness(name: str, manufacturer: str) -> KernelSharpness | None:
    """Return what one name in upper case stands for; `None` when it is none of those known."""
    canon = _CANON_NAME.match(name)
    if canon:
        return next((sharpness for numbers, sharpness in _CANON if int(canon[1]) in numbers), None)
    siemens = _SIEMENS_NAME.fullmatch(name)
    if siemens:
        resolution = int(siemens[1])
        return _SOFT if resolution < _SIEMENS_MEDIUM else _MEDIUM if resolution < _SIEMENS_SHARP else _SHARP
    if name in _BY_LETTERS and (not manufacturer.strip() or manufacturer.strip().upper().startswith(_NAMES_BY_LETTERS)):
        return _BY_LETTERS[name]
    words = [_BY_WORD[word] for word in _WORD.findall(name) if word in _BY_WORD]
    return max(words, key=lambda one: one.place, default=None)
