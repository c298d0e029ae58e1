"""Text that can name nobody: the harmless words of descriptions, and what codes mean.

PS3.15 E.3.5 leaves open how text is cleaned. Whoever looks for names in it misses some; so what is known to be harmless
is kept, `descriptor_words.txt`, and everything else goes. A meaning that stands beside a code in an object may be
anything, and is taken from those who made the code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import cast

from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping

from dicom_node.core.codes import TABLES, table

_WORDS = frozenset((files(__package__) / "descriptor_words.txt").read_text(encoding="ascii").split())
#: A thickness, a number of phases or a percentage; a longer one may be somebody's.
_NUMBER = re.compile(r"\d{1,2}(?:[.,]\d{1,2})?(?:MM|KV|SEC|S|%)?", re.IGNORECASE)
_TOKEN = re.compile(r"[^\s\\/;:()\[\]<>_+=^&|,\"-]+")
_LONGEST = 64  # LO (PS3.5 6.2)
#: What SNOMED codes were called before SCT (PS3.16 8); older images have them.
_FORMER_SNOMED = frozenset({"SRT", "SNM3", "99SDM"})
#: By scheme and keyword: values with meaning and context groups.
_Concepts = Mapping[str, Mapping[str, Mapping[str, tuple[str, object]]]]


def cleaned(text: str) -> str:
    """Return the harmless words of a text, as they were written, with blanks between them; "" where none is."""
    return " ".join(token for token in _TOKEN.findall(text) if token.upper() in _WORDS or _NUMBER.fullmatch(token))


def harmless_meaning(value: str, scheme: str, meaning: str) -> str:
    """Return what a code means; of one that nobody here knows, the harmless words of what is said, "" where none is."""
    place = ("SCT", mapping["SRT"].get(value, "")) if scheme in _FORMER_SNOMED else (scheme, value)
    return _meanings().get(place) or cleaned(meaning)


@cache
def _meanings() -> Mapping[tuple[str, str], str]:
    """Return the meanings of PS3.16's context groups, and of the node's own tables, by scheme and value."""
    known = {place: meaning for place, meaning in _of_the_standard() if len(meaning) <= _LONGEST}
    terms = [term for name in TABLES for term in table(name).values()]
    ours = [code for term in terms for code in (*term.equivalents, term.code)]
    return known | {(code.scheme, code.value): code.meaning for code in ours}


def _of_the_standard() -> Iterator[tuple[tuple[str, str], str]]:
    for scheme, by_keyword in cast(_Concepts, concepts).items():
        for by_value in by_keyword.values():
            for value, (meaning, _) in by_value.items():
                yield (scheme, value), meaning
