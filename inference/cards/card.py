"""Model cards: what the node must know of a model before it loads one. Standard library only; imports in milliseconds.

A model is a folder with `model_card.toml`. Its digest is taken over everything that decides its answers, so that any
change of weights, configuration or code shows as another device UID.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dicom_node.core.entities import ModelIdentity
from dicom_node.core.errors import ModelUnavailable, SettingsError
from dicom_node.core.series.predicates import check_conditions
from dicom_node.core.uids import derived_uid
from dicom_node.inference.cards.digest import (
    decides,
    digest_of,
    folder_files,
    module_files,
    sha256_of,
)
from dicom_node.inference.cards.ensemble import NO_ENSEMBLE, CardEnsemble, read_ensemble
from dicom_node.inference.cards.fields import CardFields
from dicom_node.inference.cards.outputs import (
    CardCheck,
    CardFinding,
    CardMeasurement,
    CardSegment,
    read_check,
    read_finding,
    read_measurement,
    read_segment,
)
from dicom_node.inference.cards.own_code import names_in, own_code
from dicom_node.inference.cards.schema import check_values, unknown_keys
from dicom_node.inference.cards.tensors import (
    CardChannel,
    OutputSpec,
    Preprocessing,
    ServerSpec,
    read_channel,
    read_output,
    read_preprocessing,
    read_server,
)
from dicom_node.inference.runtimes.table import RUNTIMES

SHIPPED_MODELS = Path(__file__).resolve().parents[1] / "models"
CARD_NAME = "model_card.toml"
#: How a model may be computed: ``mixed`` is float16 on CUDA, ``bfloat16`` that, on CUDA and on processors that multiply
#: in it themselves; what else there is computes in float32. Activation holds both against float32.
PRECISIONS = ("float32", "mixed", "bfloat16")
#: The tasks with a module in `inference.answers`, and what each is given unless the card says otherwise.
TASK_INPUTS = {"classification": "image", "regression": "image", "segmentation": "volume", "detection": "volume"}
INPUTS = ("image", "volume")
VIEWS = ("frontal", "frontal-chest", "mammogram", "any")
#: What a gate can ask of MR images.
WEIGHTINGS = ("T1",)
#: What a model of pictures is given: one channel as a viewer shows it in grey, or red, green and blue.
COLORS = ("gray", "rgb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Numbers the gate compares the images with; `None` means no limit."""

    min_slices: int = 1
    min_age_years: float | None = None
    max_age_years: float | None = None
    max_slice_spacing_mm: float | None = None
    max_pixel_spacing_mm: float | None = None
    #: Of MR images, as their header tells: one of `WEIGHTINGS`; "": any.
    weighting: str = ""
    contrast_medium_allowed: bool = True
    #: Of original to compressed, over all steps that lost something.
    max_lossy_ratio: float | None = None
    #: Defined terms of the methods that may have lost something (PS3.3 C.7.6.1.1.5.1); none: any.
    lossy_methods: tuple[str, ...] = ()
    age_may_be_absent: bool = False
    derived_allowed: bool = False
    spectral_allowed: bool = False
    #: CT of PET or SPECT that corrects attenuation: little dose, free breathing.
    attenuation_correction_allowed: bool = True
    burned_in_allowed: bool = False
    test_subjects_allowed: bool = False
    animals_allowed: bool = False
    #: Which views of a single image: ``frontal``, ``frontal-chest`` (by its pixels, too), ``mammogram`` or ``any``.
    views: str = "frontal"


@dataclass(frozen=True, slots=True)
class CardLooks:
    """Where the looks lie that a model of radiographs knows, and how far off its scores are within and beyond them."""

    file: Path
    calibration_errors: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """A validated `model_card.toml` and the folder it lies in.

    `accepts` are alternatives in the syntax of routes; `parameters` are the defaults a site may override.
    """

    folder: Path
    name: str
    version: str
    manufacturer: str
    runtime: str
    entry_point: str
    modules: tuple[str, ...]
    task: str
    intended_use: str
    limits: str
    #: Under which terms the weights may be used, in words for people; "" where the card does not tell.
    licence: str
    #: Of a card that comes with the node: the name that the metadata of its MONAI Bundle have.
    bundle: str
    calibrated: bool
    rank: tuple[str, ...]
    accepts: tuple[Mapping[str, object], ...]
    #: What a model of a known task is given: ``image`` one by one, or ``volume``.
    input: str
    #: Whether the window of an image (VOI LUT) is applied before the model sees it.
    voi: bool
    gate: Gate
    weights_file: Path | None
    weights_sha256: str
    parameters: Mapping[str, float]
    findings: tuple[CardFinding, ...]
    segments: tuple[CardSegment, ...] = ()
    measurements: tuple[CardMeasurement, ...] = ()
    #: What the numbers that the model leaves about its answer must be, the gravest first.
    checks: tuple[CardCheck, ...] = ()
    #: Series that go in together; none: a model is given one series.
    channels: tuple[CardChannel, ...] = ()
    explain: Mapping[str, str] = field(default_factory=dict)
    #: For how many findings of a classification a map is drawn; 0: for those present, or else the most probable.
    maps: int = 0
    precision: str = "float32"
    #: How far a lower precision may be from float32: of probabilities, and of other numbers as a share of them.
    precision_tolerance: float = 0.01
    #: Of a MONAI Bundle: what is averaged; empty: one network, asked once.
    ensemble: CardEnsemble = NO_ENSEMBLE
    #: Of pictures: one of `COLORS`.
    color: str = COLORS[0]
    #: For runtimes whose files do not say themselves what goes in and comes out.
    preprocessing: Preprocessing | None = None
    output: OutputSpec = field(default_factory=OutputSpec)
    server: ServerSpec | None = None
    #: Of radiographs: how those were taken that the model has learned from; without, nothing is said of it.
    looks: CardLooks | None = None

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) over everything that decides the answers: the folder, and the code that runs it. Raises
        `ModelUnavailable` when the weights are missing or are not those the card names."""
        self.verify_weights()
        return self.seen_digest

    @cached_property
    def seen_digest(self) -> str:
        """The digest of what lies there, be it what the card names or not. Raises `ModelUnavailable`."""
        return digest_of([*self._own_files(), *own_code(self.answering_code())])

    @cached_property
    def folder_digest(self) -> str:
        """sha256 (hex) over every file of the folder, and the modules it names that are no part of the node: what an
        operator accepts. An upgrade of the node leaves it as it is. Raises `ModelUnavailable`."""
        return digest_of([*folder_files(self.folder), *module_files(self._modules())])

    @property
    def is_shipped(self) -> bool:
        """Whether the model is part of the node's own release."""
        return self.folder.is_relative_to(SHIPPED_MODELS)

    @property
    def device_uid(self) -> str:
        """The UID of the algorithm as a device; another digest is another device (IHE AI Results)."""
        return derived_uid("device", self.name, self.version, self.digest)

    @property
    def accepted_modalities(self) -> frozenset[str]:
        """Every modality some alternative of `accepts` names; empty when none names any."""
        named = (alternative.get("modality", ()) for alternative in self.accepts)
        return frozenset(text for one in named for text in _texts(one))

    def effective_parameters(self, overrides: Mapping[str, float]) -> dict[str, float]:
        """Lay a site's overrides on the card's parameters. Raises `SettingsError` for a name the card lacks."""
        unknown = sorted(set(overrides) - set(self.parameters))
        if unknown:
            raise SettingsError(
                f"Model {self.name} has no parameter {', '.join(unknown)}; it has "
                f"{', '.join(sorted(self.parameters)) or 'none'}. Correct [route] parameters."
            )
        return {**self.parameters, **overrides}

    def config_digest(self, parameters: Mapping[str, float]) -> str:
        """sha256 (hex) of the parameters in force, whatever their order."""
        values = self.effective_parameters(parameters)
        text = "\n".join(f"{name}={float(values[name])!r}" for name in sorted(values))
        return hashlib.sha256(text.encode()).hexdigest()

    def identity(self, parameters: Mapping[str, float], *, digest: str = "") -> ModelIdentity:
        """Say which algorithm answers, with the parameters in force; `digest` is given for a model that must not."""
        values = self.effective_parameters(parameters)
        digest = digest or self.digest
        return ModelIdentity(
            name=self.name,
            version=self.version,
            manufacturer=self.manufacturer,
            digest=digest,
            device_uid=derived_uid("device", self.name, self.version, digest),
            parameters=tuple(f"{name}={values[name]:g}" for name in sorted(values)),
            intended_use=self.intended_use,
            limits=self.limits,
            calibrated=self.calibrated,
        )

    def require(self, digest: str) -> None:
        """Raise `ModelUnavailable` unless the model is the one with this digest; "" is any."""
        if digest and self.digest != digest:
            raise ModelUnavailable(
                f"Model {self.name} in {self.folder} changed after it was admitted. Its next job looks at it again."
            )

    def verify_weights(self) -> None:
        """Check the weights against the card; raises `ModelUnavailable`."""
        for problem in self.ensemble.problems():
            raise ModelUnavailable(f"Model {self.name}: {problem}")
        if self.weights_file is None:
            return
        if not self.weights_file.is_file():
            raise ModelUnavailable(f"Model {self.name}: weights {self.weights_file} are missing. Restore the file.")
        if not self.weights_sha256:
            raise ModelUnavailable(f"Model {self.name}: its card names no sha256 of the weights. Set [weights] sha256.")
        found = sha256_of(self.weights_file)
        if found != self.weights_sha256:
            raise ModelUnavailable(
                f"Model {self.name}: weights {self.weights_file} have sha256 {found[:12]}…, the card says "
                f"{self.weights_sha256[:12]}…. Restore the original file, or correct [weights] sha256 after review."
            )

    def loaded_code(self) -> dict[str, str]:
        """Return what a process keeps once it has run the model, as digests by name: the model by its folder, and the
        modules that are no part of the node. Raises `ModelUnavailable`."""
        modules = {label: sha256_of(path) for label, path in module_files(self._modules())}
        return {str(self.folder): self.digest, **modules}

    def answering_code(self) -> frozenset[str]:
        """Return the names in the node's package that a run begins with: the runner, what the card chooses, and what
        the model's own files name. Whatever these import answers too (`own_code`). Raises `ModelUnavailable`."""
        named = (name for _, path in self._own_files() for name in names_in(path))
        answering = f"dicom_node.inference.answers.{self.task}"
        begun = ("dicom_node.inference.runner", RUNTIMES[self.runtime].module, answering)
        return frozenset((*begun, *self._modules(), *named))

    def _own_files(self) -> list[tuple[str, Path]]:
        """Return what the model itself brings to an answer: files of its folder, and modules installed beside it."""
        files = [(name, path) for name, path in folder_files(self.folder) if decides(name)]
        return [*files, *module_files(self._modules())]

    def _modules(self) -> Iterator[str]:
        yield from (module for module in (self.entry_point.partition(":")[0], *self.modules) if module)


def load_card(folder: Path) -> ModelCard:
    """Read and check the card of a model folder. Raises `SettingsError` naming file and key, or `ModelUnavailable`
    when there is no card."""
    path = folder / CARD_NAME
    try:
        fields = CardFields(path, tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ModelUnavailable(f"No model in {folder}: {CARD_NAME} cannot be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}.") from error
    return _card(folder.resolve(), fields)


def _card(folder: Path, fields: CardFields) -> ModelCard:
    _check_keys(fields)
    runtime, task = fields.choice("runtime", tuple(RUNTIMES)), fields.text("task")
    weights, explain = fields.table("weights"), fields.table("explain")
    weights_name = weights.text("file") if weights.present else ""
    given = fields.choice("input", INPUTS, TASK_INPUTS.get(task, ""))
    return ModelCard(
        folder=folder,
        name=fields.text("name"), version=fields.text("version"), manufacturer=fields.text("manufacturer"),
        runtime=runtime,
        entry_point=fields.text("entry_point") if runtime == "python" else "",
        modules=fields.texts("modules"),
        task=task,
        intended_use=fields.text("intended_use"), limits=fields.text("limits"),
        licence=fields.optional_text("licence"), bundle=fields.optional_text("bundle"),
        calibrated=fields.flag("calibrated"),
        rank=fields.texts("rank"),
        accepts=_accepts(fields),
        input=given,
        voi=fields.flag("voi", default=True),
        gate=_gate(fields.table("gate")),
        weights_file=folder / fields.inside(weights_name) if weights_name else None,
        weights_sha256=weights.digest("sha256") if weights.present else "",
        parameters=fields.table("parameters").numbers(),
        findings=tuple(read_finding(one) for one in fields.subtables("finding")),
        segments=tuple(read_segment(one, place) for place, one in enumerate(fields.subtables("segment"))),
        measurements=tuple(read_measurement(one) for one in fields.subtables("measurement")),
        checks=tuple(read_check(one) for one in fields.subtables("check")),
        channels=tuple(read_channel(one) for one in fields.subtables("channel")),
        explain=explain.texts_but("maps"),
        maps=explain.whole("maps", 1) if "maps" in explain.values else 0,
        precision=fields.choice("precision", PRECISIONS, "float32"),
        precision_tolerance=fields.number("precision_tolerance", None) or ModelCard.precision_tolerance,
        ensemble=read_ensemble(folder, fields.table("ensemble")),
        color=fields.choice("color", COLORS, COLORS[0]),
        preprocessing=_preprocessing(fields, given),
        output=read_output(fields.table("output")),
        server=read_server(fields.table("server")),
        looks=_looks(folder, fields.table("looks")),
    )  # fmt: skip


def _check_keys(fields: CardFields) -> None:
    for key in unknown_keys(fields.values):
        fields.refuse(key, "is not a key of a model card")
    check_values(fields)


def _preprocessing(fields: CardFields, given: str) -> Preprocessing | None:
    if "preprocessing" not in fields.values:
        return None
    return read_preprocessing(fields.table("preprocessing"), volume=given == "volume")


def _looks(folder: Path, looks: CardFields) -> CardLooks | None:
    if not looks.present:
        return None
    return CardLooks(folder / looks.inside(looks.text("file")), looks.floats("calibration_errors", (3,)))


def _gate(gate: CardFields) -> Gate:
    age = gate.table("age_years")
    return Gate(
        min_slices=int(gate.number("min_slices", 1) or 1),
        min_age_years=age.number("min", None),
        max_age_years=age.number("max", None),
        age_may_be_absent=age.present and age.flag("or_absent", default=False),
        max_slice_spacing_mm=gate.number("max_slice_spacing_mm", None),
        max_pixel_spacing_mm=gate.number("max_pixel_spacing_mm", None),
        weighting=gate.choice("weighting", WEIGHTINGS, ""),
        contrast_medium_allowed=gate.flag("contrast_medium_allowed", default=True),
        max_lossy_ratio=gate.number("max_lossy_ratio", None),
        lossy_methods=gate.texts("lossy_methods"),
        derived_allowed=gate.flag("derived_allowed", default=False),
        spectral_allowed=gate.flag("spectral_allowed", default=False),
        attenuation_correction_allowed=gate.flag("attenuation_correction_allowed", default=True),
        burned_in_allowed=gate.flag("burned_in_allowed", default=False),
        test_subjects_allowed=gate.flag("test_subjects_allowed", default=False),
        animals_allowed=gate.flag("animals_allowed", default=False),
        views=gate.choice("views", VIEWS, VIEWS[0]),
    )


def _texts(condition: object) -> Sequence[str]:
    """Return the texts of an equality or a list; other operators name no fixed texts."""
    if isinstance(condition, str):
        return (condition,)
    return [one for one in condition if isinstance(one, str)] if isinstance(condition, list) else ()


def _accepts(fields: CardFields) -> tuple[Mapping[str, object], ...]:
    alternatives = fields.tables("accepts")
    for index, conditions in enumerate(alternatives):
        try:
            check_conditions(conditions)
        except SettingsError as error:
            fields.refuse(f"accepts[{index}]", f"cannot be used. {error}")
    return alternatives
