"""Mutations of recorded DICOM connections: blind ones, and ones that keep the lengths right and so get deeper."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

from tests.peers import raw

_EDGES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF)
_WIDE_EDGES = (*_EDGES, 0x10000, 0x20000, 0x100000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFE, 0xFFFFFFFF)
_SHORTEST, _LONGEST_RUN = 6, 64

Pdus = list[bytes]


def split(stream: bytes) -> Pdus:
    """Return the PDUs of what a client said; what is cut off at the end is a PDU, too."""
    pdus, position = [], 0
    while position < len(stream):
        length = struct.unpack_from(">L", stream, position + 2)[0] if position + 6 <= len(stream) else 0
        end = position + 6 + length
        pdus.append(bytes(stream[position:end]))
        position = end
    return pdus


def mutant(seeds: Sequence[Pdus], chance: random.Random) -> bytes:
    """Return one connection's worth of bytes: a seed after one to four mutations."""
    pdus = list(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 4))):
        mutate = chance.choices(_MUTATIONS, _WEIGHTS)[0]
        pdus = mutate(pdus, seeds, chance) or pdus
    return b"".join(pdus)


# --- whole PDUs ------------------------------------------------------------------------------------------------------


def _drop(pdus: Pdus, _: Sequence[Pdus], chance: random.Random) -> Pdus:
    gone = chance.randrange(len(pdus))
    return pdus[:gone] + pdus[gone + 1 :]


def _repeat(pdus: Pdus, _: Sequence[Pdus], chance: random.Random) -> Pdus:
    place = chance.randrange(len(pdus))
    return pdus[:place] + [pdus[place]] * chance.choice((2, 2, 3, 20)) + pdus[place + 1 :]


def _swap(pdus: Pdus, _: Sequence[Pdus], chance: random.Random) -> Pdus:
    one, other = chance.randrange(len(pdus)), chance.randrange(len(pdus))
    swapped = list(pdus)
    swapped[one], swapped[other] = pdus[other], pdus[one]
    return swapped


def _splice(pdus: Pdus, seeds: Sequence[Pdus], chance: random.Random) -> Pdus:
    other = chance.choice(seeds)
    return pdus[: chance.randint(1, len(pdus))] + other[chance.randrange(len(other)) :]


def _retype(pdus: Pdus, _: Sequence[Pdus], chance: random.Random) -> Pdus:
    place = chance.randrange(len(pdus))
    return [*pdus[:place], bytes([chance.randrange(10)]) + pdus[place][1:], *pdus[place + 1 :]]


def _truncate(pdus: Pdus, _: Sequence[Pdus], chance: random.Random) -> Pdus:
    stream = b"".join(pdus)
    return [stream[: chance.randint(1, max(len(stream) - 1, 1))]]


# --- bytes, whatever they mean ---------------------------------------------------------------------------------------


def _blind(pdus: Pdus, _: Sequence[Pdus], chance: random.Random) -> Pdus:
    place = chance.randrange(len(pdus))
    return [*pdus[:place], _damaged(pdus[place], chance), *pdus[place + 1 :]]


def _lie_about_length(pdus: Pdus, _: Sequence[Pdus], chance: random.Random) -> Pdus:
    place = chance.randrange(len(pdus))
    length = struct.pack(">L", chance.choice(_WIDE_EDGES))
    return [*pdus[:place], pdus[place][:2] + length + pdus[place][6:], *pdus[place + 1 :]]


# --- below right lengths ---------------------------------------------------------------------------------------------


def _in_request(pdus: Pdus, _: Sequence[Pdus], chance: random.Random) -> Pdus | None:
    """Damage the A-ASSOCIATE-RQ below its own length."""
    if pdus[0][:1] != bytes([raw.ASSOCIATE_RQ]) or len(pdus[0]) <= _SHORTEST:
        return None
    return [raw.pdu(raw.ASSOCIATE_RQ, _damaged(pdus[0][6:], chance)), *pdus[1:]]


def _in_command(pdus: Pdus, _: Sequence[Pdus], chance: random.Random) -> Pdus | None:
    """Damage a command set below the lengths of fragment and PDU."""
    return _in_fragment(pdus, chance, lambda control: bool(control & raw.COMMAND))


def _in_data_set(pdus: Pdus, _: Sequence[Pdus], chance: random.Random) -> Pdus | None:
    """Damage a piece of a data set below the lengths of fragment and PDU."""
    return _in_fragment(pdus, chance, lambda control: not control & raw.COMMAND)


def _in_control(pdus: Pdus, _: Sequence[Pdus], chance: random.Random) -> Pdus | None:
    """Change presentation context or control header of a fragment."""
    place = _a_fragment(pdus, chance, lambda _: True)
    if place is None:
        return None
    body = bytearray(pdus[place][6:])
    body[chance.choice((4, 5))] = chance.choice((*range(8), 0x80, 0xFF))
    return [*pdus[:place], raw.pdu(raw.P_DATA, bytes(body)), *pdus[place + 1 :]]


def _refragment(pdus: Pdus, _: Sequence[Pdus], chance: random.Random) -> Pdus | None:
    """Break a PDU of one fragment into several of one or more bytes, now and then of none."""
    place = _a_fragment(pdus, chance, lambda _: True)
    if place is None:
        return None
    context, control, body = pdus[place][10], pdus[place][11], pdus[place][12:]
    cuts = sorted(chance.randint(0, len(body)) for _ in range(chance.randint(1, 6)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    controls = [control & ~raw.LAST] * (len(pieces) - 1) + [control]
    fragments = [raw.fragment(context, c, piece) for c, piece in zip(controls, pieces, strict=True)]
    made = [raw.pdu(raw.P_DATA, b"".join(fragments))]
    if chance.random() < 0.5:
        made = [raw.pdu(raw.P_DATA, fragment) for fragment in fragments]
    return [*pdus[:place], *made, *pdus[place + 1 :]]


def _in_fragment(pdus: Pdus, chance: random.Random, wanted: Callable[[int], bool]) -> Pdus | None:
    place = _a_fragment(pdus, chance, wanted)
    if place is None:
        return None
    damaged = _damaged(pdus[place][12:], chance)
    return [*pdus[:place], raw.p_data(pdus[place][10], pdus[place][11], damaged), *pdus[place + 1 :]]


def _a_fragment(pdus: Pdus, chance: random.Random, wanted: Callable[[int], bool]) -> int | None:
    """Choose a P-DATA-TF that holds one whole fragment."""
    places = [
        n
        for n, pdu in enumerate(pdus)
        if len(pdu) > 12 and pdu[0] == raw.P_DATA and len(pdu) == 10 + int.from_bytes(pdu[6:10]) and wanted(pdu[11])
    ]
    return chance.choice(places) if places else None


def _damaged(data: bytes, chance: random.Random) -> bytes:
    """Flip, overwrite, cut, double or insert bytes somewhere in `data`."""
    if not data:
        return chance.randbytes(4)
    made, place = bytearray(data), chance.randrange(len(data))
    run = chance.randint(1, _LONGEST_RUN)
    match chance.randrange(8):
        case 0:
            made[place] ^= 1 << chance.randrange(8)
        case 1:
            made[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, *b"\\^=/.\r\n"))
        case 2:
            made[place : place + 2] = chance.choice(_EDGES).to_bytes(2, chance.choice(("big", "little")))
        case 3:
            made[place : place + 4] = chance.choice(_WIDE_EDGES).to_bytes(4, chance.choice(("big", "little")))
        case 4:
            made[place : place + run] = chance.randbytes(run)
        case 5:
            del made[place : place + run]
        case 6:
            made[place:place] = made[place : place + run] * chance.choice((1, 2, 50))
        case _:
            made[place:place] = chance.randbytes(run)
    return bytes(made)


_Mutation = Callable[[Pdus, Sequence[Pdus], random.Random], Pdus | None]
_WEIGHTED: dict[_Mutation, int] = {
    _drop: 1,
    _repeat: 2,
    _swap: 1,
    _splice: 2,
    _retype: 1,
    _truncate: 2,
    _blind: 4,
    _lie_about_length: 2,
    _in_request: 6,
    _in_command: 4,
    _in_data_set: 6,
    _in_control: 2,
    _refragment: 2,
}
_MUTATIONS, _WEIGHTS = list(_WEIGHTED), list(_WEIGHTED.values())
