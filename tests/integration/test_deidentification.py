"""What leaves de-identified tells of nobody: judged by every byte, by another implementation, and by validators.

The other implementation is dicognito: whatever it changes or removes is changed or removed here, too, or the reason
stands in `KEPT`.
"""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicognito.anonymizer import Anonymizer
from PIL import Image
from pydicom import config, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence
from pydicom.sr._concepts_dict import concepts
from pydicom.uid import UID, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, generate_uid

from dicom_node.core.identifying import ProfileOption, confidential_attributes
from dicom_node.deidentification.dataset import deidentify
from dicom_node.deidentification.harmless_text import cleaned
from dicom_node.deidentification.pixels import why_not_exported
from dicom_node.deidentification.profile import BASIC, DeidentificationProfile, SafePrivate
from dicom_node.sr_writer import to_part10, write_objects
from tests.support.needs import tool
from tests.support.results import analysis_examples as examples
from tests.support.studies.marked import CHARACTER_SETS, ELSEWHERE, WORDS, mark, spellings
from tests.unit.test_decoding import compressed, jpeg, jpeg_2000, jpeg_ls

KEY = b"k" * 32
EVERYTHING_KEPT = DeidentificationProfile(
    "research",
    frozenset(ProfileOption) - {ProfileOption.UIDS, ProfileOption.FULL_DATES, ProfileOption.CLEAN_GRAPHICS},
)
#: What dicognito changes and the node does not, and why.
KEPT: Mapping[str, str] = {
    "CodingSchemeUID": "the UID of a vocabulary, given out by its publisher",
    "ContextUID": "the UID of a context group of PS3.16",
    "MappingResourceUID": "the UID of PS3.16 or of another vocabulary",
}
#: Keeps what describes images and lets follow a patient through time.
FOLLOWED = DeidentificationProfile(
    "followed",
    frozenset(
        {ProfileOption.MODIFIED_DATES, ProfileOption.CLEAN_DESCRIPTORS, ProfileOption.CLEAN_STRUCTURED_CONTENT},
    ),
)
#: One value of its own for each kind of value that tells something.
_MARKS: Mapping[str, str] = {
    "DA": "18870117", "DT": "18870117101112", "TM": "101112.131", "AS": "041Y", "DS": "1887.01", "IS": "18870117",
    "AE": ELSEWHERE, "CS": ELSEWHERE, "UR": f"https://{ELSEWHERE}.invalid",
}  # fmt: skip
#: Sequences that are gone through, for what they refer to (X/Z/U*); codes in them say why.
_REFERRING = (0x00081140, 0x00082112)


def as_file(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def read(content: bytes) -> Dataset:
    return dcmread(BytesIO(content))


def cleaned_by_node(dataset: Dataset, profile: DeidentificationProfile = BASIC) -> Dataset:
    """Return what the node makes of the file of a dataset, read again from its own file."""
    of = read(as_file(dataset))
    deidentify(of, profile, KEY)
    return read(as_file(of))


def filled(tag: int) -> Any:
    """Return a value of an attribute of the table that can be found again."""
    vr = dictionary_VR(tag)
    if vr == "UI":
        return f"1.2.3.{tag}"
    return _MARKS.get(vr, ELSEWHERE) if vr not in ("OB", "OW", "UN", "FD", "FL", "US", "UL", "SS", "SL") else None


def single_tags() -> list[int]:
    """Return the tags of the table that stand for one attribute each."""
    return [int(one, 16) for one in confidential_attributes() if one != "private" and "X" not in one]


def everything_marked(character_set: str = "latin") -> Dataset:
    """Return a radiograph with a value in every attribute of Table E.1-1, at the top and in an item of a sequence."""
    image = mark(examples.radiograph(rows=16, columns=16), character_set, "reads")
    below = Dataset()
    for tag in single_tags():
        try:
            vr = dictionary_VR(tag)
        except KeyError:
            continue
        if vr == "SQ":
            item = Dataset()
            item.PersonName, item.TextValue = ELSEWHERE, ELSEWHERE
            if tag not in _REFERRING:
                item.CodeMeaning = ELSEWHERE
            below.add_new(tag, "SQ", [item])
        elif (value := filled(tag)) is not None and 2 < tag >> 16 < 0x7FE0:
            below.add_new(tag, vr, value)
            if tag not in image:
                image.add_new(tag, vr, value)
    below.private_block(0x0011, f"{ELSEWHERE} creator", create=True).add_new(1, "UN", ELSEWHERE.encode())
    image.OtherPatientIDsSequence = [deepcopy(below)]
    image.DerivationImageSequence = [below]  # in no row of the table: it stays, and its items are gone through
    image.add_new(0x60000010, "US", 8)
    image.add_new(0x60003000, "OB", ELSEWHERE.encode() + b"\0")
    image.preamble = f"{ELSEWHERE:128}".encode()
    image.file_meta.SourceApplicationEntityTitle = ELSEWHERE
    image.file_meta.PrivateInformationCreatorUID, image.file_meta.PrivateInformation = (
        UID("1.2.3"),
        ELSEWHERE.encode() + b"\0",
    )
    image.add_new(0xFFFCFFFC, "OB", ELSEWHERE.encode() + b"\0")
    image.PixelData += ELSEWHERE.encode() * 2
    return image


def words_in(content: bytes) -> list[str]:
    """Return the marks that a file holds, however they are spelt."""
    lowered = content.lower()
    marks = [
        *WORDS.values(),
        *(word for _, word in CHARACTER_SETS.values()),
        ELSEWHERE,
        "18870117",
        "1887.01",
        "101112.131",
        "041Y",
    ]
    return [word for word in marks if any(form in lowered for form in spellings(word))]


# --- nothing is left -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("character_set", CHARACTER_SETS)
def test_no_mark_is_left_in_any_byte_nor_in_what_dcmtk_reads(character_set: str, tmp_path: Path) -> None:
    marked = everything_marked(character_set)
    assert set(words_in(as_file(marked))) >= {*WORDS.values(), ELSEWHERE}
    for profile in (BASIC, FOLLOWED):
        file = tmp_path / f"{profile.name}.dcm"
        file.write_bytes(as_file(cleaned_by_node(marked, profile)))
        kept = {"101112.131"} if profile is FOLLOWED else set()  # days move, times of day stay
        assert set(words_in(file.read_bytes())) <= kept
        dumped = subprocess.run([tool("dcmdump", "dcmtk"), "+L", file], capture_output=True, check=True)
        assert set(words_in(dumped.stdout)) <= kept


@pytest.mark.parametrize("of", ["top", "item"])
def test_each_attribute_of_the_table_gets_the_action_of_the_basic_profile(of: str) -> None:
    before, after = everything_marked(), cleaned_by_node(everything_marked())
    if of == "item":
        before, after = before.DerivationImageSequence[0], after.DerivationImageSequence[0]
    compared = 0
    for tag in [one for one in single_tags() if one in before]:
        row, compared = confidential_attributes()[f"{tag:08X}"], compared + 1
        if row.basic == "X":
            assert tag not in after, row.name
        elif row.basic in ("Z", "X/Z") and row.name != "Patient's Name":
            assert after[tag].is_empty, row.name
        elif before[tag].VR != "SQ":
            assert after[tag].value not in ("", None, before[tag].value), row.name
    assert compared > 400


def test_an_attribute_that_no_table_knows_yet_goes_by_its_kind() -> None:
    image = examples.radiograph(rows=16, columns=16)
    image.add_new(0x00142006, "PN", ELSEWHERE)  # Evaluator Name
    image.add_new(0x00144076, "DA", "18870117")  # Procedure Creation Date
    image.add_new(0x00081167, "UI", "1.2.3.1887")  # Multi-frame Source SOP Instance UID
    image.add_new(0x00109998, "LO", ELSEWHERE)  # nobody's
    after = cleaned_by_node(image)
    assert words_in(as_file(after)) == []
    assert 0x00109998 not in after


@pytest.mark.parametrize(
    ("syntax", "encode", "comment"),
    [
        (JPEGBaseline8Bit, jpeg, b"\xff\xfe"), (JPEGBaseline8Bit, jpeg, b"\xff\xe1"),
        (JPEGLSLossless, jpeg_ls, b"\xff\xfe"), (JPEG2000Lossless, jpeg_2000, b"\xff\x64"),
    ],
)  # fmt: skip
def test_comments_of_codecs_go_and_pixels_stay(syntax: Any, encode: Callable[[Any], bytes], comment: bytes) -> None:
    image = compressed(syntax, encode)
    (stream,) = generate_frames(image.PixelData, number_of_frames=1)
    said = b"\0\1" + ELSEWHERE.encode()
    head = 2 if comment[1] != 0x64 else 4 + int.from_bytes(stream[4:6], "big")  # SIZ comes first in JPEG 2000
    stream = stream[:head] + comment + (len(said) + 2).to_bytes(2, "big") + said + stream[head:] + ELSEWHERE.encode()
    image.PixelData = encapsulate([stream])
    after = cleaned_by_node(image)
    assert words_in(as_file(after)) == []
    assert (after.pixel_array == image.pixel_array).all()


def _comment(marker: bytes, said: bytes) -> bytes:
    return marker + (len(said) + 2).to_bytes(2, "big") + said


def _between_scans(values: Any) -> list[bytes]:
    buffer = BytesIO()
    Image.fromarray(values).save(buffer, "jpeg", progressive=True)
    stream = buffer.getvalue()
    second = stream.find(b"\xff\xda", stream.find(b"\xff\xda") + 2)  # restarts with a Huffman table, or with the scan
    table = stream.rfind(b"\xff\xc4", 0, second)
    said = _comment(b"\xff\xfe", ELSEWHERE.encode())
    return [stream[:table] + said + stream[table:]]


def _behind_fill_bytes(values: Any) -> list[bytes]:
    stream = jpeg(values)
    return [stream[:2] + b"\xff\xff" + _comment(b"\xff\xfe", ELSEWHERE.encode()) + stream[2:]]


def _in_two_fragments(values: Any) -> list[bytes]:
    stream = jpeg(values)
    table = stream.find(b"\xff\xdb")
    return [stream[:table] + b"\xff" * (table % 2), _comment(b"\xff\xfe", ELSEWHERE.encode()) + stream[table:]]


def _behind_another_end(values: Any) -> list[bytes]:
    return [jpeg(values) + ELSEWHERE.encode() + b"\xff\xd9"]


def _behind_the_version_of_jfif(values: Any) -> list[bytes]:
    stream = jpeg(values)
    assert stream[2:4] == b"\xff\xe0"
    return [stream[:2] + _comment(b"\xff\xe0", stream[6:20] + ELSEWHERE.encode()) + stream[20:]]


def _in_the_header_of_a_tile(values: Any) -> list[bytes]:
    stream, said = jpeg_2000(values), _comment(b"\xff\x64", b"\0\1" + ELSEWHERE.encode())
    tile = stream.find(b"\xff\x90")
    length = int.from_bytes(stream[tile + 6 : tile + 10], "big") + len(said)
    return [stream[: tile + 6] + length.to_bytes(4, "big") + stream[tile + 10 : tile + 12] + said + stream[tile + 12 :]]


@pytest.mark.parametrize(
    ("syntax", "hide"),
    [
        (JPEGBaseline8Bit, _between_scans), (JPEGBaseline8Bit, _behind_fill_bytes),
        (JPEGBaseline8Bit, _in_two_fragments), (JPEGBaseline8Bit, _behind_another_end),
        (JPEGBaseline8Bit, _behind_the_version_of_jfif), (JPEG2000Lossless, _in_the_header_of_a_tile),
    ],
)  # fmt: skip
def test_text_is_found_wherever_a_stream_may_hold_it(syntax: Any, hide: Callable[[Any], list[bytes]]) -> None:
    image = compressed(syntax, lambda values: hide(values)[0])
    fragments = hide(np.tile(np.arange(int(image.Columns), dtype=np.uint8), (int(image.Rows), 1)))
    image.PixelData = _items(fragments)
    assert ELSEWHERE in words_in(as_file(image))
    after = cleaned_by_node(image)
    assert words_in(as_file(after)) == []
    assert (after.pixel_array == image.pixel_array).all()


def _items(fragments: list[bytes]) -> bytes:
    """Encapsulate the fragments of one frame."""
    padded = [one + b"\0" * (len(one) % 2) for one in fragments]
    table = b"\xfe\xff\x00\xe0\0\0\0\0"
    return table + b"".join(b"\xfe\xff\x00\xe0" + len(one).to_bytes(4, "little") + one for one in padded)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_what_begins_like_a_uid_of_the_standard_and_is_none_goes() -> None:
    image = examples.radiograph(rows=16, columns=16)
    referred = Dataset()
    for keyword in ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID", "ContextUID"):
        _set_uid(referred, keyword, f"1.2.840.10008.{ELSEWHERE}")
    image.SourceImageSequence = Sequence([referred])
    _set_uid(image, "SOPInstanceUID", f"1.2.840.10008./../../{ELSEWHERE}")
    _set_uid(image, "FrameOfReferenceUID", "1.2.840.10008.18870117")
    after = cleaned_by_node(image)
    assert words_in(as_file(after)) == []
    assert after.FrameOfReferenceUID.startswith("2.25.")
    _set_uid(image, "FrameOfReferenceUID", "1.2.840.10008.1.4.1.1")  # the Talairach atlas's
    assert cleaned_by_node(image).FrameOfReferenceUID == "1.2.840.10008.1.4.1.1"


def _set_uid(dataset: Dataset, keyword: str, value: str) -> None:
    dataset[keyword] = DataElement(keyword, "UI", value, validation_mode=config.IGNORE)


# --- what stays together -------------------------------------------------------------------------------------------


def test_uids_and_patients_stay_apart_and_together() -> None:
    one, other = examples.radiograph(rows=16, columns=16), examples.radiograph(rows=16, columns=16)
    other.SOPInstanceUID = generate_uid()
    other.PatientID = f"{one.PatientID}x"
    referred = Dataset()
    referred.ReferencedSOPClassUID, referred.ReferencedSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
    other.SourceImageSequence = Sequence([referred])
    first, second = cleaned_by_node(one), cleaned_by_node(other)
    assert first.StudyInstanceUID == second.StudyInstanceUID != one.StudyInstanceUID
    assert second.SourceImageSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID != one.SOPInstanceUID
    assert first.SOPInstanceUID == first.file_meta.MediaStorageSOPInstanceUID
    assert first.StudyInstanceUID.startswith("2.25.")
    assert first.PatientID == first.PatientName != second.PatientID
    again = read(as_file(one))
    deidentify(again, BASIC, b"another key of the node")
    assert again.StudyInstanceUID != first.StudyInstanceUID


def test_dates_move_by_whole_days_the_same_for_all_of_a_patient() -> None:
    image = examples.radiograph(rows=16, columns=16)
    image.StudyDate, image.SeriesDate, image.AcquisitionDateTime = "20240229", "20240310", "20240310101112.5+0100"
    image.StudyTime = "101112"
    image.add(DataElement("ContentDate", "DA", "not a date", validation_mode=0))
    moved = cleaned_by_node(image, DeidentificationProfile("x", frozenset({ProfileOption.MODIFIED_DATES})))
    day = {keyword: date.fromisoformat(str(moved[keyword].value)[:8]) for keyword in ("StudyDate", "SeriesDate")}
    assert (day["SeriesDate"] - day["StudyDate"]).days == 10
    assert (date(2024, 2, 29) - day["StudyDate"]).days >= 366
    assert str(moved.AcquisitionDateTime) == f"{moved.SeriesDate}101112.5+0100"
    assert (moved.StudyTime, moved.ContentDate) == ("101112", "19000101")
    assert moved.LongitudinalTemporalInformationModified == "MODIFIED"


# --- options -------------------------------------------------------------------------------------------------------


def test_an_object_says_what_was_done_to_it() -> None:
    words: Any = concepts["DCM"]
    known = {value: meaning for of in words.values() for value, (meaning, _) in of.items()}
    every = DeidentificationProfile("all", frozenset(ProfileOption))
    for profile, said in ((BASIC, "REMOVED"), (EVERYTHING_KEPT, "MODIFIED"), (every, "UNMODIFIED")):
        after = cleaned_by_node(examples.radiograph(rows=16, columns=16), profile)
        assert (after.PatientIdentityRemoved, after.LongitudinalTemporalInformationModified) == ("YES", said)
        codes = [(one.CodeValue, one.CodeMeaning) for one in after.DeidentificationMethodCodeSequence]
        assert codes[0][0] == "113100"
        assert all(known[value] == meaning for value, meaning in codes)


@pytest.mark.parametrize(
    ("option", "keyword", "value"),
    [
        ("uids", "StudyInstanceUID", "1.2.3"), ("device_identity", "StationName", "CT 7"),
        ("institution_identity", "InstitutionName", "Hospital"), ("patient_characteristics", "PatientSex", "F"),
        ("full_dates", "StudyDate", "20240101"), ("clean_descriptors", "StudyDescription", "CT Chest"),
    ],
)  # fmt: skip
def test_an_option_keeps_what_it_names_and_nothing_else_does(option: str, keyword: str, value: str) -> None:
    image = examples.radiograph(rows=16, columns=16)
    setattr(image, keyword, value)
    assert (
        cleaned_by_node(image, DeidentificationProfile("x", frozenset({ProfileOption(option)}))).get(keyword) == value
    )
    others = frozenset(ProfileOption) - {ProfileOption(option), ProfileOption.FULL_DATES}
    assert cleaned_by_node(image, DeidentificationProfile("x", others)).get(keyword) != value


def test_a_description_keeps_the_words_that_name_nobody() -> None:
    assert cleaned("CT Chest w/ contrast, Müller 1.25 mm 20240117") == "CT Chest contrast 1.25 mm"
    assert cleaned("Dr. Young^Anna") == ""


def test_nobody_is_older_than_ninety() -> None:
    image = examples.radiograph(rows=16, columns=16)
    image.PatientAge = "097Y"
    kept = DeidentificationProfile("x", frozenset({ProfileOption.PATIENT_CHARACTERISTICS}))
    assert cleaned_by_node(image, kept).PatientAge == "090Y"


def test_of_private_attributes_those_stay_that_were_named() -> None:
    image = examples.radiograph(rows=16, columns=16)
    block = image.private_block(0x0019, "VENDOR", create=True)
    block.add_new(1, "DS", "7")
    block.add_new(2, "LO", ELSEWHERE)
    image.private_block(0x0021, "OTHER", create=True).add_new(1, "DS", "8")
    profile = DeidentificationProfile(
        "x", frozenset({ProfileOption.SAFE_PRIVATE}), frozenset({SafePrivate("VENDOR", 0x0019, 1)})
    )
    after = cleaned_by_node(image, profile)
    assert after.private_block(0x0019, "VENDOR")[1].value == 7
    assert [one.tag.element for one in after if one.tag.is_private] == [0x0010, 0x1001]


# --- what does not leave -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"BurnedInAnnotation": "YES"}, "says itself"), ({"RecognizableVisualFeatures": "YES"}, "says itself"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.4"}, "secondary capture"), ({"ConversionType": "DF"}, "digitised"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1"}, "ultrasound"), ({"ContentSequence": []}, "structured report"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"}, "document"),
    ],
)  # fmt: skip
def test_what_may_show_who_it_is_does_not_leave(changes: Mapping[str, Any], why: str) -> None:
    image = examples.radiograph(rows=16, columns=16)
    assert why_not_exported(image, BASIC) == ""
    for keyword, value in changes.items():
        setattr(image, keyword, value)
    assert why in why_not_exported(image, BASIC)
    told = DeidentificationProfile("x", keep_burned_in=True)
    assert bool(why_not_exported(image, told)) == (why in {"structured report", "document"})


# --- judged by others ----------------------------------------------------------------------------------------------


def elements(dataset: Dataset, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield each element below the top: its way, its keyword and what it says."""
    for element in dataset:
        way = f"{path}/{element.tag}"
        if element.VR == "SQ":
            for number, item in enumerate(element.value):
                yield from elements(item, f"{way}[{number}]")
        else:
            yield way, element.keyword, element.value


@pytest.mark.parametrize("profile", [BASIC, EVERYTHING_KEPT], ids=["basic", "research"])
def test_whatever_another_implementation_changes_is_changed(profile: DeidentificationProfile) -> None:
    marked = everything_marked()
    theirs = read(as_file(marked))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for LastMenstrualTime, which is none
        Anonymizer(seed="s").anonymize(theirs)
    by_them = {way: value for way, _, value in elements(theirs)}
    changed_by_them = {way: keyword for way, keyword, value in elements(marked) if by_them.get(way) != value}
    ours = {way: value for way, _, value in elements(cleaned_by_node(marked, profile))}
    before = {way: value for way, _, value in elements(marked)}
    left = {keyword for way, keyword in changed_by_them.items() if ours.get(way) == before[way]}
    assert len(changed_by_them) > 200
    allowed = set(KEPT)
    if profile is EVERYTHING_KEPT:  # what the site has chosen to keep: of institution, device and times of day
        allowed |= {row_keyword for row_keyword in left if _is_chosen(row_keyword)}
    assert left <= allowed


def _is_chosen(keyword: str) -> bool:
    row = confidential_attributes().get(f"{tag_for_keyword(keyword):08X}")
    return row is not None and bool(row.options.keys() & EVERYTHING_KEPT.options)


def complaints(path: Path) -> set[str]:
    done = subprocess.run([tool("dciodvfy", "dicom3tools"), "-new", path], capture_output=True, check=False)
    return {line for line in done.stderr.decode(errors="replace").splitlines() if line.startswith("Error")}


def results() -> Iterator[Dataset]:
    yield examples.digital_radiograph()
    yield examples.radiograph()
    answer = examples.ct_analysis()
    for one in write_objects(answer, examples.context()):
        yield one.dataset


def test_objects_stay_as_valid_as_they_were(tmp_path: Path) -> None:
    judged = set()
    for number, dataset in enumerate(results()):
        if why_not_exported(dataset, EVERYTHING_KEPT):
            continue
        before = tmp_path / f"{number}-before.dcm"
        before.write_bytes(to_part10(dataset))
        judged.add(str(dataset.SOPClassUID.name))
        for profile in (BASIC, EVERYTHING_KEPT):
            of = dcmread(before)
            if why_not_exported(of, profile):
                continue
            deidentify(of, profile, KEY)
            after = tmp_path / f"{number}-{profile.name}.dcm"
            of.save_as(after, enforce_file_format=True)
            assert complaints(after) <= complaints(before), (dataset.SOPClassUID.name, profile.name)
    assert len(judged) >= 4
