// From stored pixel values to what the screen shows: sign and unused bits, modality scale, window, inversion.

/** What one window makes of a value in modality units, 0..1 (PS3.3 C.11.2.1.2 and C.11.2.1.3). */
export function shade(value, { center, width, shape = "LINEAR" }) {
  if (shape === "SIGMOID") return 1 / (1 + Math.exp((-4 * (value - center)) / width));
  const [middle, range] = shape === "LINEAR_EXACT" ? [center, width] : [center - 0.5, width - 1];
  if (range <= 0) return value <= middle ? 0 : 1;
  return Math.min(1, Math.max(0, (value - middle) / range + 0.5));
}

/** Read the little-endian bytes of one frame: (rows · columns) stored values, with their sign and without foreign bits. */
export function storedValues(bytes, image) {
  const isWide = image.bits === 16;
  const raw = isWide ? new Uint16Array(bytes) : new Uint8Array(bytes);
  if (image.stored === image.bits) return image.signed ? asSigned(bytes, isWide) : raw;
  const left = 31 - image.high, right = 32 - image.stored;
  const values = image.signed ? (isWide ? new Int16Array(raw.length) : new Int8Array(raw.length)) : raw;
  for (let i = 0; i < raw.length; i++) values[i] = image.signed ? (raw[i] << left) >> right : (raw[i] << left) >>> right;
  return values;
}

const asSigned = (bytes, isWide) => (isWide ? new Int16Array(bytes) : new Int8Array(bytes));

/** Lowest and highest stored value that is no padding; `null` where all is. */
export function rangeOf(values, image) {
  const [from, to] = paddingAs(image) ?? [NaN, NaN];
  let lowest = Infinity, highest = -Infinity;
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value >= from && value <= to) continue;
    if (value < lowest) lowest = value;
    if (value > highest) highest = value;
  }
  return lowest <= highest ? [lowest, highest] : null;
}

/** The padding of an image with the sign of its pixels: a writer may say 63536 for -2000. */
function paddingAs(image) {
  if (!image.padding) return null;
  const half = 2 ** (image.stored - 1);
  const fit = (value) => (image.signed && value >= half ? value - 2 * half : !image.signed && value < 0 ? value + 2 * half : value);
  const [from, to] = image.padding.map(fit);
  return [Math.min(from, to), Math.max(from, to)];
}

/** The first window of an image, or one that holds all its values. */
export function windowOf(image, values) {
  const given = image.windows.find((one) => one.width > 0);
  if (given) return { ...given };
  const [lowest, highest] = (rangeOf(values, image) ?? [0, 1]).map((value) => value * image.slope + image.intercept).sort((a, b) => a - b);
  const width = Math.max(1, highest - lowest + 1);
  return { center: lowest + width / 2, width, shape: "LINEAR", name: "" };
}

/** For each stored value its grey as a pixel of the screen; a negative value stands at its two's complement. */
export function greyTable(image, window, isInverted = false) {
  const size = image.bits === 16 ? 65536 : 256;
  const table = new Uint32Array(size);
  const isDark = (image.photometric === "MONOCHROME1") !== Boolean(image.inverted) !== Boolean(isInverted);
  const [from, to] = paddingAs(image) ?? [NaN, NaN];
  for (let i = 0; i < size; i++) {
    const value = image.signed && i >= size / 2 ? i - size : i;
    const share = shade(value * image.slope + image.intercept, window);
    const grey = value >= from && value <= to ? 0 : Math.round(255 * (isDark ? 1 - share : share));
    table[i] = OPAQUE | (grey << 16) | (grey << 8) | grey;
  }
  return table;
}

const OPAQUE = 0xff000000;

/** Write the greys of one frame as pixels of the screen (little-endian RGBA). */
export function paintGrey(values, table, pixels) {
  const mask = table.length - 1;
  for (let i = 0; i < values.length && i < pixels.length; i++) pixels[i] = table[values[i] & mask];
}

/** Write a frame of RGB, interleaved or in planes, as pixels of the screen. */
export function paintColour(values, image, pixels) {
  const [step, next] = image.planar ? [1, image.rows * image.columns] : [3, 1];
  for (let i = 0, at = 0; i < pixels.length; i++, at += step) {
    pixels[i] = OPAQUE | (values[at + 2 * next] << 16) | (values[at + next] << 8) | values[at];
  }
}

/** The value at a pixel in modality units. */
export const valueAt = (values, image, column, row) => values[row * image.columns + column] * image.slope + image.intercept;
