"""Tables of a model card: what goes into a network, also of several series, what comes out, and the server it runs on.

Standard library only. Runtimes whose files say themselves what they take and give need none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from dicom_node.core.errors import SettingsError
from dicom_node.core.series.predicates import check_conditions
from dicom_node.inference.cards.fields import CardFields

FITS = ("stretch", "pad", "crop")
ACTIVATIONS = ("none", "softmax", "sigmoid")
#: What several channels of a segmentation are to each other.
CHANNELS = ("exclusive", "overlapping")
#: Attributes that say what the image is and not whose; no other may leave with the pixels.
HARMLESS_ATTRIBUTES = frozenset(
    {
        "Modality",
        "BodyPartExamined",
        "ViewPosition",
        "PatientSex",
        "PatientAge",
        "PatientSize",
        "PatientWeight",
        "PatientPosition",
        "PhotometricInterpretation",
        "KVP",
        "SliceThickness",
        "SpacingBetweenSlices",
        "PixelSpacing",
        "ConvolutionKernel",
        "ContrastBolusAgent",
        "EchoTime",
        "RepetitionTime",
        "MagneticFieldStrength",
        "ScanningSequence",
    }
)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_OPPOSITE = {"L": "R", "R": "L", "P": "A", "A": "P", "S": "I", "I": "S"}
_IMAGE_CHANNELS = (1, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """The tensor a network takes, without its batch axis: (channels, *size).

    `size` is (rows, columns) or, for a volume, the lengths along the axes of `orientation`; empty keeps the source's.
    `window` or `percentiles` bring values to 0..1 first, then `range` stretches that, then `mean` and `std` apply per
    channel. `spacing_mm` goes with `orientation`: the letter of an axis names the side it grows to (``SPL`` is a
    stack from the feet up, rows to the back, columns to the left).
    """

    name: str = ""
    dimensions: int = 2
    size: tuple[int, ...] = ()
    channels: int = 1
    batch: int = 1
    fit: str = "stretch"
    window: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None
    range: tuple[float, float] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    orientation: str = ""


@dataclass(frozen=True, slots=True)
class CardChannel:
    """One channel of the input of a model that reads several series together: its name for people, and what a series
    must meet to be it, in the words of routes."""

    key: str
    when: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSpec:
    """The tensor a network gives: its name where it has several, and what makes probabilities of it.

    Of a segmentation also what its channels mean, one of `CHANNELS`, and whether the first is background; empty and
    `None` where something else tells.
    """

    name: str = ""
    activation: str = "none"
    channels: str = ""
    background: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """A remote server: `model` is its name there; `attributes` are the DICOM keywords that may leave with the pixels.

    The token itself is never in a card: `token_env` names an environment variable, `token_file` a file.
    """

    url: str
    model: str
    model_version: str = ""
    token_env: str = ""
    token_file: str = ""
    ca_file: str = ""
    timeout_s: float = 60.0
    binary: bool = True
    attributes: tuple[str, ...] = ()


def read_preprocessing(fields: CardFields, *, volume: bool) -> Preprocessing:
    """Read `[preprocessing]` of a model that is given volumes or images; an empty one takes them as they are.

    Raises `SettingsError`.
    """
    dimensions = 3 if volume else 2
    spec = Preprocessing(
        name=fields.optional_text("name"),
        dimensions=dimensions,
        size=tuple(int(x) for x in fields.floats("size", (0, dimensions))),
        channels=fields.whole("channels", 1),
        batch=fields.whole("batch", 1),
        fit=fields.choice("fit", FITS, "stretch"),
        window=fields.pair("window"),
        percentiles=fields.pair("percentiles"),
        range=fields.pair("range"),
        mean=fields.floats("mean"),
        std=fields.floats("std"),
        spacing_mm=fields.floats("spacing_mm", (0, dimensions)),
        orientation=fields.optional_text("orientation").upper(),
    )
    _check_values(fields, spec)
    _check_place(fields, spec)
    return spec


def read_channel(fields: CardFields) -> CardChannel:
    """Read one `[[channel]]`. Raises `SettingsError`."""
    conditions = fields.table("when").values
    if not conditions:
        fields.refuse("when", "must say which series the channel is")
    try:
        check_conditions(conditions)
    except SettingsError as error:
        fields.refuse("when", f"cannot be used. {error}")
    return CardChannel(fields.text("key"), conditions)


def read_output(fields: CardFields) -> OutputSpec:
    """Read `[output]`; without one the first output counts, as it is. Raises `SettingsError`."""
    return OutputSpec(
        name=fields.optional_text("name"),
        activation=fields.choice("activation", ACTIVATIONS, "none"),
        channels=fields.choice("channels", CHANNELS, ""),
        background=fields.flag("background") if "background" in fields.values else None,
    )


def read_server(fields: CardFields) -> ServerSpec | None:
    """Read `[server]`; `None` without one. Raises `SettingsError`, also for a token that would travel in the clear."""
    if not fields.present:
        return None
    url = urlsplit(fields.text("url"))
    if url.scheme not in {"http", "https"} or not url.hostname or url.username or url.query or url.fragment:
        fields.refuse("url", "must be http(s)://host[:port][/path], without user, password or query")
    if url.scheme == "http" and url.hostname not in _LOOPBACK:
        fields.refuse("url", f"sends images to {url.hostname} without TLS; use https (http is for this machine only)")
    attributes = fields.texts("attributes")
    unknown = sorted(set(attributes) - HARMLESS_ATTRIBUTES)
    if unknown:
        fields.refuse(
            "attributes", f"names {', '.join(unknown)}; only {', '.join(sorted(HARMLESS_ATTRIBUTES))} may leave"
        )
    timeout_s = fields.number("timeout_s", 60.0) or 0.0
    if timeout_s <= 0:
        fields.refuse("timeout_s", "must be above 0")
    return ServerSpec(
        url=fields.text("url").rstrip("/"),
        model=fields.text("model"),
        model_version=fields.optional_text("model_version"),
        token_env=fields.optional_text("token_env"),
        token_file=fields.optional_text("token_file"),
        ca_file=fields.optional_text("ca_file"),
        timeout_s=timeout_s,
        binary=fields.flag("binary", default=True),
        attributes=attributes,
    )


def _check_values(fields: CardFields, spec: Preprocessing) -> None:
    if spec.window and spec.percentiles:
        fields.refuse("percentiles", "and window exclude each other")
    if spec.percentiles and not 0 <= spec.percentiles[0] < spec.percentiles[1] <= 100:
        fields.refuse("percentiles", "must lie between 0 and 100")
    if spec.channels not in _IMAGE_CHANNELS and spec.dimensions == 2:
        fields.refuse("channels", "must be 1 or 3")
    for key, values in (("size", spec.size), ("spacing_mm", spec.spacing_mm), ("std", spec.std)):
        if any(value <= 0 for value in values):
            fields.refuse(key, "must hold positive numbers only")
    for key, values in (("mean", spec.mean), ("std", spec.std)):
        if len(values) not in {0, 1, spec.channels}:
            fields.refuse(key, f"must hold one number, or one for each of {spec.channels} channels")


def _check_place(fields: CardFields, spec: Preprocessing) -> None:
    if spec.fit != "stretch" and not spec.size:
        fields.refuse("fit", f"is {spec.fit!r}, which needs size")
    if spec.spacing_mm and spec.size and spec.fit == "stretch":
        fields.refuse("fit", "is 'stretch', which undoes spacing_mm; use 'pad' or 'crop', or leave size out")
    if spec.orientation and (spec.dimensions == 2 or not _is_orientation(spec.orientation)):
        fields.refuse("orientation", "must be three letters, one of L R, one of P A and one of S I, for a volume")
    if spec.spacing_mm and not spec.orientation and spec.dimensions == 3:
        fields.refuse("orientation", "must say which axis each spacing_mm belongs to")


def _is_orientation(letters: str) -> bool:
    return (
        len(letters) == 3
        and all(one in _OPPOSITE for one in letters)
        and (len({frozenset({one, _OPPOSITE[one]}) for one in letters}) == 3)
    )
