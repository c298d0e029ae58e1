"""What no DICOM sender says: on an open association, and as the first words of a connection."""

from __future__ import annotations

import random

from tests.peers import raw
from tests.peers.raw import COMMAND, ECHO_CONTEXT, LAST, STORE_CONTEXT
from tests.support.studies.small_images import IMPLICIT_LITTLE


def garbage() -> bytes:
    return random.Random(1).randbytes(300)


MALFORMED: dict[str, bytes] = {
    "a command set of random bytes": raw.p_data(STORE_CONTEXT, COMMAND | LAST, garbage()),
    "an empty command set": raw.p_data(STORE_CONTEXT, COMMAND | LAST, b""),
    "a command that ends inside an element": raw.p_data(ECHO_CONTEXT, COMMAND | LAST, raw.c_echo_rq()[:-3]),
    "an unknown command": raw.p_data(
        ECHO_CONTEXT, COMMAND | LAST, raw.command_set({0x100: raw.us(0x7777), 0x110: raw.us(1), 0x800: raw.us(0x101)})
    ),
    "a response nobody asked for": raw.p_data(
        ECHO_CONTEXT, COMMAND | LAST, raw.command_set({0x100: raw.us(0x8030), 0x120: raw.us(1), 0x800: raw.us(0x101)})
    ),
    "a query": raw.p_data(
        STORE_CONTEXT, COMMAND | LAST, raw.command_set({0x100: raw.us(0x20), 0x110: raw.us(1), 0x800: raw.us(1)})
    ),
    "a context that was never proposed": raw.p_data(99, COMMAND | LAST, raw.c_echo_rq()),
    "a command field of four bytes": raw.p_data(
        ECHO_CONTEXT, COMMAND | LAST, raw.command_set({0x100: b"\x30\0\0\0", 0x110: raw.us(1), 0x800: raw.us(0x101)})
    ),
    "a data set before its command": raw.p_data(STORE_CONTEXT, LAST, bytes(100)),
    "an echo in the context of storage": raw.p_data(STORE_CONTEXT, COMMAND | LAST, raw.c_echo_rq()),
    "an echo with a data set": raw.p_data(
        ECHO_CONTEXT,
        COMMAND | LAST,
        raw.command_set({2: raw.ui(raw.VERIFICATION), 0x100: raw.us(0x30), 0x110: raw.us(1), 0x800: raw.us(1)}),
    ),
    "a second A-ASSOCIATE-RQ": raw.associate_rq(),
    "an A-ASSOCIATE-AC": raw.pdu(raw.ASSOCIATE_AC, raw.associate_rq()[6:]),
    "a PDU of an unknown type": raw.pdu(0x7F, bytes(20)),
    "a release request of the wrong length": raw.pdu(raw.RELEASE_RQ, bytes(20)),
    "an empty P-DATA": raw.pdu(raw.P_DATA, b""),
}


FIRST_WORDS: dict[str, bytes] = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "random bytes": garbage(),
    "a P-DATA": raw.p_data(1, COMMAND | LAST, raw.c_echo_rq()),
    "a release request": raw.pdu(raw.RELEASE_RQ, bytes(4)),
    "a request of zeros": raw.pdu(raw.ASSOCIATE_RQ, bytes(300)),
    "a request without presentation contexts": raw.associate_rq({}),
    "a request whose item is longer than itself": raw.associate_rq()[:74] + b"\x10\0\xff\xff" + bytes(60),
    "a request with an empty abstract syntax": raw.associate_rq({1: ("", (IMPLICIT_LITTLE,))}),
    "a request without transfer syntaxes": raw.associate_rq({1: (raw.VERIFICATION, ())}),
    "a request with the same context twice": raw.pdu(
        raw.ASSOCIATE_RQ,
        raw.associate_rq()[6:]
        + raw.item(0x20, b"\1\0\0\0" + raw.item(0x30, b"1.2") + raw.item(0x40, IMPLICIT_LITTLE.encode())),
    ),
    "a request of 200 contexts": raw.associate_rq(dict.fromkeys(range(1, 201), (raw.VERIFICATION, (IMPLICIT_LITTLE,)))),
    "titles that are no text": raw.associate_rq(calling=bytes(range(128, 144)), called=b"\xff" * 16),
    "a role selection of nothing": raw.associate_rq(user_items=raw.item(0x54, b"\xff\xff")),
}
