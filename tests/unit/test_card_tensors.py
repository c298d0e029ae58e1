"""`[preprocessing]`, `[output]` and `[server]` of a card: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.core.errors import SettingsError
from dicom_node.inference.cards.card import ModelCard, load_card
from dicom_node.inference.cards.tensors import OutputSpec, Preprocessing, ServerSpec
from tests.support.models.model_folders import write_card


def card(folder: Path, more: str, task: str = "classification") -> ModelCard:
    return load_card(write_card(folder / "model", "onnx", task=task, more=more))


def test_every_key_of_preprocessing_is_read(tmp_path: Path) -> None:
    table = """
[preprocessing]
name = "image"
size = [96, 128, 160]
channels = 2
batch = 3
fit = "pad"
window = [-100, 300.5]
range = [-1, 1]
mean = [0.1, 0.2]
std = [0.5]
spacing_mm = [2, 1.5, 1]
orientation = "spl"
"""
    assert card(tmp_path, table, "segmentation").preprocessing == Preprocessing(
        name="image",
        dimensions=3,
        size=(96, 128, 160),
        channels=2,
        batch=3,
        fit="pad",
        window=(-100.0, 300.5),
        range=(-1.0, 1.0),
        mean=(0.1, 0.2),
        std=(0.5,),
        spacing_mm=(2.0, 1.5, 1.0),
        orientation="SPL",
    )


def test_a_card_without_these_tables_has_none(tmp_path: Path) -> None:
    found = card(tmp_path, "")

    assert (found.preprocessing, found.output, found.server) == (None, OutputSpec(), None)


def test_an_empty_table_takes_images_as_they_are(tmp_path: Path) -> None:
    assert card(tmp_path, "[preprocessing]\n").preprocessing == Preprocessing()


def test_every_key_of_a_server_is_read(tmp_path: Path) -> None:
    table = """
[server]
url = "https://server.example:8443/base/"
model = "chest"
model_version = "7"
token_file = "/run/token"
ca_file = "/etc/ca.pem"
timeout_s = 2.5
binary = false
attributes = ["PatientSex"]
"""
    assert card(tmp_path, table).server == ServerSpec(
        url="https://server.example:8443/base",
        model="chest",
        model_version="7",
        token_file="/run/token",
        ca_file="/etc/ca.pem",
        timeout_s=2.5,
        binary=False,
        attributes=("PatientSex",),
    )


@pytest.mark.parametrize(
    ("task", "lines", "told"),
    [
        ("classification", "size = [224]", "preprocessing.size must hold 2 numbers"),
        ("classification", "size = [0, 224]", "preprocessing.size must hold positive numbers"),
        ("classification", "size = 224", "preprocessing.size must be a list of numbers"),
        ("classification", "channels = 4", "preprocessing.channels must be 1 or 3"),
        ("classification", "batch = 1.5", "preprocessing.batch must be a whole number"),
        ("classification", 'fit = "squeeze"', "preprocessing.fit is 'squeeze'; known are stretch, pad, crop"),
        ("classification", 'fit = "pad"', "preprocessing.fit is 'pad', which needs size"),
        ("classification", "window = [5, 5]", "preprocessing.window must be two numbers, the lower first"),
        ("classification", "window = [0, 1]\npercentiles = [2, 98]", "percentiles and window exclude each other"),
        ("classification", "percentiles = [2, 120]", "percentiles must lie between 0 and 100"),
        (
            "classification",
            "channels = 3\nmean = [0.5, 0.5]",
            "preprocessing.mean must hold one number, or",
        ),
        ("classification", "std = [0]", "preprocessing.std must hold positive numbers"),
        ("classification", 'orientation = "SPL"', "preprocessing.orientation must be three letters"),
        ("segmentation", 'orientation = "SIL"', "preprocessing.orientation must be three letters"),
        ("segmentation", "spacing_mm = [1, 1, 1]", "preprocessing.orientation must say which axis"),
        (
            "segmentation",
            'orientation = "SPL"\nspacing_mm = [1, 1, 1]\nsize = [64, 64, 64]',
            "preprocessing.fit is 'stretch', which undoes spacing_mm",
        ),
    ],
)
def test_preprocessing_that_means_nothing_is_refused(task: str, lines: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=told):
        card(tmp_path, f"[preprocessing]\n{lines}\n", task)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('[output]\nactivation = "relu"', "output.activation is 'relu'; known are none, softmax, sigmoid"),
        ('[server]\nmodel = "chest"', "server.url must be a text"),
        ('[server]\nurl = "https://server.example"', "server.model must be a text"),
        ('[server]\nurl = "https://server.example"\nmodel = "m"\ntimeout_s = 0', "server.timeout_s must be above 0"),
    ],
)
def test_an_output_or_server_that_cannot_be_is_refused(table: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=told):
        card(tmp_path, table + "\n")
