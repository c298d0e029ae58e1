"""MONAI Bundles as the Model Zoo publishes them: network, preprocessing, inferer and postprocessing run as written.

A bundle's configuration may hold Python expressions, so it is code: only folders the operator accepted get here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.inferers.inferer import SimpleInferer
from monai.transforms.post.dictionary import Invertd
from monai.utils.misc import fall_back_tuple
from numpy.typing import NDArray

from dicom_node.core.errors import ModelUnavailable, NotAnalysable
from dicom_node.inference.cards.card import ModelCard
from dicom_node.inference.explain.methods import grad_cam, grad_cam_plus_plus, occlusion
from dicom_node.inference.prediction import DISAGREEMENT, Explanation, LoadedModel, ModelInput, Prediction
from dicom_node.inference.runtimes.channels import ChannelEvidence, check_rivals, evidence_of_card
from dicom_node.inference.runtimes.monai_bundle.averaged import AveragedNetwork, averaged, told_of
from dicom_node.inference.runtimes.monai_bundle.config import (
    TRAINING_KEYS,
    BundleConfig,
    allow_absent,
    read_config,
    require_certain,
    transforms_of,
)
from dicom_node.inference.runtimes.monai_bundle.history import (
    axes_told,
    is_unmoved,
    require_history,
    shows_whole_image,
)
from dicom_node.inference.runtimes.monai_bundle.inputs import affine_ras, as_loaded, reader_order
from dicom_node.inference.runtimes.monai_bundle.meaning import (
    activation_of,
    decides_itself,
    evidence_of_bundle,
    keeps_numbers,
    set_threshold,
)
from dicom_node.inference.runtimes.monai_bundle.outputs import (
    Finished,
    SourceAxes,
    boxes_of,
    check_numbers,
    figures_of,
    finish,
    label_inversions_nearest,
    probabilities_of,
    scores_of,
    structures_of,
)
from dicom_node.inference.runtimes.monai_bundle.running_code import CODE_ERRORS, code_of, failed, first_cause
from dicom_node.inference.runtimes.monai_bundle.scale import Range, scale_of, told_of_given
from dicom_node.inference.runtimes.table import RUNTIMES
from dicom_node.inference.runtimes.weights import State, read_state

_BATCH = 16
_CAMS = {"grad-cam": (grad_cam, "Grad-CAM"), "grad-cam++": (grad_cam_plus_plus, "Grad-CAM++")}
#: How a bundle can explain, by the card's task and input.
_METHODS = {
    ("classification", "image"): RUNTIMES["monai-bundle"].explains,
    **{("segmentation", kind): ("probability",) for kind in ("image", "volume")},
}


@dataclass(frozen=True, slots=True)
class WantedAnswer:
    """What is asked of a bundle: its task, the entry that holds its answer, a classifier's temperature, how answers are
    explained, what the card says of channels and of black and white, and what is averaged: weights, mirrored axes."""

    task: str
    output: str = "pred"
    temperature: float = 1.0
    explain_method: str = ""
    explain_layer: str = ""
    channels: ChannelEvidence = field(default_factory=ChannelEvidence)
    picture_range: Range | None = None
    members: tuple[State, ...] = ()
    mirrored_axes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One input through the preprocessing: every entry, the one that goes into the network, where it came from."""

    entries: dict[str, Any]
    key: str
    source: SourceAxes

    @property
    def tensor(self) -> torch.Tensor:
        """(1, channels, …), float32."""
        return torch.as_tensor(self.entries[self.key]).as_subclass(torch.Tensor)[None].float()


def load(card: ModelCard, device: str) -> LoadedModel:
    """Load the bundle of a card with its weights. Raises `ModelUnavailable`."""
    if card.weights_file is None:
        raise ModelUnavailable(f"Bundle {card.name} has no [weights]. Name its weights file in the card.")
    method, methods = card.explain.get("method", ""), _METHODS.get((card.task, card.input), ())
    if method and method not in methods:
        raise ModelUnavailable(
            f"Bundle {card.name} cannot explain a {card.task} of a {card.input} by {method}, but by "
            f"{', '.join(methods) or 'nothing'}. Correct [explain] method."
        )
    wanted = WantedAnswer(
        task=card.task,
        output=card.output.name or "pred",
        temperature=card.parameters.get("temperature", 1.0),
        explain_method=card.explain.get("method", ""),
        explain_layer=card.explain.get("layer", ""),
        channels=evidence_of_card(card) if card.task == "segmentation" else ChannelEvidence(),
        picture_range=card.preprocessing.range if card.preprocessing else None,
        members=tuple(read_state(file) for file, _ in card.ensemble.members),
        mirrored_axes=card.ensemble.mirrored_axes,
    )
    return open_bundle(card.folder, device, wanted, read_state(card.weights_file))


def open_bundle(folder: Path, device: str, wanted: WantedAnswer, state: State | None) -> LoadedBundle:
    """Make a bundle's parts and give its network `state`; `None` keeps the weights it was made with.

    Raises `ModelUnavailable` when the configuration, its scripts or the weights do not fit what is installed here.
    """
    doing = "cannot be loaded. Check its configs (network_def, inferer, postprocessing) and that the weights fit"
    try:
        config = read_config(folder, device)
    except CODE_ERRORS as error:
        raise failed(folder, doing, error) from error
    with code_of(config, doing):
        if config.mentions("retinanet"):
            from dicom_node.inference.runtimes.monai_bundle.running_code import (  # noqa: PLC0415 - few bundles pay for it
                stand_in_for_torchvision,
            )

            stand_in_for_torchvision()
        network = config.get("network_def") or config.get("network")
        if not isinstance(network, torch.nn.Module):
            raise ModelUnavailable(f"Bundle {folder} defines no network_def. Its configuration cannot be used.")
        if state is not None:
            network.load_state_dict(dict(state), strict=True)
        return LoadedBundle(config, network.eval().to(device), wanted, device)


class LoadedBundle:
    """A bundle in memory (`prediction.LoadedModel`)."""

    def __init__(self, config: BundleConfig, network: torch.nn.Module, wanted: WantedAnswer, device: str) -> None:
        """Make the parts around the network; may raise whatever the bundle's code raises."""
        self._config, self._network, self._wanted, self._device = config, network, wanted, device
        config.get("evaluator::_requires_")  # what a detector wants done before it runs
        self._preprocessing = config.get("preprocessing")
        self._inferer = config.get("inferer") or SimpleInferer()
        composed = config.get("postprocessing") or config.get("evaluator::postprocessing")
        self._postprocessing = transforms_of(composed)
        require_certain(self._preprocessing)
        require_certain(composed)
        self.channels = evidence_of_bundle(wanted.channels, self._postprocessing, network, config.metadata)
        activation = activation_of(self._postprocessing, network, self.channels.exclusive)
        self._asked = averaged(network, wanted.members, wanted.mirrored_axes, activation)
        self.told = told_of(self._asked, self._inferer)
        self._apply_threshold()
        self.scale = scale_of(wanted.picture_range, transforms_of(self._preprocessing), config.metadata)
        #: Of what the network was given last: the lowest and the highest value, sizes and sides of its axes.
        self.given: Range | None = None
        self._axes = ""
        self._outputs_of_network = 0
        self._pictures = False
        keys = frozenset(config.loading.keys or ("image",))
        allow_absent(self._preprocessing, keys, TRAINING_KEYS)
        allow_absent(composed, keys | {"pred", "image"}, TRAINING_KEYS)
        label_inversions_nearest(self._postprocessing)
        self.size_bytes = sum(one.nbytes for one in (*self._asked.parameters(), *self._asked.buffers()))
        self.batch_limit = _BATCH if wanted.task in {"classification", "regression"} else 1

    def predict(self, inputs: Sequence[ModelInput]) -> Sequence[Prediction]:
        """Run the inputs; those that come out of the preprocessing with one shape go through the network together.

        Raises `NotAnalysable` (CHANNELS_MISSING), or `ModelUnavailable` when the bundle fails.
        """
        with self._running(), torch.no_grad():
            prepared = [self._prepare(one) for one in inputs]
            asked = zip(prepared, self._outputs(prepared), strict=True)
            found = ((self._prediction(one, output), apart) for one, (output, apart) in asked)
            return [replace(one, figures={**one.figures, **apart}) for one, apart in found]

    def explain(self, one: ModelInput, output_index: int) -> Explanation | None:
        """Return what an image's class rests on by the card's method; `None` where the card names none, or for a
        Grad-CAM where the preprocessing crops or turns the image, or forgets what it did to it, so that a map would
        have no sure place on it."""
        if self._wanted.explain_method == "occlusion":
            return Explanation(map=occlusion(self._scores, one.values, output_index=output_index), method="Occlusion")
        cam, title = _CAMS.get(self._wanted.explain_method, (None, ""))
        if cam is None:
            return None
        with self._running():
            prepared = self._prepare(one)
            if not shows_whole_image(transforms_of(self._preprocessing), prepared.entries[prepared.key]):
                return None
            layer, shape = self._wanted.explain_layer, prepared.source.sizes
            tensor = prepared.tensor.to(self._device)
            heat = cam(self._network, tensor, layer=layer, output_index=output_index, shape=shape)
        return Explanation(
            map=heat if self._upright else np.ascontiguousarray(heat.T),
            method=f"{title}, layer {layer}{' of the first network' if self._asked is not self._network else ''}",
        )

    def move(self, device: str) -> None:
        """Hold the weights elsewhere. It runs where it was loaded."""
        self._asked.to(device)

    def _scores(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        found = self.predict([ModelInput(values=values) for values in batch])
        return np.stack([one.scores for one in found if one.scores is not None])

    @property
    def understood(self) -> tuple[str, ...]:
        """What it takes its input and its output for, and from what it knows that: for people who try it."""
        lines = []
        if self._wanted.task == "segmentation":
            lines.append(self.channels.told(self._outputs_of_network))
        if self._pictures:
            lines.append(str(self.scale))
        if self.given is not None:
            lines.append(f"{self._axes}, {told_of_given(self.given, self._config.metadata)}")
        return (*lines, *(one.rstrip(".") for one in self.told))

    @property
    def _upright(self) -> bool:
        return self._config.loading.keys is None or not self._config.loading.column_first

    def _running(self) -> AbstractContextManager[None]:
        return code_of(self._config, "failed while it ran. Try it with `dicom-node models try`")

    def _prepare(self, one: ModelInput) -> _Prepared:
        loading = self._config.loading
        self._pictures = one.values.ndim == 3
        if self._pictures:
            one = replace(one, values=_scaled(one.values, self.scale.required()))
        entries: dict[str, Any] = dict(as_loaded(one, loading, _channels(self._config)))
        sizes = tuple(int(size) for size in reader_order(one.values, loading).shape[1:])
        source = SourceAxes(sizes, affine_ras(one), one.values.ndim == 4)
        if self._preprocessing is not None and loading.dictionary:
            entries = self._preprocessed(entries)
        elif self._preprocessing is not None:
            entries = {"image": self._preprocessing(next(iter(entries.values())))}
        return _Prepared(entries, "image" if "image" in entries else next(iter(entries)), source)

    def _preprocessed(self, entries: dict[str, Any]) -> dict[str, Any]:
        absent = [key for key in self._config.loading.keys or () if key not in entries]
        try:
            return dict(self._preprocessing(entries))
        except (KeyError, RuntimeError) as error:
            if not absent or not isinstance(first_cause(error), KeyError):
                raise
            raise NotAnalysable(
                "CHANNELS_MISSING", f"The model also needs {', '.join(absent)}; the study gives one kind of image."
            ) from error

    def _outputs(self, prepared: Sequence[_Prepared]) -> Iterator[tuple[Any, dict[str, float]]]:
        """Run the network over neighbours of one shape together; yield the output of each input, and of an averaged one
        how far the answers were apart."""
        tensors = [one.tensor for one in prepared]
        self.given = min(float(one.min()) for one in tensors), max(float(one.max()) for one in tensors)
        self._axes = axes_told(prepared[-1].entries[prepared[-1].key])
        start = 0
        while start < len(tensors):
            stop = start + 1
            while (
                stop < len(tensors) and tensors[stop].shape == tensors[start].shape and stop - start < self.batch_limit
            ):
                stop += 1
            _check_window(self._inferer, tensors[start].shape[2:])
            output = self._inferer(torch.cat(tensors[start:stop]).to(self._device), self._asked)
            apart: list[dict[str, float]] = [{}] * (stop - start)
            if isinstance(self._asked, AveragedNetwork):
                apart = [{DISAGREEMENT: one} for one in self._asked.disagreements(stop - start)]
            yield from ((_taken(output, place), one) for place, one in enumerate(apart))
            start = stop

    def _prediction(self, prepared: _Prepared, output: Any) -> Prediction:
        wanted = self._wanted
        if wanted.task == "detection":
            return self._detected(prepared, output)
        pred = MetaTensor(check_numbers(output.float())) if isinstance(output, torch.Tensor) else output
        if wanted.task == "classification" and isinstance(pred, torch.Tensor):
            pred = pred / wanted.temperature
        if isinstance(pred, torch.Tensor):
            self._check_network(len(pred))
        if any(isinstance(step, Invertd) for step in self._postprocessing):
            require_history(transforms_of(self._preprocessing), prepared.entries, prepared.key)
        keep_soft = wanted.task == "classification" or wanted.explain_method == "probability"
        finished = finish(self._postprocessing, {**prepared.entries, "pred": pred}, keep_soft=keep_soft)
        if wanted.output not in finished.data:
            left = ", ".join(sorted(map(str, finished.data)))
            raise ModelUnavailable(
                f"The bundle leaves no {wanted.output!r} but {left}. Name the one with the answer in [output] name of "
                "the card."
            )
        if wanted.task == "segmentation":
            return self._masks(prepared, finished)
        return Prediction(scores=scores_of(finished, wanted.output))

    def _detected(self, prepared: _Prepared, output: Any) -> Prediction:
        if not isinstance(output, dict):
            raise ModelUnavailable("The bundle's detector gave no dictionary of boxes, labels and scores.")
        finished = finish(self._postprocessing, {**prepared.entries, **output})
        image = prepared.entries[prepared.key]
        return Prediction(boxes=boxes_of(finished, image, prepared.source, self._upright))

    def _masks(self, prepared: _Prepared, finished: Finished) -> Prediction:
        loading, source = self._config.loading, prepared.source
        values = finished.data[self._wanted.output]
        if not finished.inverted and loading.dictionary and self._preprocessing is not None:
            values = self._inverted(prepared, values)
        found = structures_of(values, source, loading, self.channels)
        found = replace(found, figures=figures_of(finished.data))
        if self._wanted.explain_method == "probability" and finished.soft_inverted:
            return replace(found, probabilities=probabilities_of(finished.soft, source, loading, self.channels))
        return found

    def _check_network(self, count: int) -> None:
        """Refuse a network whose outputs are not those that the card names, before the postprocessing makes one channel
        of them. Raises `ModelUnavailable`."""
        self._outputs_of_network = count
        check_rivals(self.channels.exclusive, count)
        if self._wanted.task == "segmentation" and self.channels.exclusive and keeps_numbers(self._postprocessing):
            self.channels.meaning(count)

    def _apply_threshold(self) -> None:
        """Let the card's threshold stand for the one in the postprocessing. Raises `ModelUnavailable` where the bundle
        decides otherwise, so that a threshold would have no effect."""
        known = self.channels
        if not known.has_threshold or not decides_itself(self._postprocessing):
            return
        if known.threshold is None or known.own_thresholds or not set_threshold(self._postprocessing, known.threshold):
            raise ModelUnavailable(
                "[parameters] threshold has no effect: the bundle's postprocessing decides itself (AsDiscrete), not "
                "by one threshold for all. Remove it from the card."
            )

    def _inverted(self, prepared: _Prepared, values: Any) -> Any:
        """Undo the preprocessing for a bundle that does not do so itself."""
        steps = transforms_of(self._preprocessing)
        if is_unmoved(steps):
            return torch.as_tensor(values).as_subclass(torch.Tensor)  # what the network gave has no place of its own
        key = next(key for key in (*(self._config.loading.keys or ()), prepared.key) if key in prepared.entries)
        require_history(steps, prepared.entries, key)
        inverse = Invertd(keys="pred", transform=self._preprocessing, orig_keys=key, nearest_interp=True)
        return inverse({key: prepared.entries[key], "pred": values})["pred"]


def _scaled(values: NDArray[np.float32], to: Range) -> NDArray[np.float32]:
    """Return a picture of 0 to 1 in the values of the files that the bundle reads."""
    low, high = np.float32(to[0]), np.float32(to[1])
    return values * (high - low) + low


def _check_window(inferer: Any, sizes: Sequence[int]) -> None:
    """Raise `NotAnalysable` (VOLUME_TOO_SMALL) for an image that its own reflection does not fill up to a window."""
    if str(getattr(inferer, "padding_mode", "")) != "reflect":
        return
    window = fall_back_tuple(inferer.roi_size, tuple(sizes))
    # Half of what is missing is added on each side, and a side can be reflected up to its last voxel but one.
    if any((wanted - size + 1) // 2 >= size for wanted, size in zip(window, sizes, strict=True)):
        shown = ["x".join(map(str, one)) for one in (sizes, window)]
        raise NotAnalysable(
            "VOLUME_TOO_SMALL",
            f"The images are {shown[0]} voxels as the model is given them, and its window is {shown[1]}: they are "
            "smaller than it can be filled from by reflection.",
        )


def _taken(output: Any, place: int) -> Any:
    """Return the output of one input of a batch: of a tensor, of a list, of each entry of a dictionary."""
    if isinstance(output, dict):
        return {name: _taken(value, place) for name, value in output.items()}
    return output[place]


def _channels(config: BundleConfig) -> int | None:
    found = _format(config, "inputs", "image").get("num_channels")
    return found if isinstance(found, int) else None


def _format(config: BundleConfig, *path: str) -> dict[str, Any]:
    found: Any = config.metadata.get("network_data_format")
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
