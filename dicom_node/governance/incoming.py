"""What somebody brings becomes a model folder: a checkpoint, a MONAI Bundle or an application package, and a card.

A folder with a card is a model already. Everything else gets its card here: one of the node's own
(`inference.ready.shelf`) or one that is brought along, with the digest of the weights filled in. Nothing of it is run;
a checkpoint that must be read to be converted is read in a confined process with limits.
"""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dicom_node.core.errors import ModelUnavailable, SettingsError, WorkerDied
from dicom_node.governance.map_folder import FoundBundle, find_bundle
from dicom_node.inference.cards.card import CARD_NAME, ModelCard, load_card
from dicom_node.inference.cards.digest import folder_files, sha256_of
from dicom_node.inference.ready.shelf import name_for_bundle, ready_cards, set_of
from dicom_node.inference.ready.torchxrayvision_sets import OPERATING_POINTS_OF
from dicom_node.sandbox.confinement import Confinement
from dicom_node.sandbox.host import ProcessLimits, Sandbox

_LIMITS = ProcessLimits(time_s=300.0, address_space_mb=8192)
_CONVERTED = "converted.safetensors"
#: Where bundles keep weights; of them only the file that the card names is taken.
_WEIGHTS_FOLDER = "models"


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What is to become a model: a checkpoint or a folder, the name or the file of a card ("" where it has one, or one
    is to be found), and weights that lie elsewhere."""

    source: Path
    card: str = ""
    weights: Path | None = None


@dataclass(frozen=True, slots=True)
class Incoming:
    """A model folder, and what was done to make it one, in sentences for people."""

    folder: Path
    told: tuple[str, ...] = ()


def model_folder(brought: Brought, made: Path) -> Incoming:
    """Return the model folder of what was brought; one that is made lies in `made`.

    Raises `SettingsError` or `ModelUnavailable` when there is no bundle, no card for it, no weights, or weights that
    cannot be what the card says.
    """
    if not brought.source.exists():
        raise SettingsError(f"There is no {brought.source}. Give a model folder, a bundle, a package or a checkpoint.")
    if brought.source.is_file():
        return _of_checkpoint(brought, made)
    if (brought.source / CARD_NAME).is_file() and not brought.card and brought.weights is None:
        return Incoming(brought.source)
    return _of_bundle(brought, made)


# --- a checkpoint ----------------------------------------------------------------------------------------------------


def _of_checkpoint(brought: Brought, made: Path) -> Incoming:
    if brought.weights is not None:
        raise SettingsError(f"{brought.source} is a file of weights itself: leave --weights out, or name a folder.")
    card = _card_text(brought.card) if brought.card else ""
    if not card:
        raise SettingsError(f"{brought.source} is a file, and nothing says of which model. {_which()}")
    about = tomllib.loads(card)
    if about.get("bundle"):
        raise SettingsError(
            f"Card {brought.card} is for the MONAI Bundle {about['bundle']!r}, whose configuration it needs too: name "
            f"the bundle's folder, with --weights {brought.source}."
        )
    folder = _new_folder(card, made)
    told = _take_weights(brought.source, folder)
    return Incoming(folder, (*told, _filled_in(folder)))


def _take_weights(source: Path, folder: Path) -> Sequence[str]:
    """Put weights where the card wants them, converted where its runtime has a format of its own."""
    card = load_card(folder)
    if card.weights_file is None:
        raise SettingsError(f"{folder / CARD_NAME} has no [weights] file, so {source} has no place in it.")
    card.weights_file.parent.mkdir(parents=True, exist_ok=True)
    if card.runtime != "torchxrayvision":
        shutil.copyfile(source, card.weights_file)
        return (f"Weights: {source} as {card.weights_file.relative_to(card.folder)}.",)
    _convert(source, card, folder.parent)
    return (f"Weights: every tensor of {source} has its place in the network, under the names it has here.",)


def _convert(source: Path, card: ModelCard, made: Path) -> None:
    set_name = set_of(card.name)
    if set_name not in OPERATING_POINTS_OF:
        raise SettingsError(f"Card {card.name} names no published set of weights. {_which()}")
    confinement = Confinement(made / "conversion", (source.resolve(),))
    target = "dicom_node.governance.incoming:converted"
    request = (source.resolve(), confinement.out / _CONVERTED, set_name)
    with Sandbox(target, answer=str, limits=_LIMITS, confinement=confinement) as sandbox:
        try:
            sandbox.run(request)
        except WorkerDied as error:
            raise ModelUnavailable(f"Reading {source} ended the process that read it. {error}") from error
    assert card.weights_file is not None
    shutil.copyfile(confinement.out / _CONVERTED, card.weights_file, follow_symlinks=False)


def converted(question: tuple[Path, Path, str]) -> str:
    """Convert a checkpoint of TorchXRayVision; runs in the confined process."""
    from dicom_node.inference.ready.torchxrayvision import convert  # noqa: PLC0415 - torch, in the worker process only

    convert(*question)
    return ""


# --- a bundle --------------------------------------------------------------------------------------------------------


def _of_bundle(brought: Brought, made: Path) -> Incoming:
    found = find_bundle(brought.source) if not (brought.source / CARD_NAME).is_file() else _with_card(brought.source)
    list(folder_files(found.folder))  # raises for links that lead out of it
    text, told = _card_of(found, brought)
    folder = _new_folder(text, made)
    name = _weights_name(folder)
    left = [*found.left_out, *_copy(found.folder, folder, but_weights=name)]
    told = [*told, *([f"Left out: {', '.join(left)}."] if left else [])]
    if brought.weights is not None:
        told += _take_weights(brought.weights, folder)
    elif name and not (folder / name).is_file():
        raise SettingsError(
            f"{found.folder} lacks its weights, {name}. Give them by --weights FILE; a bundle of the Model Zoo says in "
            "its large_files.yml where they are."
        )
    return Incoming(folder, (*told, _filled_in(folder)))


def _with_card(folder: Path) -> FoundBundle:
    card = load_card(folder)
    return FoundBundle(folder, card.bundle, card.version)


def _card_of(found: FoundBundle, brought: Brought) -> tuple[str, list[str]]:
    """Return the text of the card for a bundle, and where it comes from."""
    own = found.folder / CARD_NAME
    if own.is_file() and not brought.card:
        return own.read_text(encoding="utf-8"), [f"Taken: {found.folder}, with its own card."]
    name = brought.card or name_for_bundle(found.name)
    if not name:
        raise SettingsError(f"No card comes with the node for the bundle {found.name or found.folder!r}. {_which()}")
    text = _card_text(name)
    written_for = str(tomllib.loads(text).get("version", ""))
    told = [f"Taken: {found.folder}, bundle {found.name!r} {found.version}, with the card {name}."]
    if found.version and found.version != written_for:
        told.append(
            f"The card was written for version {written_for} of it: look whether it still fits. It says "
            f"{found.version} now."
        )
        text = _replaced(text, "version", found.version)
    return text, told


def _copy(source: Path, folder: Path, *, but_weights: str) -> list[str]:
    """Copy a bundle beside its new card, of its files of weights only the one that the card names; return what was left
    out."""
    left: list[str] = []
    for name, path in folder_files(source):
        parts = PurePosixPath(name).parts
        if name == CARD_NAME:
            continue
        if any(part.startswith(".") for part in parts) or (parts[0] == _WEIGHTS_FOLDER and name != but_weights):
            left.append(name)
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return left


# --- the card --------------------------------------------------------------------------------------------------------


def _card_text(name: str) -> str:
    """Return a card by the name under which it comes with the node, or by its file. Raises `SettingsError`."""
    if name in ready_cards():
        return ready_cards()[name]
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"There is no card {name}. {_which()}") from error


def _which() -> str:
    known = ", ".join(ready_cards())
    return f"Name its card by --card: a file of yours (docs/reference/model-card.md), or one of {known}."


def _new_folder(text: str, made: Path) -> Path:
    """Make a folder with this card. Raises `SettingsError` for a card that cannot be read."""
    folder = made / "model"
    folder.mkdir()
    (folder / CARD_NAME).write_text(text, encoding="utf-8")
    load_card(folder)
    return folder


def _weights_name(folder: Path) -> str:
    weights = load_card(folder).weights_file
    return weights.relative_to(folder.resolve()).as_posix() if weights is not None else ""


def _filled_in(folder: Path) -> str:
    """Write the digest of the weights into the card where it names none; say under which terms they may be used."""
    card = load_card(folder)
    if card.weights_file is not None and not card.weights_sha256:
        path = folder / CARD_NAME
        path.write_text(_replaced(path.read_text(encoding="utf-8"), "sha256", sha256_of(card.weights_file)), "utf-8")
    return licence_told(card)


def licence_told(card: ModelCard) -> str:
    """Say under which terms a model's weights may be used."""
    return f"Licence: {card.licence}." if card.licence else "Licence: the card does not tell it (licence)."


def _replaced(text: str, key: str, value: str) -> str:
    """Give a key of a card, alone in its line, another value."""
    line = f"{key} = {json.dumps(value)}"
    return re.sub(rf'(?m)^{key} = "[^"]*"', lambda _: line, text, count=1)
