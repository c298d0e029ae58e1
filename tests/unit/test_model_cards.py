"""Model cards: read, refused with file and key, identified by everything that decides the answer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.core.errors import ModelUnavailable, SettingsError
from dicom_node.inference.cards.card import SHIPPED_MODELS, load_card
from dicom_node.inference.cards.folders import find_models
from tests.support.models.model_folders import write_card
from tests.support.needs import REPOSITORY

CARD = """\
name = "toy"
version = "1.0"
manufacturer = "tests"
runtime = "monai-bundle"
task = "classification"
intended_use = "tests"
limits = "none"
calibrated = true
rank = ["-instances"]
[[accepts]]
modality = ["CR", "DX"]
[gate]
min_slices = 3
age_years = { min = 1, max = 5 }
[weights]
file = "models/model.safetensors"
sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
[parameters]
threshold = 0.5
temperature = 1.5
[[finding]]
key = "pneumonia"
label = "Pneumonia"
output_index = 1
code = { value = "233604007", scheme = "SCT", meaning = "Pneumonia" }
site = { value = "39607008", scheme = "SCT", meaning = "Lung" }
"""


_SECOND_FINDING = """\
[[finding]]
key = "pneumonia"
label = "Pneumonia"
code = { value = "233604007", scheme = "SCT", meaning = "Pneumonia" }
site = { value = "39607008", scheme = "SCT", meaning = "Lung" }
[[finding]]"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "toy"
    (made / "models").mkdir(parents=True)
    (made / "configs").mkdir()
    (made / "configs" / "inference.json").write_text("{}")
    (made / "models" / "model.safetensors").write_bytes(b"abc")
    (made / "model_card.toml").write_text(CARD)
    return made


def test_a_card_tells_what_the_node_must_know(folder: Path) -> None:
    card = load_card(folder)

    assert card.accepted_modalities == {"CR", "DX"}
    assert (card.gate.min_slices, card.gate.min_age_years, card.gate.max_age_years) == (3, 1, 5)
    assert [finding.code.value for finding in card.findings] == ["233604007"]
    assert card.identity({"threshold": 0.6}).parameters == ("temperature=1.5", "threshold=0.6")


def test_the_shipped_lung_density_model_is_found_with_its_identity() -> None:
    card = find_models()["ct-lung-density"]

    assert card.folder == SHIPPED_MODELS / "ct-lung-density"
    assert len(card.digest) == 64
    assert card.device_uid.startswith("2.25.")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('runtime = "monai-bundle"', 'runtime = "java"', "runtime is 'java'"),
        ('name = "toy"', "", "name must be a text"),
        ("calibrated = true", 'calibrated = "yes"', "calibrated must be true or false"),
        ("threshold = 0.5", 'threshold = "half"', r"parameters\.threshold must be a number"),
        ('scheme = "SCT", meaning = "Lung"', 'scheme = "SCT"', r"finding\[0\]\.site\.meaning"),
        ('meaning = "Lung"', f'meaning = "{"L" * 65}"', "longer than 64 characters"),
        ('file = "models/model.safetensors"', 'file = "../other"', "inside the model folder"),
        ("min_slices = 3", 'min_slices = "3"', r"gate\.min_slices must be a number"),
        ('modality = ["CR", "DX"]', 'modality = { like = "CR" }', r"accepts\[0\]"),
        ("[weights]", "[weights", "not valid TOML"),
        ('name = "toy"', f'name = "{"t" * 65}"', "name is longer than 64"),
        ("output_index = 1", "output_index = 1.5", r"finding\[0\]\.output_index must be a whole number"),
        ("min = 1, max = 5", "min = 5, max = 1", r"gate\.age_years\.min is 5, above max"),
        ("threshold = 0.5", "threshold = 0", r"parameters\.threshold must lie between 0 and 1, above 0"),
        ("threshold = 0.5", "threshold = 50", r"parameters\.threshold must lie between 0 and 1"),
        ("temperature = 1.5", "temperature = 0", r"parameters\.temperature must be above 0"),
        ("[[finding]]", _SECOND_FINDING, r"finding\[1\]\.key is 'pneumonia', as that of an earlier"),
        ('sha256 = "ba78', 'sha256 = "xyz', "64 lower-case hexadecimal"),
        ("min_slices = 3", "min_slice = 3", r"gate\.min_slice \(did you mean min_slices\?\) is not a key"),
        ('site = { value = "39607008"', 'side = { value = "39607008"', r"finding\.side \(did you mean site\?\)"),
    ],
)
def test_a_malformed_card_is_refused_with_file_and_key(folder: Path, old: str, new: str, told: str) -> None:
    assert old in CARD
    path = folder / "model_card.toml"
    path.write_text(CARD.replace(old, new))

    with pytest.raises(SettingsError, match=told) as refused:
        load_card(folder)

    assert str(path) in str(refused.value)


def test_weights_that_differ_from_the_card_are_refused(folder: Path) -> None:
    (folder / "models" / "model.safetensors").write_bytes(b"abd")

    with pytest.raises(ModelUnavailable, match="Restore the original file"):
        load_card(folder).identity({})


def test_missing_weights_and_a_missing_card_are_told(folder: Path) -> None:
    (folder / "models" / "model.safetensors").unlink()

    with pytest.raises(ModelUnavailable, match="are missing"):
        load_card(folder).identity({})
    with pytest.raises(ModelUnavailable, match="No model in"):
        load_card(folder / "nowhere")


def test_weights_without_a_sha256_are_not_used(folder: Path) -> None:
    (folder / "model_card.toml").write_text(CARD.replace(CARD.split('sha256 = "')[1].split('"', maxsplit=1)[0], ""))

    with pytest.raises(ModelUnavailable, match="names no sha256"):
        load_card(folder).identity({})


def test_any_change_of_the_folder_is_another_device(folder: Path) -> None:
    before = load_card(folder).identity({})
    (folder / "configs" / "inference.json").write_text('{"changed": 1}')
    after = load_card(folder).identity({})

    assert before.digest != after.digest
    assert before.device_uid != after.device_uid


def test_what_is_accepted_is_every_file_and_what_answers_is_what_decides(folder: Path) -> None:
    before = load_card(folder)
    accepted, answers = before.folder_digest, before.digest
    (folder / "README.md").write_text("words")
    (folder / "golden").mkdir()
    (folder / "golden" / "one.toml").write_text("")
    documented = load_card(folder)

    assert documented.folder_digest != accepted
    assert documented.digest == answers

    (folder / "scripts").mkdir()
    (folder / "scripts" / "transforms.py").write_text("x = 1")

    assert load_card(folder).digest != answers


def test_a_file_changed_in_place_with_its_old_time_is_noticed(folder: Path) -> None:
    config = folder / "configs" / "inference.json"
    before, times = load_card(folder).folder_digest, config.stat()
    config.write_text("[]")
    os.utime(config, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert load_card(folder).folder_digest != before


def test_compiled_python_and_links_to_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "scripts" / "__pycache__").mkdir(parents=True)
    with pytest.raises(ModelUnavailable, match="compiled Python"):
        _ = load_card(folder).folder_digest

    shutil.rmtree(folder / "scripts")
    (folder / "scripts").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(ModelUnavailable, match="link to another folder"):
        _ = load_card(folder).digest


def test_a_module_is_found_without_importing_what_is_above_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "installed" / "surprising"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "model.py").write_text("def analyse(run): ...")
    monkeypatch.syspath_prepend(str(package.parent))
    python = CARD.replace('runtime = "monai-bundle"', 'runtime = "python"\nentry_point = "surprising.model:analyse"')
    (folder / "model_card.toml").write_text(python)
    before = load_card(folder).folder_digest

    (package / "model.py").write_text("def analyse(run): return None")

    assert load_card(folder).folder_digest != before
    (folder / "model_card.toml").write_text(python.replace("surprising.model", "surprising.nothing"))
    with pytest.raises(ModelUnavailable, match=r"surprising\.nothing of a model card is not importable"):
        load_card(folder).identity({})


def test_a_model_that_changed_after_it_was_admitted_is_not_run(folder: Path) -> None:
    admitted = load_card(folder).digest
    load_card(folder).require(admitted)
    (folder / "configs" / "inference.json").write_text('{"changed": 1}')

    load_card(folder).require("")
    with pytest.raises(ModelUnavailable, match="changed after it was admitted"):
        load_card(folder).require(admitted)


def test_the_digest_of_an_unchanged_model_is_stable(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")

    assert load_card(folder).digest == load_card(tmp_path / "copy").digest


def test_parameters_change_the_configuration_digest_but_not_the_device(folder: Path) -> None:
    card = load_card(folder)

    assert card.config_digest({}) == card.config_digest({"threshold": 0.5})
    assert card.config_digest({}) != card.config_digest({"threshold": 0.6})
    assert card.identity({"threshold": 0.6}).device_uid == card.identity({}).device_uid


def test_an_unknown_parameter_is_refused_with_the_known_ones(folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"has no parameter treshold; it has temperature, threshold"):
        load_card(folder).effective_parameters({"treshold": 0.6})


def test_two_models_of_one_name_are_refused(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "again")

    with pytest.raises(SettingsError, match="Two models are named 'toy'"):
        find_models([folder.parent])


@pytest.mark.parametrize("module", ["inference.cards.card", "sandbox.host", "sandbox.child"])
def test_the_host_side_imports_neither_numpy_nor_torch(module: str) -> None:
    code = (
        f"import sys, dicom_node.{module}\n"
        "heavy = {'numpy', 'torch', 'monai', 'pydicom', 'scipy'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)\n"
    )

    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


STRUCTURE = '[[segment]]\nkey = "liver"\nlabel = "Liver"\ntype = "liver"\n'


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ("", r"value or values must say"),
        ("value = 1\nvalues = [1, 2]", r"value or values must say"),
        ("value = 0", r"segment\[0\]\.value must be the value"),
        ("value = 1.5", r"segment\[0\]\.value must be the value"),
        ("values = [1, 256]", r"segment\[0\]\.values must be the value"),
        ("values = [1]", r"two values or more, each once"),
        ("values = [1, 2, 1]", r"two values or more, each once"),
        ("value = 1\nmeasure = []", r"measure must be of volume, mean, diameter"),
        ('value = 1\nmeasure = ["volume", "volume"]', r"each once"),
        ('value = 1\nmeasure = ["mass"]', r"measure must be of"),
        ("value = 1\n[parameters]\nthreshold-liver = 2", r"threshold-liver must lie between 0 and 1"),
    ],
)
def test_what_a_structure_is_made_of_and_measured_by_is_checked(tmp_path: Path, keys: str, complaint: str) -> None:
    folder = write_card(tmp_path / "model", "torchscript", task="segmentation", more=STRUCTURE + keys + "\n")

    with pytest.raises(SettingsError, match=complaint):
        load_card(folder)


def test_structures_may_share_values_of_which_each_holds_several(tmp_path: Path) -> None:
    more = "".join(
        STRUCTURE.replace("liver", key, 1) + f"values = {values}\n" for key, values in (("a", [1, 2, 4]), ("b", [1, 4]))
    )

    card = load_card(write_card(tmp_path / "model", "torchscript", task="segmentation", more=more))

    assert [one.values for one in card.segments] == [(1, 2, 4), (1, 4)]
    assert [one.measure for one in card.segments] == [("volume",), ("volume",)]
