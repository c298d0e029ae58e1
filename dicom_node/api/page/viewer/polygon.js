// A region on an image: a closed polygon in (column, row), 0,0 at the outer corner of the first pixel (PS3.3 C.18.6.1.2).
// Here its corners stand without the repeated last one.

export const opened = (points) => (points.length > 1 && same(points[0], points.at(-1)) ? points.slice(0, -1) : [...points]);
export const closed = (corners) => (corners.length ? [...corners, corners[0]] : []);
const same = ([a, b], [x, y]) => a === x && b === y;

/** Whether it is a region: three corners that do not lie on one line. */
export const isRegion = (corners) => corners.length >= 3 && areaOf(corners) > 0;

export function areaOf(corners) {
  const doubled = corners.reduce((sum, [x, y], place) => {
    const [nextX, nextY] = corners[(place + 1) % corners.length];
    return sum + x * nextY - nextX * y;
  }, 0);
  return Math.abs(doubled) / 2;
}

export function contains(corners, [x, y]) {
  let isInside = false;
  corners.forEach(([ax, ay], place) => {
    const [bx, by] = corners[(place + 1) % corners.length];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) isInside = !isInside;
  });
  return isInside;
}

/** All corners moved together, as far as the image goes. */
export function moved(corners, [dx, dy], { columns, rows }) {
  const within = (delta, values, most) => Math.max(-Math.min(...values), Math.min(most - Math.max(...values), delta));
  const x = within(dx, corners.map(([one]) => one), columns), y = within(dy, corners.map(([, one]) => one), rows);
  return corners.map(([column, row]) => [column + x, row + y]);
}

/** One corner at another place, within the image. */
export const withCorner = (corners, at, point, image) => corners.map((one, place) => (place === at ? inside(point, image) : one));
export const inside = ([x, y], { columns, rows }) => [Math.min(columns, Math.max(0, x)), Math.min(rows, Math.max(0, y))];

/** Without one corner; three stay. */
export const withoutCorner = (corners, at) => (corners.length > 3 ? corners.filter((_, place) => place !== at) : corners);

/** With a new corner where the point lies nearest to an edge. */
export function withNewCorner(corners, point) {
  const distances = corners.map((one, place) => distanceTo(point, one, corners[(place + 1) % corners.length]));
  return corners.toSpliced(distances.indexOf(Math.min(...distances)) + 1, 0, point);
}

function distanceTo([x, y], [ax, ay], [bx, by]) {
  const long = (bx - ax) ** 2 + (by - ay) ** 2;
  const share = long ? Math.min(1, Math.max(0, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / long)) : 0;
  return Math.hypot(x - ax - share * (bx - ax), y - ay - share * (by - ay));
}

/** The corner within reach of a point, -1: none. */
export function cornerAt(corners, [x, y], reach) {
  const distances = corners.map(([a, b]) => Math.hypot(x - a, y - b));
  const nearest = Math.min(...distances);
  return nearest <= reach ? distances.indexOf(nearest) : -1;
}

/** A square in the middle of what is seen, to begin with where nobody draws with a pointer. */
export function squareAt([x, y], side, image) {
  const half = side / 2;
  return moved([[x - half, y - half], [x + half, y - half], [x + half, y + half], [x - half, y + half]], [0, 0], image);
}
