// Reads DICOM JSON (PS3.18 Annex F): values by tag, in the functional groups of a frame, in the shared ones, or outside.

const SHARED_GROUPS = "52009229";
const PER_FRAME_GROUPS = "52009230";

/** Transfer of pixels that the page windows by itself; everything else it asks for as a picture. */
const GREY = new Set(["MONOCHROME1", "MONOCHROME2"]);

export const valuesOf = (dataset, tag) => dataset?.[tag]?.Value ?? [];
export const firstOf = (dataset, tag) => valuesOf(dataset, tag)[0];
export const textOf = (dataset, tag) => String(firstOf(dataset, tag) ?? "");
const numberOf = (dataset, tag, otherwise) => Number(firstOf(dataset, tag) ?? otherwise);

/** Doe^Jane → Doe, Jane (PS3.5 6.2.1), by the first group that is filled. */
export function nameOf(dataset, tag) {
  const name = firstOf(dataset, tag) ?? {};
  const [family = "", given = ""] = (name.Alphabetic || name.Ideographic || name.Phonetic || "").split("^");
  return [family, given].filter(Boolean).join(", ");
}

/** Return how to read an attribute for one frame (from 1): (functional group, tag) → its values. */
export function groupsOf(instance, frame) {
  const own = valuesOf(instance, PER_FRAME_GROUPS)[frame - 1];
  const shared = firstOf(instance, SHARED_GROUPS);
  return (group, tag) => [own, shared].map((one) => valuesOf(firstOf(one, group), tag)).find((found) => found.length)
    ?? valuesOf(instance, tag);
}

/** Every frame of an instance as the viewer needs it; lengths in mm, directions in the patient (LPS). */
export function imagesOf(instance) {
  const frames = numberOf(instance, "00280008", 1);
  return Array.from({ length: frames }, (_, place) => imageOf(instance, place + 1, frames));
}

function imageOf(instance, frame, frames) {
  const read = groupsOf(instance, frame);
  return {
    study: textOf(instance, "0020000D"), series: textOf(instance, "0020000E"), sop: textOf(instance, "00080018"),
    frame, frames, number: numberOf(instance, "00200013", 0), modality: textOf(instance, "00080060"),
    ...pixelsOf(instance), ...scaleOf(read), ...placeOf(instance, read),
  };
}

function pixelsOf(instance) {
  const bits = numberOf(instance, "00280100", 8);
  const stored = numberOf(instance, "00280101", bits);
  return {
    rows: numberOf(instance, "00280010", 0), columns: numberOf(instance, "00280011", 0),
    samples: numberOf(instance, "00280002", 1), planar: numberOf(instance, "00280006", 0) === 1,
    photometric: textOf(instance, "00280004") || "MONOCHROME2", bits, stored,
    high: numberOf(instance, "00280102", stored - 1), signed: numberOf(instance, "00280103", 0) === 1,
    padding: paddingOf(instance), look: textOf(instance, "20500020"),
    isNative: isNative(instance),
  };
}

/** Padding has as many bits as a pixel, whether it was written with a sign or without. */
function paddingOf(instance) {
  const from = firstOf(instance, "00280120");
  if (from === undefined) return null;
  const to = firstOf(instance, "00280121") ?? from;
  return [Math.min(from, to), Math.max(from, to)];
}

/** Whether the page can show the stored values by itself: grey or RGB of 8 or 16 bits. */
function isNative(instance) {
  const bits = numberOf(instance, "00280100", 8);
  const photometric = textOf(instance, "00280004") || "MONOCHROME2";
  if (photometric === "RGB") return bits === 8;
  return GREY.has(photometric) && (bits === 8 || bits === 16);
}

function scaleOf(read) {
  const centers = read("00289132", "00281050"), widths = read("00289132", "00281051");
  const names = read("00289132", "00281055");
  const shape = read("00289132", "00281056")[0] || "LINEAR";
  return {
    modalityItem: read("00289145", "00283000")[0] ?? null, voiItems: read("00289132", "00283010"),
    isScaled: read("00289145", "00281053").length > 0,
    slope: Number(read("00289145", "00281053")[0] ?? 1), intercept: Number(read("00289145", "00281052")[0] ?? 0),
    windows: centers.slice(0, widths.length).map((center, place) => (
      { center: Number(center), width: Number(widths[place]), shape, name: names[place] ?? "" })),
  };
}

function placeOf(instance, read) {
  const measured = read("00289110", "00280030");
  const spacing = (measured.length === 2 ? measured : valuesOf(instance, "00181164")).map(Number);
  const ratio = valuesOf(instance, "00280034").map(Number);
  const isSpaced = spacing.length === 2 && spacing.every((one) => one > 0);
  const isRatio = ratio.length === 2 && ratio.every((one) => one > 0);
  return {
    spacing: isSpaced ? spacing : null, // between rows, between columns
    aspect: isSpaced ? spacing[0] / spacing[1] : isRatio ? ratio[0] / ratio[1] : 1, // height of a pixel by its width
    position: vector(read("00209113", "00200032"), 3), orientation: vector(read("00209116", "00200037"), 6),
    sides: valuesOf(instance, "00200020").map(String),
  };
}

const vector = (values, length) => (values.length === length ? values.map(Number) : null);
