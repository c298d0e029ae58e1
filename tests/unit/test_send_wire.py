"""The bytes of commands and P-DATA against pynetdicom's own reading and writing of them."""

from contextlib import suppress
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import SecondaryCaptureImageStorage
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import P_DATA_TF

from dicom_node.core.errors import DeliveryRefused
from dicom_node.dimse.command_set import (
    IS_COMMAND,
    Element,
    Field,
    command_pdu,
    command_set,
    data_pdus,
    fragments,
    read_command,
)
from dicom_node.dimse.storage_scu import file_pdus, store_command


@given(data=st.binary(min_size=1, max_size=5000), max_pdu_bytes=st.integers(200, 4000))
def test_another_implementation_reads_back_the_object_that_was_sent(data, max_pdu_bytes):
    pdus = [command_pdu(3, store_command(SecondaryCaptureImageStorage, "1.2.3", 7))]
    from_file = [bytes(pdu) for pdu in file_pdus(3, BytesIO(data), len(data), max_pdu_bytes)]
    assert list(data_pdus(3, data, max_pdu_bytes)) == from_file
    pdus += from_file
    message = C_STORE_RQ()
    is_whole = False
    for encoded in pdus:
        assert not is_whole
        pdu = P_DATA_TF()
        pdu.decode(encoded)
        assert pdu.pdu_length <= max_pdu_bytes
        is_whole = message.decode_msg(pdu.to_primitive())
    assert is_whole
    received = message.message_to_primitive()
    assert received.AffectedSOPClassUID == SecondaryCaptureImageStorage
    assert received.AffectedSOPInstanceUID == "1.2.3"
    assert received.MessageID == 7
    assert received.DataSet.getvalue() == data


@given(status=st.integers(0, 0xFFFF))
def test_the_status_of_another_implementations_response_is_read(status):
    answer = C_STORE()
    answer.MessageIDBeingRespondedTo = 7
    answer.AffectedSOPClassUID = SecondaryCaptureImageStorage
    answer.AffectedSOPInstanceUID = "1.2.3"
    answer.Status = status
    message = C_STORE_RSP()
    message.primitive_to_message(answer)
    command = b""
    for primitive in message.encode_msg(1, 16384):
        pdu = P_DATA_TF()
        pdu.from_primitive(primitive)
        for context_id, control, fragment in fragments(pdu.encode()[6:]):
            assert context_id == 1
            assert control & IS_COMMAND
            command += fragment
    read = read_command(command)
    assert read.number(Element.COMMAND_FIELD) == Field.C_STORE_RSP
    assert read.number(Element.MESSAGE_ID_RESPONDED_TO) == 7
    assert read.number(Element.STATUS) == status
    assert read.text(Element.AFFECTED_SOP_INSTANCE_UID) == "1.2.3"


@given(garbage=st.binary(max_size=200))
def test_garbage_is_read_or_refused_but_never_breaks_the_reader(garbage):
    with suppress(ValueError):
        assert sum(len(value) for value in read_command(garbage).elements.values()) <= len(garbage)
    with suppress(ValueError):
        assert sum(len(fragment) for _, _, fragment in fragments(garbage)) <= len(garbage)


@given(st.dictionaries(st.sampled_from(Element), st.integers(0, 0xFFFF), min_size=1))
def test_a_command_set_is_read_back_as_it_was_written(numbers):
    numbers.pop(Element.DATA_SET_TYPE, None)
    command = read_command(command_set(numbers, has_data_set=False))
    assert {element: command.number(element) for element in numbers} == numbers
    assert not command.has_data_set


def test_a_file_that_shrinks_while_it_is_sent_is_refused():
    with pytest.raises(DeliveryRefused, match="shorter"):
        list(file_pdus(1, BytesIO(b"1234"), 10, 16384))
