"""The schema of a model card: every key, as docs/reference/model-card.md shows it, and how values must fit each other.

A new key of a runtime or task gets its line here; a key that has none is refused, with the one that comes closest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from dicom_node.inference.cards.fields import CardFields
from dicom_node.inference.cards.outputs import THRESHOLD_OF


@dataclass(frozen=True, slots=True)
class CardKey:
    """One key: the table it stands in ("" is the top, dots lead down), its type, its default, what it means."""

    table: str
    name: str
    kind: str
    default: str
    meaning: str

    @property
    def path(self) -> str:
        """The key with its tables, ``gate.age_years``."""
        return f"{self.table}.{self.name}" if self.table else self.name


_CODE = "key of the [terminology](terminology.md), or table of `value`, `scheme`, `meaning`"
_BELOW = {_CODE: frozenset({"value", "scheme", "meaning"})}

KEYS: tuple[CardKey, ...] = (
    CardKey("", "name", "text", "required", "unique among all models; the name that routes use"),
    CardKey("", "version", "text", "required", "shown in every report"),
    CardKey("", "manufacturer", "text", "required", "who answers for the model"),
    CardKey("", "runtime", "text", "required", "how it is run"),
    CardKey("", "entry_point", "text", "required for `python`", "`package.module:function`, importable by the node"),
    CardKey(
        "",
        "modules",
        "texts",
        "`[]`",
        "modules outside the folder that decide the answer; they count into the digest",
    ),
    CardKey("", "task", "text", "required", "what kind of answer: `classification`, `lung-density`"),
    CardKey("", "intended_use", "text", "required", "what it is for; printed on every summary page"),
    CardKey("", "limits", "text", "required", "what it cannot do; printed on every summary page"),
    CardKey(
        "",
        "licence",
        "text",
        "not told",
        "of the weights, and what else binds who uses them; shown to who adds or accepts",
    ),
    CardKey(
        "",
        "bundle",
        "text",
        "none",
        "a card that comes with the node: `name` in the metadata of the MONAI Bundle it is for",
    ),
    CardKey(
        "",
        "calibrated",
        "true or false",
        "required",
        "true only where shown outside its own data; else reports send scores, no certainty",
    ),
    CardKey("", "rank", "texts", "`[]`", "order of candidate series, best first: as in routes"),
    CardKey(
        "", "accepts", "tables", "everything", "alternatives in the words of routes; a series must meet all of one"
    ),
    CardKey("", "input", "text", "by the task", "what a model of a known task is given: `image` or `volume`"),
    CardKey("", "voi", "true or false", "`true`", "images: apply their window before the model sees them"),
    CardKey(
        "",
        "color",
        "text",
        "`gray`",
        "images: `rgb` gives the model red, green and blue; a grey image is repeated. `gray` takes no coloured image",
    ),
    CardKey("", "precision", "text", "`float32`", "`mixed` (float16 on CUDA) or `bfloat16` (there and on the CPU)"),
    CardKey("", "precision_tolerance", "number", "`0.01`", "how far from float32 it may be; activation compares"),
    CardKey("", "gate", "table", "no limits", "numbers the images are held against"),
    CardKey("gate", "min_slices", "number", "`1`", "volumes: fewest slices (never below 2)"),
    CardKey("gate", "max_slice_spacing_mm", "number", "no limit", "volumes: largest distance of neighbouring slices"),
    CardKey("gate", "max_pixel_spacing_mm", "number", "no limit", "volumes: largest distance of neighbouring pixels"),
    CardKey(
        "gate",
        "weighting",
        "text",
        "any",
        "MR: `T1` refuses what the header tells to be weighted otherwise or echo-planar, or does not tell to be T1",
    ),
    CardKey(
        "gate",
        "contrast_medium_allowed",
        "true or false",
        "`true`",
        "let images pass that were made after contrast medium, as the header or a description tells",
    ),
    CardKey(
        "gate", "max_lossy_ratio", "number", "no limit", "refuse images compressed further with loss, or untold how far"
    ),
    CardKey(
        "gate",
        "lossy_methods",
        "texts",
        "`[]`: any",
        "refuse images that lost by another method: `ISO_15444_1`, `ISO_14495_1`",
    ),
    CardKey("gate", "derived_allowed", "true or false", "`false`", "let images pass that were derived from others"),
    CardKey("gate", "attenuation_correction_allowed", "true or false", "`true`", "take CT made for PET or SPECT"),
    CardKey(
        "gate",
        "spectral_allowed",
        "true or false",
        "`false`",
        "let computed spectral CT pass: monoenergetic, material maps",
    ),
    CardKey("gate", "burned_in_allowed", "true or false", "`false`", "let images pass with text in their pixels"),
    CardKey(
        "gate",
        "views",
        "text",
        "`frontal`",
        "images: `frontal` leaves out views said to be other and turns the rest upright; `frontal-chest` leaves "
        "out what does not look like a frontal chest, too; `mammogram` takes CC and MLO views of one whole "
        "breast whose side is told, without an implant, no tomosynthesis; `any` takes all as they are stored",
    ),
    CardKey("gate", "animals_allowed", "true or false", "`false`", "let images of animals pass"),
    CardKey("gate", "test_subjects_allowed", "true or false", "`false`", "let phantoms and test patients pass"),
    CardKey("gate", "age_years", "table", "no limit", "ages the model was made for"),
    CardKey("gate.age_years", "min", "number", "no limit", "youngest, in completed years"),
    CardKey("gate.age_years", "max", "number", "no limit", "oldest, in completed years"),
    CardKey("gate.age_years", "or_absent", "true or false", "`false`", "let images pass that tell no age"),
    CardKey(
        "",
        "channel",
        "tables",
        "one series",
        "volumes: several series of one study that go in together, in the order of the network's channels; what comes "
        "out lies on the first, which `accepts` must name",
    ),
    CardKey("channel", "key", "text", "required", "what the channel shows, such as `FLAIR`; told with the result"),
    CardKey("channel", "when", "table", "required", "conditions in the words of routes; a series must meet all"),
    CardKey(
        "", "looks", "table", "nothing is said", "radiographs: how those were taken that the model has learned from"
    ),
    CardKey("", "weights", "table", "no weights", "the file with what was learned"),
    CardKey("", "ensemble", "table", "one network, asked once", "MONAI Bundles: what is averaged, as probabilities"),
    CardKey("ensemble", "mirrored_axes", "whole numbers", "`[]`", "spatial axes of the network's input to mirror"),
    CardKey("ensemble", "member", "tables", "none", "further weights of the same network"),
    CardKey("ensemble.member", "file", "text", "required", "path inside the folder"),
    CardKey("ensemble.member", "sha256", "text", "required", "as of `weights`"),
    CardKey("looks", "file", "text", "required", "safetensors of `inference/familiarity.py`, inside the folder"),
    CardKey(
        "looks",
        "calibration_errors",
        "three numbers",
        "required",
        "how far off the score was, with whole looks held out: within the known looks, up to 1.3 times and more than "
        "that beyond them",
    ),
    CardKey("weights", "file", "text", "required", "path inside the folder"),
    CardKey("weights", "sha256", "text", "required", "64 lower-case hexadecimal digits; empty: not there yet, refused"),
    CardKey(
        "",
        "parameters",
        "numbers",
        "none",
        "what a route may override; an unknown name is refused. `threshold` is for all findings or structures, "
        "`threshold-KEY` for one of them, `temperature` divides the logits of a classification",
    ),
    CardKey("", "finding", "tables", "none", "the classes it evaluates"),
    CardKey("finding", "key", "text", "required", "stable name; tracking identifiers come from it: never rename it"),
    CardKey("finding", "label", "text", "required", "what people read"),
    CardKey("finding", "output_index", "number", "`0`", "which output of the network"),
    CardKey("finding", "code", _CODE, "required", "what is found; `meaning` at most 64 characters (PS3.3 8.8)"),
    CardKey("finding", "site", _CODE, "required", "where it is"),
    CardKey("finding", "unit", _CODE, "no units", "regression: the unit of its value (UCUM)"),
    CardKey("finding", "plausible", "table", "no limits", "regression: `min` and `max` of what may be reported"),
    CardKey("finding.plausible", "min", "number", "no limit", "lowest value"),
    CardKey("finding.plausible", "max", "number", "no limit", "highest value"),
    CardKey("finding.plausible", "reason", "text", "none", "why nothing else can be; told where a value is withheld"),
    CardKey("", "segment", "tables", "none", "segmentation: the structures it outlines"),
    CardKey("segment", "value", "number", "required, or `values`", "value of the structure's voxels, 1 to 255"),
    CardKey(
        "segment",
        "values",
        "numbers",
        "none",
        "instead of `value`: all that the network tells apart and the structure holds, `[1, 2, 4]`",
    ),
    CardKey("segment", "key", "text", "required", "stable name; tracking identifiers come from it: never rename it"),
    CardKey("segment", "label", "text", "required", "what people read"),
    CardKey("segment", "category", _CODE, "anatomical structure", "segmented property category (CID 7150)"),
    CardKey("segment", "type", _CODE, "required", "segmented property type: the organ, or the lesion"),
    CardKey("segment", "region", _CODE, "none", "where it is, when `type` does not say so"),
    CardKey("segment", "side", "text", "none", "`left` or `right`"),
    CardKey("segment", "color_rgb", "three numbers", "one of six", "recommended colour of display, 0 to 255 each"),
    CardKey(
        "segment",
        "measure",
        "texts",
        '`["volume"]`',
        "of volumes: `volume` (ml), `mean` (of CT, HU), `diameter` (largest within a slice, edge to edge, mm)",
    ),
    CardKey("segment", "measured", "true or false", "`true`", "false: outlined, and no number of it is reported"),
    CardKey("segment", "plausible_ml", "table", "no limits", "`min` and `max` of the volumes that may be reported"),
    CardKey("segment.plausible_ml", "min", "number", "no limit", "smallest volume"),
    CardKey("segment.plausible_ml", "max", "number", "no limit", "largest volume"),
    CardKey("segment.plausible_ml", "reason", "text", "none", "why nothing else can be"),
    CardKey(
        "",
        "check",
        "tables",
        "none",
        "segmentation by a bundle: what the numbers that it leaves about its answer must be, the gravest first; "
        "outside, the study is not analysed",
    ),
    CardKey("check", "figure", "text", "required", "name of the number in the entry `figures` of the bundle"),
    CardKey("check", "label", "text", "required", "what people read, as the beginning of a sentence"),
    CardKey("check", "unit", "text", "none", "unit of the number, in words"),
    CardKey("check", "min", "number", "no limit", "lowest value"),
    CardKey("check", "max", "number", "no limit", "highest value"),
    CardKey("check", "code", "text", "required", "[reason](reasons.md) why the study is not analysed"),
    CardKey("check", "reason", "text", "none", "why nothing else can be; told with the number"),
    CardKey("", "measurement", "tables", "none", "what may be reported of the numbers that come with findings"),
    CardKey("measurement", "name", _CODE, "required", "what is measured"),
    CardKey("measurement", "derivation", _CODE, "none", "how one number came from many, as `mean`"),
    CardKey("measurement", "findings", "texts", "all", "keys of the findings it is about"),
    CardKey("measurement", "plausible", "table", "required", "numbers outside are withheld, with all of their finding"),
    CardKey("measurement.plausible", "min", "number", "no limit", "lowest value"),
    CardKey("measurement.plausible", "max", "number", "no limit", "highest value"),
    CardKey("measurement.plausible", "reason", "text", "required", "why nothing else can be; told with the value"),
    CardKey("", "preprocessing", "table", "by the runtime", "what goes into the network, for files that do not say it"),
    CardKey("preprocessing", "name", "text", "the first", "name of the input tensor"),
    CardKey("preprocessing", "size", "numbers", "as received", "(rows, columns), or lengths of the axes of a volume"),
    CardKey("preprocessing", "channels", "number", "`1`", "1, or 3 (one grey channel is repeated)"),
    CardKey("preprocessing", "batch", "number", "`1`", "how many inputs one call may take, if the file allows"),
    CardKey("preprocessing", "fit", "text", "`stretch`", "`stretch` to the size, `pad` to it, or `crop` to its middle"),
    CardKey("preprocessing", "window", "two numbers", "none", "values that become 0 and 1; others are cut off there"),
    CardKey("preprocessing", "percentiles", "two numbers", "none", "the same, as percentiles of each input"),
    CardKey(
        "preprocessing",
        "range",
        "two numbers",
        "none",
        "then 0 and 1 become these; the one key that a bundle of pictures may have: black and white of its files",
    ),
    CardKey("preprocessing", "mean", "numbers", "`[0]`", "then subtracted, one for all channels or one each"),
    CardKey("preprocessing", "std", "numbers", "`[1]`", "then divided by, one for all channels or one each"),
    CardKey("preprocessing", "spacing_mm", "numbers", "as received", "distance of voxels along each axis"),
    CardKey("preprocessing", "orientation", "text", "as received", "volumes: sides the axes grow to, such as `SPL`"),
    CardKey("", "output", "table", "the first, as it is", "what comes out of the network"),
    CardKey("output", "name", "text", "the first", "name of the output tensor"),
    CardKey("output", "activation", "text", "`none`", "what makes probabilities: `none`, `softmax`, `sigmoid`"),
    CardKey(
        "output",
        "channels",
        "text",
        "as the activation or the bundle tells",
        "segmentation: `exclusive` (the strongest class holds) or `overlapping` (each a structure of its own)",
    ),
    CardKey(
        "output",
        "background",
        "true or false",
        "`true` if exclusive",
        "segmentation: channel 0 is background and channel 1 is value 1; false: channel 0 is value 1",
    ),
    CardKey("", "server", "table", "none", "`open-inference`: where the network runs"),
    CardKey("server", "url", "text", "required", "`https://host[:port]`; http only to this machine"),
    CardKey("server", "model", "text", "required", "the model's name on the server"),
    CardKey("server", "model_version", "text", "the server's", "the model's version on the server"),
    CardKey("server", "token_env", "text", "none", "environment variable that holds the bearer token"),
    CardKey("server", "token_file", "text", "none", "file that holds the bearer token"),
    CardKey("server", "ca_file", "text", "the system's", "certificates (PEM) that vouch for the server"),
    CardKey("server", "timeout_s", "number", "`60`", "how long one answer may take"),
    CardKey("server", "binary", "true or false", "`true`", "send tensors as bytes; false: as JSON numbers"),
    CardKey("server", "attributes", "texts", "`[]`", "DICOM attributes that may leave with the pixels, by keyword"),
    CardKey("", "explain", "table", "none", "how the answer is explained"),
    CardKey(
        "explain",
        "method",
        "text",
        "none",
        "`grad-cam`, `grad-cam++`, `occlusion`, `attention-rollout`; `probability` of a segmentation",
    ),
    CardKey("explain", "layer", "text", "none", "dotted name of a layer of the network"),
    CardKey(
        "explain",
        "maps",
        "number",
        "those present, or one",
        "classification: for how many findings a map is drawn, those of the highest scores, present or not",
    ),
)

_NAMES: Mapping[str, frozenset[str]] = {
    **{table: frozenset(key.name for key in KEYS if key.table == table) for table in {key.table for key in KEYS}},
    **{key.path: _BELOW[key.kind] for key in KEYS if key.kind in _BELOW},
}


def unknown_keys(values: Mapping[str, object], table: str = "") -> Iterator[str]:
    """Return what stands in a card and means nothing: path, and the known key that comes closest."""
    known = _NAMES[table]
    for key, value in values.items():
        path = f"{table}.{key}" if table else key
        if key not in known:
            near = get_close_matches(key, known, 1)
            yield path + (f" (did you mean {near[0]}?)" if near else "")
        elif path in _NAMES:
            below = value if isinstance(value, list) else [value]
            for one in below:
                yield from unknown_keys(one, path) if isinstance(one, Mapping) else ()


# --- what the values must be -----------------------------------------------------------------------------------------
#
# A slip here would show much later and elsewhere: two findings of one key are one tracking identifier in the PACS.

#: What the index keeps of a name and of a version.
_LONGEST = 64
_SCORED = ("classification", "detection", "segmentation")


def check_values(fields: CardFields) -> None:
    """Raise `SettingsError` naming file and key."""
    for key in ("name", "version"):
        if len(fields.text(key)) > _LONGEST:
            fields.refuse(key, f"is longer than {_LONGEST} characters")
    _check_unique(fields, "finding", "key")
    _check_unique(fields, "segment", "key")
    _check_unique(fields, "segment", "value")
    _check_unique(fields, "channel", "key")
    for one in fields.subtables("finding"):
        index = one.number("output_index", 0)
        if index is None or index < 0 or index != int(index):
            one.refuse("output_index", "must be a whole number, 0 or more")
    for limits in _ranges(fields):
        low, high = limits.number("min", None), limits.number("max", None)
        if low is not None and high is not None and low > high:
            limits.refuse("min", f"is {low:g}, above max, {high:g}")
    _check_parameters(fields)
    for key in ("channels", "background"):
        if key in fields.table("output").values and fields.text("task") != "segmentation":
            fields.table("output").refuse(key, "is for the task segmentation")


def _check_unique(fields: CardFields, table: str, key: str) -> None:
    seen: set[object] = set()
    for one in fields.subtables(table):
        value = one.values.get(key)
        if value is not None and value in seen:
            one.refuse(key, f"is {value!r}, as that of an earlier [[{table}]]; each must have its own")
        seen.add(value)


def _ranges(fields: CardFields) -> Iterator[CardFields]:
    yield fields.table("gate").table("age_years")
    for finding in fields.subtables("finding"):
        yield finding.table("plausible")
    for segment in fields.subtables("segment"):
        yield segment.table("plausible_ml")
    for measurement in fields.subtables("measurement"):
        yield measurement.table("plausible")
    yield from fields.subtables("check")


def _check_parameters(fields: CardFields) -> None:
    parameters = fields.table("parameters")
    temperature = parameters.number("temperature", None)
    for name in (one for one in parameters.values if one == "threshold" or one.startswith(THRESHOLD_OF)):
        threshold = parameters.number(name, None)
        if threshold is not None and fields.text("task") in _SCORED and not 0 < threshold <= 1:
            parameters.refuse(name, "must lie between 0 and 1, above 0: it is held against probabilities")
    if temperature is not None and temperature <= 0:
        parameters.refuse("temperature", "must be above 0: logits are divided by it")
