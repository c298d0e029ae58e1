// A region being drawn or changed on an image: by pointer, and by keyboard alone.

import { closed, contains, cornerAt, inside, isRegion, moved, opened, squareAt, withCorner, withNewCorner, withoutCorner } from "./polygon.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const FAST = 10;

export class RegionEditor {
  /** `image` is the one it lies on; without `points` it begins with what is drawn. `changed` hears of each change. */
  constructor(image, points, changed) {
    Object.assign(this, { image, corners: opened(points ?? []), changed, taken: null, corner: -1 });
    this.isDrawing = !this.corners.length;
  }

  isOn(image) {
    return Boolean(image) && image.sop === this.image.sop && image.frame === this.image.frame;
  }

  /** What is to be seen of it. */
  drawn() {
    return { corners: this.corners, isChosen: true, chosenCorner: this.corner, isOpen: this.isDrawing };
  }

  /** The region as it is stored; `null` while it is none. */
  region() {
    if (!isRegion(this.corners)) return null;
    const rounded = this.corners.map((point) => point.map((one) => Math.round(one * 100) / 100));
    return { sop_instance_uid: this.image.sop, frame_number: this.image.frames > 1 ? this.image.frame : null, points_xy_px: closed(rounded) };
  }

  /** Take what lies under the pointer; false where nothing of it does. */
  down(point, reach, image) {
    if (!this.isOn(image)) return false;
    const corner = cornerAt(this.corners, point, reach);
    if (this.isDrawing) return this.#draw(point, corner);
    this.corner = corner;
    if (corner >= 0) this.taken = { corner };
    else if (contains(this.corners, point)) this.taken = { last: point };
    else return false;
    return true;
  }

  /** The first corner again closes it. */
  #draw(point, corner) {
    if (corner === 0 && isRegion(this.corners)) return this.finish(), true;
    this.corners = [...this.corners, inside(point, this.image)];
    this.taken = { corner: this.corners.length - 1, isTrace: true };
    this.changed();
    return true;
  }

  drag(point) {
    if (!this.taken) return;
    if (this.taken.isTrace) this.#trace(point);
    else if (this.taken.corner >= 0) this.corners = withCorner(this.corners, this.taken.corner, point, this.image);
    else {
      this.corners = moved(this.corners, [point[0] - this.taken.last[0], point[1] - this.taken.last[1]], this.image);
      this.taken.last = point;
    }
    this.changed();
  }

  /** Drawing without lifting the pointer: a corner wherever it has gone far enough. */
  #trace(point) {
    const [x, y] = this.corners.at(-1);
    if (Math.hypot(point[0] - x, point[1] - y) < Math.max(2, this.image.columns / 60)) return;
    this.taken.hasMoved = true;
    this.corners = [...this.corners, inside(point, this.image)];
  }

  up() {
    if (this.taken?.hasMoved && isRegion(this.corners)) this.finish();
    this.taken = null;
  }

  finish() {
    this.isDrawing = false;
    this.changed();
  }

  /** Begin in the middle of what is seen, with a square that arrows then move. */
  begin(middle, side) {
    this.corners = squareAt(middle, side, this.image);
    this.corner = -1;
    this.finish();
  }

  /** Arrows move it, or the corner that Tab has chosen; Insert and Delete add and take corners; Enter closes. */
  key(event, image) {
    if (!this.isOn(image) || !this.corners.length) return false;
    const arrow = ARROWS[event.key], step = event.shiftKey ? FAST : 1;
    if (event.key === "Enter" && this.isDrawing && isRegion(this.corners)) this.finish();
    else if (arrow && !this.isDrawing) this.#moveBy(arrow.map((one) => one * step));
    else if (event.key === "n" || event.key === "N") this.#choose(event.key === "n" ? 1 : -1);
    else if (event.key === "Insert" && this.corner >= 0) this.#insert();
    else if ((event.key === "Delete" || event.key === "Backspace") && this.corner >= 0) this.#delete();
    else return false;
    return true;
  }

  #moveBy(by) {
    const [x, y] = this.corners[this.corner] ?? [];
    this.corners = this.corner < 0 ? moved(this.corners, by, this.image)
      : withCorner(this.corners, this.corner, [x + by[0], y + by[1]], this.image);
    this.changed();
  }

  /** The next corner, or the one before; after the last the whole region. */
  #choose(by) {
    const places = this.corners.length + 1;
    this.corner = ((this.corner + 1 + by + places) % places) - 1;
    this.changed();
  }

  #insert() {
    const [ax, ay] = this.corners[this.corner], [bx, by] = this.corners[(this.corner + 1) % this.corners.length];
    this.corners = withNewCorner(this.corners, [(ax + bx) / 2, (ay + by) / 2]);
    this.corner += 1;
    this.changed();
  }

  #delete() {
    this.corners = withoutCorner(this.corners, this.corner);
    this.corner = -1;
    this.changed();
  }
}
