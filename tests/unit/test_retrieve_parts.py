"""Streams taken apart piece by piece: multipart bodies and DICOM files, however they are cut, and what is no such."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.core.errors import RefusedObject
from dicom_node.dimse.command_set import Element, Field, read_command
from dicom_node.dimse.retrieve_scu import cancel, request, storage_classes, storage_proposals, store_response
from dicom_node.retrieve.multipart import MalformedBody, boundary_of, parts, read_parameters
from dicom_node.retrieve.sink import opened_file

BOUNDARY = "a-boundary"
CONTENTS = st.lists(st.binary(max_size=60), min_size=1, max_size=5)


def body_of(contents: list[bytes], preamble: bytes = b"", header: bytes = b"Content-Type: application/dicom") -> bytes:
    begin = b"--a-boundary\r\n" + header + b"\r\n\r\n"
    return preamble + begin + (b"\r\n" + begin).join(contents) + b"\r\n--a-boundary--\r\nepilogue"


def cut(body: bytes, step: int) -> Iterator[bytes]:
    return (body[start : start + step] for start in range(0, len(body), step))


@given(contents=CONTENTS, step=st.integers(1, 80))
def test_parts_come_out_as_they_went_in_however_the_body_is_cut(contents: list[bytes], step: int) -> None:
    read = [b"".join(part.content) for part in parts(cut(body_of(contents), step), BOUNDARY)]

    assert read == contents


@given(contents=CONTENTS, step=st.integers(1, 80))
def test_a_part_nobody_reads_is_passed_over(contents: list[bytes], step: int) -> None:
    assert len([part.headers for part in parts(cut(body_of(contents), step), BOUNDARY)]) == len(contents)


@pytest.mark.parametrize(
    "near", [b"\r\n--a-boundar", b"\r\n--a-boundar\r\n--a-boundar", b"\r\n-", b"\r", b"--a-boundary"]
)
@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_what_only_looks_like_a_delimiter_is_content(near: bytes, step: int) -> None:
    content = b"x" + near + b"z" + near

    (part,) = [b"".join(one.content) for one in parts(cut(body_of([content]), step), BOUNDARY)]

    assert part == content


def test_headers_are_read_and_a_preamble_is_passed_over() -> None:
    body = body_of([b"x"], preamble=b"hello\r\n", header=b"Content-Type: a/b\r\nX-Y:  z ")

    (headers,) = [part.headers for part in parts([body], BOUNDARY)]

    assert headers == {"content-type": "a/b", "x-y": "z"}


@pytest.mark.parametrize("missing", [1, 2, 20, 40, 60])
def test_a_body_that_ends_in_the_middle_is_never_taken_for_whole(missing: int) -> None:
    body = body_of([b"0123456789" * 3])[: -len(b"--\r\nepilogue") - missing + 1]

    with pytest.raises(MalformedBody, match="broke off"):
        [b"".join(part.content) for part in parts([body], BOUNDARY)]


@pytest.mark.parametrize(
    "body",
    [
        b"x" * 200_000,
        b"--a-boundary\r\n" + b"h" * 40_000,
        b"--a-boundary\r\n" + b"a: b\r\n" * 9000,
        b"--a-boundary junk\r\n",
    ],
    ids=["no delimiter", "a line without end", "headers without end", "junk behind the delimiter"],
)
def test_what_is_no_multipart_body_is_refused_without_being_gathered(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        [b"".join(part.content) for part in parts(cut(body, 4096), BOUNDARY)]


def test_the_boundary_is_read_from_the_content_type() -> None:
    assert boundary_of('multipart/related; type="application/dicom"; boundary="a b"') == "a b"
    assert boundary_of("multipart/related; boundary=x-y") == "x-y"
    assert boundary_of("application/dicom; boundary=x") == ""
    assert boundary_of("multipart/related") == ""
    assert boundary_of("") == ""
    assert boundary_of(f"multipart/related; boundary={'x' * 257}") == ""


@pytest.mark.parametrize(
    ("field", "parameters"),
    [
        ('form-data; name="a b" ; FileName="c;d=\\"e\\".dcm"', {"name": "a b", "filename": 'c;d="e".dcm'}),
        ("form-data; name=a;filename=b;name=c", {"name": "a", "filename": "b"}),
        ('form-data; name="never ends; filename=b', {"name": "never ends; filename=b"}),
        ("form-data; filename*=utf-8''%C3%A4", {"filename*": "utf-8''%C3%A4"}),
        ("form-data; name=; =x; ;", {"name": ""}),
    ],
)
def test_parameters_of_a_header_field_are_read(field: str, parameters: dict[str, str]) -> None:
    assert read_parameters(field) == ("form-data", parameters)


@pytest.mark.parametrize("piece", [";", ';a="', ';a=\\"', ';a="\\', "; ", ";a", '"', "\\", ";a= "])
def test_a_field_that_is_made_to_be_slow_is_not(piece: str) -> None:
    """In seconds of the processor; the parser of the standard library takes minutes for some of them."""
    field = f'form-data;x="{piece * (1 << 18)}'
    began = time.process_time()
    read_parameters(field)
    assert time.process_time() - began < 10


@given(st.text())
def test_no_header_field_fails_to_be_read(field: str) -> None:
    assert isinstance(read_parameters(field)[0], str)


# --- files ---


def a_file(meta: bytes | None = None, data_set: bytes = b"data") -> bytes:
    content = meta if meta is not None else element(2, "1.2") + element(3, "3.4") + element(0x10, "1.2.840.10008.1.2.1")
    return bytes(128) + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(content)) + content + data_set


def element(number: int, text: str) -> bytes:
    value = text.encode() + b"\0" * (len(text) % 2)
    return struct.pack("<HH2sH", 2, number, b"UI", len(value)) + value


#: No data set has elements of group 0002; that group is what tells where the file meta information ends.
DATA_SETS = st.binary(max_size=300).filter(lambda content: not content.startswith(b"\x02\x00"))


@given(step=st.integers(1, 400), data_set=DATA_SETS)
def test_a_file_is_split_into_names_and_data_set_however_it_is_cut(step: int, data_set: bytes) -> None:
    names, rest = opened_file(cut(a_file(data_set=data_set), step))

    assert (names.sop_class_uid, names.sop_instance_uid) == ("1.2", "3.4")
    assert names.transfer_syntax_uid == "1.2.840.10008.1.2.1"
    assert b"".join(rest) == data_set


@pytest.mark.parametrize(
    "file",
    [b"", b"<html>", bytes(500), a_file()[:140], a_file(meta=element(2, "1.2") + b"\x02\x00"),
     a_file(meta=struct.pack("<HH2sH", 8, 2, b"UI", 0)), a_file(meta=struct.pack("<HH2sH", 2, 2, b"UI", 900)),
     bytes(128) + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, 0xFFFFFFF0) + bytes(64)],
    ids=["empty", "a page", "zeros", "cut off", "half an element", "another group", "a wrong length", "a huge length"],
)  # fmt: skip
def test_what_is_no_dicom_file_is_refused(file: bytes) -> None:
    with pytest.raises(RefusedObject, match="not a DICOM file"):
        opened_file([file])


# --- commands and contexts ---


def test_a_command_is_read_as_it_was_written() -> None:
    command = read_command(request(Field.C_MOVE_RQ, "1.2.3", 7, "NODE1"))

    assert command.number(Element.COMMAND_FIELD) == Field.C_MOVE_RQ
    assert command.number(Element.MESSAGE_ID) == 7
    assert command.text(Element.AFFECTED_SOP_CLASS_UID) == "1.2.3"
    assert command.elements[Element.MOVE_DESTINATION] == b"NODE1 "
    assert command.has_data_set
    assert not read_command(cancel(7)).has_data_set


def test_a_store_is_answered_with_its_own_identifiers() -> None:
    asked = read_command(request(Field.C_STORE_RQ, "1.2.3", 9))

    answer = read_command(store_response(asked, 0xA700))

    assert answer.number(Element.MESSAGE_ID_RESPONDED_TO) == 9
    assert answer.number(Element.STATUS) == 0xA700
    assert answer.text(Element.AFFECTED_SOP_CLASS_UID) == "1.2.3"


@pytest.mark.parametrize("cut_at", range(1, 40))
def test_a_command_cut_off_is_never_taken_for_whole(cut_at: int) -> None:
    whole = request(Field.C_GET_RQ, "1.2.3", 7)
    boundaries = {12, 12 + 8 + 6, 12 + 8 + 6 + 10}

    if cut_at in boundaries:
        assert len(read_command(whole[:cut_at]).elements) < len(read_command(whole).elements)
    else:
        with pytest.raises(ValueError, match="command set"):
            read_command(whole[:cut_at])


def test_what_the_pacs_tells_is_proposed_in_every_encoding() -> None:
    proposed = storage_proposals(storage_classes(["1.2.840.10008.5.1.4.1.1.2"], ["CT"]), 1)

    assert {sop_class for sop_class, _ in proposed} == {"1.2.840.10008.5.1.4.1.1.2"}
    assert len(proposed) == len({syntax for _, (syntax,) in proposed}) == 15


def test_an_association_is_never_asked_for_more_contexts_than_it_has() -> None:
    sop_classes = storage_classes([], ["CT", "MR", "SR", "PT", "MG", "US", "XA"])

    proposed = storage_proposals(sop_classes, 1)

    assert len(proposed) == 127
    assert {sop_class for sop_class, _ in proposed} == set(sop_classes)


def test_a_pacs_that_answers_malformed_is_asked_for_the_common_classes() -> None:
    assert "1.2.840.10008.5.1.4.1.1.2" in storage_classes(["../../x"], [])
