"""The tables of codes: pinned, compared with pydicom's dictionary of PS3.16, fit for every object that carries them."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.sr._concepts_dict import concepts

from dicom_node.core import codes
from dicom_node.core.codes import FOLDER, TABLES, Term, table
from dicom_node.core.entities import Code
from dicom_node.core.errors import SettingsError
from dicom_node.inference.cards.card import load_card
from tests.support.needs import REPOSITORY
from tests.unit.test_model_cards import CARD

#: Set anew, on purpose, with every change of a code: results of the past carry the old ones.
PINNED = "ee24f0830071f2933efc0d1afe2297e7a0c1353226edad6668096c613a2556b3"
#: Every meaning pydicom knows for a code; some codes have several.
PYDICOM: dict[tuple[str, str], set[str]] = {}
for _scheme, _words in concepts.items():
    for _codes in _words.values():
        for _value, (_meaning, _) in _codes.items():
            PYDICOM.setdefault((_scheme, _value), set()).add(_meaning)


def terms() -> Iterator[tuple[str, Term]]:
    for one in TABLES:
        for term in table(one).values():
            yield one, term


def test_no_code_changes_unseen() -> None:
    listing = "\n".join(f"{one} {t.key} {t.code.value} {t.code.scheme} {t.code.meaning}" for one, t in terms())

    assert hashlib.sha256(listing.encode()).hexdigest() == PINNED


def test_what_is_said_to_be_in_pydicoms_dictionary_is_there_with_that_meaning() -> None:
    checked = [term for _, term in terms() if term.reviewed.startswith("pydicom 3.0.2")]

    assert len(checked) > 50
    for term in checked:
        known = {meaning.lower() for meaning in PYDICOM[term.code.scheme, term.code.value]}
        said = term.reviewed.removeprefix("pydicom 3.0.2").removeprefix(": ") or term.code.meaning
        assert said.lower() in known, f"{term.key}: pydicom says {known}"


def test_what_pydicoms_dictionary_could_confirm_is_not_called_unconfirmed() -> None:
    unconfirmed = [term for _, term in terms() if "not" in term.reviewed]

    assert [t.key for t in unconfirmed if (t.code.scheme, t.code.value) in PYDICOM] == []


def test_every_entry_says_where_it_was_checked() -> None:
    known = re.compile(
        r"pydicom 3\.0\.2(: .+)?|not yet confirmed by a (SNOMED|LOINC) browser|UCUM grammar; not in pydicom 3\.0\.2"
        r"|PS3\.16 TID \d+; not in pydicom 3\.0\.2|private: no code was found in DCM, SNOMED CT, LOINC or IBSI"
    )

    assert [term.key for _, term in terms() if not known.fullmatch(term.reviewed)] == []
    assert [t.key for _, t in terms() if t.code.scheme.startswith("99") != t.reviewed.startswith("private")] == []


def test_every_code_fits_into_a_dicom_object() -> None:
    for _, term in terms():
        for one in (term.code, *term.equivalents):
            assert 0 < len(one.value) <= 16, term.key
            assert 0 < len(one.scheme) <= 16, term.key
            assert 0 < len(one.meaning) <= 64, term.key
            assert (one.value + one.scheme + one.meaning).isascii(), term.key


def test_a_code_has_one_key_and_one_meaning() -> None:
    seen = [(term.code.scheme, term.code.value) for _, term in terms()]

    assert len(seen) == len(set(seen))


def test_the_names_in_code_are_the_tables_codes() -> None:
    in_tables = {term.code for _, term in terms()}
    named = [value for value in vars(codes).values() if isinstance(value, Code)]

    assert len(named) > 20
    assert set(named) <= in_tables


def test_the_tables_are_installed_with_the_package() -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))

    assert settings["tool"]["setuptools"]["package-data"]["dicom_node.config"] == ["terminology/*.toml"]
    assert {path.stem for path in FOLDER.iterdir()} == set(TABLES)


def card_with(folder: Path, finding: str) -> Path:
    before, _, _ = CARD.partition("[[finding]]")
    (folder / "model_card.toml").write_text(f"{before}[[finding]]\n{finding}", encoding="utf-8")
    return folder


def test_a_card_may_name_a_term_by_its_key(tmp_path: Path) -> None:
    finding = 'key = "ptx"\nlabel = "Pneumothorax"\ncode = "pneumothorax"\nsite = "pleura"\nunit = "percent"\n'

    (read,) = load_card(card_with(tmp_path, finding)).findings

    assert read.code == Code("36118008", "SCT", "Pneumothorax")
    assert read.site == Code("3120008", "SCT", "Pleura")
    assert read.unit == codes.PERCENT


def test_a_key_the_terminology_lacks_is_refused_with_the_nearest(tmp_path: Path) -> None:
    finding = 'key = "x"\nlabel = "x"\ncode = "pneumotorax"\nsite = "pleura"\n'

    with pytest.raises(SettingsError, match=r"finding\[0\]\.code .*did you mean pneumothorax"):
        load_card(card_with(tmp_path, finding))
