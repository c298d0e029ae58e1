"""What may run and why not, decided from files and decisions; codes with a slip; models that come in whole."""

from __future__ import annotations

import platform
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom_node.core.errors import ModelUnavailable, SettingsError
from dicom_node.governance.admission import Rule, Standing, environment, judge
from dicom_node.governance.golden import load_cases
from dicom_node.governance.store import add_model
from dicom_node.governance.verify import code_problems
from dicom_node.index.decided.model_decisions import Decision, DecisionKind
from dicom_node.inference.cards.card import SHIPPED_MODELS, load_card
from dicom_node.inference.cards.folders import survey_models
from tests.unit.test_model_cards import CARD

HERE = environment("cpu")

_GOLDEN = """\
name = "a phantom"
[study]
phantom = "chest-radiograph"
[study.arguments]
age = "003Y"
[expect]
state = "DONE"
[[expect.finding]]
key = "pneumonia"
presence = "ABSENT"
probability = { value = 0.1, tolerance = 0.05 }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder whose weights are not weights: nothing here loads them."""
    made = tmp_path / "toy"
    (made / "models").mkdir(parents=True)
    (made / "golden").mkdir()
    (made / "golden" / "one.toml").write_text(_GOLDEN)
    (made / "models" / "model.safetensors").write_bytes(b"abc")
    (made / "model_card.toml").write_text(CARD)
    return made


def decided(folder: Path, kind: DecisionKind, **changes: object) -> Decision:
    card = load_card(folder)
    digest = card.folder_digest if kind in (DecisionKind.ACCEPTED, DecisionKind.WITHDRAWN) else card.digest
    made = Decision(
        at=datetime.now(UTC), kind=kind, model=card.name, version=card.version, digest=digest, decided_by="tester",
        environment=HERE,
    )  # fmt: skip
    return replace(made, **changes)


def standing(folder: Path, *decisions: Decision, rule: str = "added") -> Standing:
    """Where the model stands after decisions given oldest first."""
    return judge(load_card(folder), decisions[::-1], Rule(rule, HERE)).standing


def test_a_model_is_accepted_then_activated_then_live(folder: Path) -> None:
    accepted, activated = decided(folder, DecisionKind.ACCEPTED), decided(folder, DecisionKind.ACTIVATED)

    assert standing(folder) is Standing.NOT_ACCEPTED
    assert standing(folder, activated) is Standing.NOT_ACCEPTED
    assert standing(folder, accepted) is Standing.NOT_ACTIVATED
    assert standing(folder, accepted, rule="none") is Standing.LIVE
    assert standing(folder, accepted, activated) is Standing.LIVE


def test_a_changed_file_takes_acceptance_away(folder: Path) -> None:
    decisions = decided(folder, DecisionKind.ACCEPTED), decided(folder, DecisionKind.ACTIVATED)
    (folder / "configs").mkdir()
    (folder / "configs" / "inference.json").write_text('{"imports": ["$import os"]}')

    assert standing(folder, *decisions) is Standing.ALTERED


def test_an_acceptance_can_be_withdrawn_and_given_again(folder: Path) -> None:
    accepted, withdrawn = decided(folder, DecisionKind.ACCEPTED), decided(folder, DecisionKind.WITHDRAWN)
    later = replace(accepted, at=accepted.at + timedelta(seconds=1))

    assert standing(folder, accepted, withdrawn, rule="none") is Standing.NOT_ACCEPTED
    assert standing(folder, accepted, withdrawn, later, rule="none") is Standing.LIVE


def test_golden_studies_count_only_on_the_machine_they_ran_on_and_the_last_run_counts(folder: Path) -> None:
    accepted, activated = decided(folder, DecisionKind.ACCEPTED), decided(folder, DecisionKind.ACTIVATED)
    elsewhere = replace(activated, environment="another processor")
    failed = decided(folder, DecisionKind.GOLDEN_FAILED)

    assert standing(folder, accepted, elsewhere) is Standing.NOT_ACTIVATED
    assert standing(folder, accepted, activated, failed) is Standing.NOT_ACTIVATED
    assert standing(folder, accepted, failed, activated) is Standing.LIVE


def test_shipped_models_are_accepted_and_live_unless_all_must_be_activated() -> None:
    shipped = SHIPPED_MODELS / "ct-lung-density"

    assert standing(shipped) is Standing.LIVE
    assert standing(shipped, rule="all") is Standing.NOT_ACTIVATED
    assert standing(shipped, decided(shipped, DecisionKind.ACTIVATED), rule="all") is Standing.LIVE
    assert standing(shipped, decided(shipped, DecisionKind.GOLDEN_FAILED)) is Standing.NOT_ACTIVATED
    assert standing(shipped, decided(shipped, DecisionKind.GOLDEN_FAILED), rule="none") is Standing.LIVE


def test_the_codes_of_the_shipped_models_are_right() -> None:
    for path in SHIPPED_MODELS.glob("*/model_card.toml"):
        assert list(code_problems(load_card(path.parent))) == []


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ('value = "233604070", scheme = "SCT"', "check digit"),
        ('value = "pneumonia", scheme = "SCT"', "check digit"),
        ('value = "24627-3", scheme = "LN"', "check digit"),
        ('value = "12111", scheme = "DCM"', "six digits"),
        ('value = "1", scheme = "OURS"', "receivers do not know"),
    ],
)
def test_a_slip_in_a_code_is_noticed(folder: Path, code: str, told: str) -> None:
    (folder / "model_card.toml").write_text(CARD.replace('value = "233604007", scheme = "SCT"', code))

    assert [told in problem for problem in code_problems(load_card(folder))] == [True]


def test_codes_with_a_check_digit_that_fits_and_private_ones_pass(folder: Path) -> None:
    for code in ('value = "24627-2", scheme = "LN"', 'value = "X1", scheme = "99SITE"'):
        (folder / "model_card.toml").write_text(CARD.replace('value = "233604007", scheme = "SCT"', code))
        assert list(code_problems(load_card(folder))) == []


def test_an_added_model_is_a_copy_that_later_changes_of_its_source_do_not_reach(folder: Path, tmp_path: Path) -> None:
    (folder / "scripts" / "__pycache__").mkdir(parents=True)
    (folder / "scripts" / "__pycache__" / "x.pyc").write_bytes(b"")
    models = tmp_path / "models"

    first = add_model(folder, models)
    (folder / "README.md").write_text("changed")

    assert first.folder.is_relative_to(models)
    assert not list(first.folder.rglob("__pycache__"))
    assert not (first.folder / "README.md").exists()
    assert survey_models([models]).cards["toy"].folder == first.folder


def test_a_new_version_takes_the_place_in_one_step_and_the_old_one_stays_whole(folder: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    first = add_model(folder, models)
    (folder / "model_card.toml").write_text(CARD.replace('version = "1.0"', 'version = "2.0"'))

    with pytest.raises(SettingsError, match="--replace"):
        add_model(folder, models)
    second = add_model(folder, models, replace=True)

    assert (models / "toy").resolve() == second.folder
    assert load_card(first.folder).version == "1.0"
    assert {card.version for card in survey_models([models]).cards.values() if card.name == "toy"} == {"2.0"}
    assert list((models / ".versions").glob(".new-*")) == []


def test_a_name_that_leads_elsewhere_is_not_added(folder: Path, tmp_path: Path) -> None:
    (folder / "model_card.toml").write_text(CARD.replace('name = "toy"', 'name = "../../toy"'))

    with pytest.raises(SettingsError, match="must be letters"):
        add_model(folder, tmp_path / "models")

    assert not (tmp_path / "models").exists()


def test_one_broken_folder_does_not_keep_the_other_models_from_being_used(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "model_card.toml").write_text("name = ")
    impostor = tmp_path / "impostor"
    shutil.copytree(folder, impostor)
    (impostor / "model_card.toml").write_text(CARD.replace('name = "toy"', 'name = "cxr-pneumonia"'))

    survey = survey_models([tmp_path])

    assert survey.cards["toy"].folder == folder
    assert survey.cards["cxr-pneumonia"].is_shipped
    assert set(survey.problems) == {broken, impostor}


def test_golden_studies_are_read_with_what_they_expect(folder: Path) -> None:
    (case,) = load_cases(load_card(folder))

    assert (case.phantom, case.state, case.findings[0].key) == ("chest-radiograph", "DONE", "pneumonia")
    assert case.findings[0].probability is not None
    assert case.findings[0].probability.holds(0.14)
    assert not case.findings[0].probability.holds(0.16)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('phantom = "chest-radiograph"', "", "study.phantom or folder"),
        ('phantom = "chest-radiograph"', 'folder = "../../elsewhere"', "inside the model folder"),
        ('phantom = "chest-radiograph"', 'folder = "nowhere"', "does not exist"),
        ('state = "DONE"', 'state = "QUEUED"', "expect.state is 'QUEUED'"),
        ('key = "pneumonia"', 'key = "fracture"', "the card does not name"),
        ('"ABSENT"', '"MAYBE"', "presence is 'MAYBE'"),
        ("tolerance = 0.05", "tolerance = -1", "not negative"),
    ],
)
def test_a_golden_study_that_cannot_be_asked_is_refused(folder: Path, old: str, new: str, told: str) -> None:
    (folder / "golden" / "one.toml").write_text(_GOLDEN.replace(old, new))

    with pytest.raises(SettingsError, match=told) as refused:
        load_cases(load_card(folder))

    assert "one.toml" in str(refused.value)


def test_a_folder_with_links_elsewhere_is_not_taken_as_it_stands(folder: Path, tmp_path: Path) -> None:
    (folder / "configs").symlink_to(tmp_path, target_is_directory=True)

    with pytest.raises(ModelUnavailable, match="link to another folder"):
        judge(load_card(folder), [], Rule("none", HERE))


def test_the_environment_names_what_computes_and_not_the_host() -> None:
    told = environment("auto")

    assert "numpy" in told
    assert "Python" in told
    assert platform.node() not in told
    assert told != environment("cpu")
