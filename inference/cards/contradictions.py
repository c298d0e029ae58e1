"""What a card says that cannot be, or that has no effect, as far as it shows before anything of the model runs.

Each would answer wrong without a word, or fail with the first patient. What shows only when the network runs is refused
there (`runtimes.tensors`, `runtimes.monai_bundle`), by `models try` and by activation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dicom_node.inference.cards.card import TASK_INPUTS, ModelCard
from dicom_node.inference.cards.outputs import THRESHOLD_OF
from dicom_node.inference.cards.tensors import Preprocessing
from dicom_node.inference.cards.written_bundle import WrittenBundle, read_written

#: The tasks whose answers are held against a threshold, and those whose logits are divided by a temperature.
_DECIDED = ("classification", "detection", "segmentation")
_TEMPERED = ("classification",)
_PICTURE_CHANNELS = (1, 3)
#: Runtimes whose card says which tensor goes in.
_PREPARED = ("torchscript", "torch-export", "onnx", "open-inference")


def contradictions(card: ModelCard) -> Iterator[str]:
    """Tell of each, and what to write into the card instead."""
    if card.task not in TASK_INPUTS:
        return  # a Python model, which reads its card itself
    if card.channels and card.input != "volume":
        yield "[[channel]] is for volumes, and the model is given images: remove it"
    yield from _without_outputs(card)
    yield from _without_pictures(card)
    yield from _without_mean(card)
    if card.runtime != "python":
        yield from _without_effect(card)
    if card.runtime == "monai-bundle":
        written = read_written(card.folder)
        yield from _other_inputs(card, written)
        yield from _bundle_without_effect(card, written)
        yield from _without_rival(written)
        yield from _by_lot(written)


def _without_pictures(card: ModelCard) -> Iterator[str]:
    channels = card.preprocessing.channels if card.preprocessing else 3
    if card.color == "rgb" and card.input == "volume":
        yield 'color = "rgb" is for images, and the model is given volumes: remove it'
    elif card.color == "rgb" and card.runtime in _PREPARED and channels != 3:
        yield 'color = "rgb" gives three channels: say [preprocessing] channels = 3'


def _without_mean(card: ModelCard) -> Iterator[str]:
    """Tell of an ensemble whose mean is of nothing, or of two different things."""
    if not card.ensemble:
        return
    if card.runtime != "monai-bundle" or card.task == "detection":
        yield "[ensemble] averages the network of a MONAI Bundle that classifies, measures or outlines: remove it"
    sided = [one.key for one in card.segments if one.side]
    if card.ensemble.mirrored_axes and sided:
        yield (
            f"[ensemble] mirrored_axes would average {sided[0]} with what lies on the other side: remove it, or "
            "let the network tell both sides as one"
        )
    if max(card.ensemble.mirrored_axes, default=0) > 1 and card.input == "image":
        yield "[ensemble] mirrored_axes of images are 0 and 1"


def _without_outputs(card: ModelCard) -> Iterator[str]:
    outlines = card.task == "segmentation"
    if not (card.segments if outlines else card.findings):
        yield (
            f"a {card.task} without [[{'segment' if outlines else 'finding'}]] says nothing: add one for each of its "
            "outputs that is to be reported"
        )


def _without_effect(card: ModelCard) -> Iterator[str]:
    thresholds = [name for name in card.parameters if name == "threshold" or name.startswith(THRESHOLD_OF)]
    for name in thresholds if card.task not in _DECIDED else ():
        yield f"[parameters] {name} has no effect on a {card.task}: remove it"
    if "temperature" in card.parameters and card.task not in _TEMPERED:
        yield f"[parameters] temperature has no effect on a {card.task}: remove it"
    if card.task in _DECIDED:
        yield from _of_nothing(card, thresholds)
    if not thresholds or card.task != "segmentation":
        return
    if card.output.channels == "exclusive" or (card.output.activation == "softmax" and not card.output.channels):
        yield (
            f"[parameters] {thresholds[0]} has no effect where the strongest class holds: remove it, or say [output] "
            'channels = "overlapping" if each channel is a structure of its own'
        )
    elif card.runtime != "monai-bundle" and not card.output.channels and card.output.activation == "none":
        yield (
            f"[parameters] {thresholds[0]} has no effect on numbers of classes: remove it, or say what the network "
            'gives, [output] activation = "sigmoid" for logits or channels = "overlapping" for probabilities'
        )


def _of_nothing(card: ModelCard, thresholds: Sequence[str]) -> Iterator[str]:
    """A threshold of its own must be that of one finding, or of one structure with one value."""
    known = [one.key for one in card.segments if len(one.values) == 1]
    if card.task != "segmentation":
        known = [one.key for one in card.findings]
    for name in thresholds:
        key = name.removeprefix(THRESHOLD_OF)
        if name != "threshold" and key not in known:
            able = ", ".join(known) or "none"
            yield f"[parameters] {name} is of nothing that can have a threshold of its own; those are {able}"


# --- bundles ---------------------------------------------------------------------------------------------------------


def _other_inputs(card: ModelCard, written: WrittenBundle) -> Iterator[str]:
    """A job gives a model one series: one image, or one volume of one channel."""
    keys, channels = written.image_keys, written.input_channels
    wanted = len(keys) if len(keys) > 1 else channels
    if card.channels:
        if wanted not in (None, len(card.channels)):
            yield f"the bundle reads {wanted} channels, and the card has {len(card.channels)} [[channel]]"
    elif len(keys) > 1:
        yield (
            f"the bundle reads {', '.join(keys)}, each from files of its own, and a model is given one series: say "
            "by [[channel]] which series of a study each is"
        )
    elif channels == 1 and card.color == "rgb":
        yield 'color = "rgb" gives three channels, and the metadata of the bundle say that its image has one: remove it'
    elif channels is not None and channels not in ((1,) if card.input == "volume" else _PICTURE_CHANNELS):
        yield (
            f"the bundle's metadata say that its image has {channels} channels, and a model is given one series: say "
            "by [[channel]] which series of a study each is (or correct num_channels of inputs.image in "
            "configs/metadata.json)"
        )


def _bundle_without_effect(card: ModelCard, written: WrittenBundle) -> Iterator[str]:
    if card.output.activation != "none" and card.task != "segmentation":
        yield "[output] activation has no effect on a bundle: its postprocessing does that (Activationsd). Remove it"
    if not _only_range(card.preprocessing):
        yield (
            "[preprocessing] of a bundle, which prepares its images itself, may hold only range, the values of black "
            "and white in the pictures that it was trained on: remove the rest"
        )
    elif card.preprocessing is not None and card.input == "volume":
        yield "[preprocessing] range has no effect on volumes, which have values of their own: remove it"
    if card.task == "segmentation":
        yield from _beside_own_decision(card, written)


def _beside_own_decision(card: ModelCard, written: WrittenBundle) -> Iterator[str]:
    """A bundle that decides by one threshold takes that of the card instead, and no other."""
    strongest = written.says("AsDiscrete", "argmax")
    decides = strongest or written.says("AsDiscrete", "threshold")
    for name in card.parameters:
        if (name == "threshold" and strongest) or (name.startswith(THRESHOLD_OF) and decides):
            yield (
                f"[parameters] {name} has no effect: the bundle's postprocessing decides itself (AsDiscrete). Remove it"
            )


def _by_lot(written: WrittenBundle) -> Iterator[str]:
    if written.random_steps:
        yield (
            f"{', '.join(written.random_steps)} of the bundle's inference draws by lot what it does, so that one study "
            "is answered otherwise each time. It belongs to training: remove it from preprocessing and postprocessing"
        )


def _only_range(said: Preprocessing | None) -> bool:
    return said is None or said == Preprocessing(dimensions=said.dimensions, range=said.range)


def _without_rival(written: WrittenBundle) -> Iterator[str]:
    strongest = written.says("Activations", "softmax") or written.says("AsDiscrete", "argmax")
    if strongest and written.network_outputs == 1:
        yield (
            "the network has one output, of which softmax or argmax makes the same answer for every image. The "
            "postprocessing of the bundle needs sigmoid, and AsDiscrete a threshold"
        )
