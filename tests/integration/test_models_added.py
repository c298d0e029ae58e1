"""`models add` of what is no model folder yet: a checkpoint, a bundle, an application package, and a card for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from dicom_node.__main__ import main
from dicom_node.core.errors import ModelUnavailable, SettingsError
from dicom_node.governance.incoming import Brought, model_folder
from dicom_node.inference.cards.card import load_card
from dicom_node.inference.ready.shelf import ready_cards
from tests.support.models.zoo_like import application_package, breast_density, density_weights


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(f'[node]\ndata_dir = "{tmp_path / "data"}"\n')
    return path


def made_of(tmp_path: Path, **brought: object) -> Path:
    made = tmp_path / "made"
    made.mkdir()
    return model_folder(Brought(**brought), made).folder  # type: ignore[arg-type]


def test_every_card_that_comes_with_the_node_can_be_read_and_names_a_licence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["models", "ready"]) == 0
    listed = capsys.readouterr().out
    for name in ready_cards():
        assert main(["models", "ready", name]) == 0
        assert "licence = " in capsys.readouterr().out
    assert "Lung nodule CT" in listed


def test_a_bundle_of_the_zoo_gets_its_card_and_the_weights_a_site_adds(tmp_path: Path) -> None:
    bundle, weights = breast_density(tmp_path / "zoo"), density_weights(tmp_path / "downloaded.pt")

    made = tmp_path / "made"
    made.mkdir()
    incoming = model_folder(Brought(source=bundle, weights=weights), made)

    card = load_card(incoming.folder)
    card.verify_weights()
    assert card.name == "breast-density-classification"
    assert [one.code.value for one in card.findings] == ["129716005", "129717001", "129718006", "129719003"]
    told = " ".join(incoming.told)
    assert "Left out: models/model.ts." in told
    assert "Licence: Apache-2.0" in told
    assert not (incoming.folder / "models" / "model.ts").exists()


def test_a_bundle_without_weights_is_not_added_and_says_where_they_go(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"lacks its weights, models/model\.pt.*--weights"):
        made_of(tmp_path, source=breast_density(tmp_path / "zoo"))


def test_another_version_of_a_bundle_is_told_and_is_the_models_version(tmp_path: Path) -> None:
    bundle, weights = breast_density(tmp_path / "zoo", version='9 "x"\n'), density_weights(tmp_path / "model.pt")
    made = tmp_path / "made"
    made.mkdir()

    incoming = model_folder(Brought(source=bundle, weights=weights), made)

    assert load_card(incoming.folder).version == '9 "x"\n'
    assert any("written for version 0.1.6" in line for line in incoming.told)


def test_a_bundle_without_a_card_names_those_there_are(tmp_path: Path) -> None:
    bundle = breast_density(tmp_path / "zoo", name="Something else")

    with pytest.raises(SettingsError, match=r"'?Something else.*--card.*lung-nodule-ct-detection"):
        made_of(tmp_path, source=bundle)


def test_a_package_gives_its_bundle_and_says_what_is_left_out(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = application_package(tmp_path / "package")

    status = main(["models", "add", str(package), "--config", str(config)])

    told = capsys.readouterr().out
    assert status == 0, told
    assert "Left out: etc/, opt/holoscan/app/, models/model.ts." in told
    folder = tmp_path / "data" / "models" / "breast-density-classification"
    assert not list(folder.rglob("app.*"))
    load_card(folder).verify_weights()


def test_a_package_with_two_bundles_names_both(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"2 bundles: .*models/density, .*models/density1"):
        made_of(tmp_path, source=application_package(tmp_path / "package", bundles=2))


def test_a_package_with_torchscript_alone_says_so(tmp_path: Path) -> None:
    models = tmp_path / "package" / "opt" / "holoscan" / "models" / "spleen"
    models.mkdir(parents=True)
    (models / "model.ts").write_bytes(b"PK")
    (tmp_path / "package" / "app.json").write_text("{}")

    with pytest.raises(SettingsError, match=r"application package \(app\.json\).*spleen/model\.ts.*torchscript"):
        made_of(tmp_path, source=tmp_path / "package")


def test_a_link_out_of_what_is_brought_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key")
    bundle = breast_density(tmp_path / "zoo")
    (bundle / "models" / "model.pt").symlink_to(tmp_path / "secret")

    with pytest.raises(ModelUnavailable, match="link out of the model's folder"):
        made_of(tmp_path, source=bundle)


class _Trap:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def test_weights_that_would_run_code_are_not_added(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trap, bundle = tmp_path / "touched", breast_density(tmp_path / "zoo")
    torch.save({"state_dict": _Trap(f"touch {trap}")}, tmp_path / "model.pt")

    status = main(["models", "add", str(bundle), "--weights", str(tmp_path / "model.pt"), "--config", str(config)])

    assert status == 1
    assert "could run" in capsys.readouterr().out
    assert not trap.exists()
    assert not (tmp_path / "data" / "models").exists()
