"""Files damaged at random: an answer or a coded refusal, never another exception."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dicom_node.analysis.answer import Analysis, NotAnalysed
from dicom_node.demo.phantoms import chest_ct_phantom
from dicom_node.inference.cards.card import SHIPPED_MODELS
from dicom_node.inference.runner import run_model
from tests.support.studies.data_factories import request_for

ROUNDS = 60

#: Damage may also make values that pydicom or numpy only warn about.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:dicom_node.inference"),
]


def test_damage_anywhere_is_answered_or_declined(tmp_path: Path) -> None:
    datasets, _ = chest_ct_phantom(slices=22, rows=32, slice_spacing_mm=10.0)
    request = request_for(datasets, SHIPPED_MODELS / "ct-lung-density", tmp_path)
    dice = random.Random(20260105)

    for _ in range(ROUNDS):
        path = dice.choice(request.files).path
        whole = path.read_bytes()
        path.write_bytes(_damaged(whole, dice))

        answer = run_model(request)

        assert isinstance(answer, Analysis | NotAnalysed)
        path.write_bytes(whole)


def _damaged(whole: bytes, dice: random.Random) -> bytes:
    header_end = len(whole) - 2048
    at = dice.randrange(132, header_end)
    return dice.choice(
        (
            whole[: dice.randrange(1, len(whole))],
            whole[:at] + dice.randbytes(4) + whole[at + 4 :],
            whole[:at] + dice.randbytes(3) + whole[at:],
            whole[:at] + b"\xff\xff\xff\xff" + whole[at + 4 :],
            whole[:at] + b"1\\2\\" + whole[at + 4 :],
        )
    )
