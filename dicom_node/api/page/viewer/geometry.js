// Where things are: slices in order, letters of the patient's directions, zoom and pan, the ruler.

const AXES = [["L", "R"], ["P", "A"], ["H", "F"]];
const LEAST_SHARE = 0.2; // of a direction, to have a letter
const SAME_PLACE_MM = 0.01;

/** Letters for a direction in the patient: [1, 0, 0] → L; oblique ones have up to three, the strongest first. */
export function lettersOf(direction) {
  return direction.map((share, axis) => [Math.abs(share), AXES[axis][share > 0 ? 0 : 1]])
    .filter(([share]) => share > LEAST_SHARE).sort(([a], [b]) => b - a).map(([, letter]) => letter).join("");
}

const OPPOSITE = { L: "R", R: "L", P: "A", A: "P", H: "F", F: "H" };
const opposite = (letters) => [...letters].map((one) => OPPOSITE[one] ?? one).join("");

/** What the edges of an image show: by its orientation, or by PatientOrientation where it has none; `null`: unknown. */
export function edgesOf(image) {
  const [right, bottom] = image.orientation
    ? [lettersOf(image.orientation.slice(0, 3)), lettersOf(image.orientation.slice(3))] : image.sides ?? [];
  return right && bottom ? { right, bottom, left: opposite(right), top: opposite(bottom) } : null;
}

const cross = ([a, b, c], [x, y, z]) => [b * z - c * y, c * x - a * z, a * y - b * x];
const dot = (a, b) => a.reduce((sum, one, place) => sum + one * b[place], 0);

/** How far along its normal a slice lies, in mm; `null` where it does not say. */
export function depthOf(image) {
  if (!image.position || !image.orientation) return null;
  return dot(cross(image.orientation.slice(0, 3), image.orientation.slice(3)), image.position);
}

/** In the order in which a reader scrolls: along the normal, by the orientation of the first; else by number. */
export function inOrder(images) {
  const depths = new Map(images.map((image) => [image, depthOf(image)]));
  const isVolume = images.length > 1 && images.every((one) => depths.get(one) !== null && isParallel(one, images[0]));
  const byNumber = (a, b) => a.number - b.number || a.frame - b.frame;
  return [...images].sort(isVolume ? (a, b) => depths.get(a) - depths.get(b) || byNumber(a, b) : byNumber);
}

const isParallel = (a, b) => a.orientation.every((one, place) => Math.abs(one - b.orientation[place]) < 0.01);

/** The place of the slice nearest to a depth in mm, `null` in a series without places. */
export function nearestTo(images, depth) {
  const distances = images.map((one) => Math.abs((depthOf(one) ?? Infinity) - depth));
  const nearest = Math.min(...distances);
  return Number.isFinite(nearest) ? distances.indexOf(nearest) : null;
}

export const isSamePlace = (a, b) => Boolean(a && b) && a.every((one, axis) => Math.abs(one - b[axis]) < SAME_PLACE_MM);

// --- the view: an image pixel (column, row), from its outer corner, is shown at (x + column·scale, y + row·scale·aspect)

/** The whole image in the middle of a canvas. */
export function fitted(image, width, height) {
  const scale = Math.min(width / image.columns, height / (image.rows * image.aspect));
  return { scale, aspect: image.aspect, x: (width - image.columns * scale) / 2, y: (height - image.rows * image.aspect * scale) / 2 };
}

export const toScreen = (view, [column, row]) => [view.x + column * view.scale, view.y + row * view.scale * view.aspect];
export const toImage = (view, [x, y]) => [(x - view.x) / view.scale, (y - view.y) / (view.scale * view.aspect)];

/** Nearer or farther by a factor; what lies at `[x, y]` of the canvas stays there. */
export function zoomed(view, factor, [x, y]) {
  const scale = Math.min(64, Math.max(0.02, view.scale * factor));
  const by = scale / view.scale;
  return { ...view, scale, x: x - (x - view.x) * by, y: y - (y - view.y) * by };
}

export const panned = (view, dx, dy) => ({ ...view, x: view.x + dx, y: view.y + dy });

/** A round length in mm for a ruler of at most so many pixels of the screen; `null` without pixel spacing. */
export function rulerOf(image, view, mostPx) {
  if (!image.spacing) return null;
  const mmPerPx = image.spacing[1] / view.scale;
  const most = mostPx * mmPerPx;
  const power = 10 ** Math.floor(Math.log10(most));
  const mm = [5, 2, 1].map((one) => one * power).find((one) => one <= most);
  return { mm, px: mm / mmPerPx };
}
