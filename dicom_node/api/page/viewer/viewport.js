// One stack of images on a canvas: scroll, window, zoom, pan; letters, numbers and ruler around it, overlays on it.

import { el } from "../dom.js";
import { STRINGS } from "../strings.js";
import { depthOf, edgesOf, fitted, nearestTo, panned, rulerOf, toImage, toScreen, zoomed } from "./geometry.js";
import { listen } from "./gestures.js";
import { byNumbers, greyTable, ownWindows, paintColour, paintGrey, valueAt, windowOf } from "./pixels.js";

const SAY = STRINGS.viewer;

/** Windows for CT by key, centre and width in HU. */
export const PRESETS = { 1: ["lung", -600, 1500], 2: ["mediastinum", 40, 400], 3: ["bone", 400, 1800], 4: ["brain", 40, 80], 5: ["liver", 60, 160] };
const SCROLL_PX = 12; // of a drag, for one image
const REACH_PX = 9; // within which a corner is taken
const MANY_CORNERS = 24; // have smaller marks

export class Viewport {
  constructor(frames, { label, layers }) {
    Object.assign(this, { frames, layers, stack: [], place: 0, tool: "window", editor: null, linked: null, offset: 0, leads: null, own: [], offers: () => {} });
    Object.assign(this, { frame: null, shown: null, view: null, window: null, isInverted: false, dragged: 0 });
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.back = document.createElement("canvas");
    this.texts = Object.fromEntries(["where", "window", "value", "left", "right", "top", "bottom", "wait"].map(
      (name) => [name, el("span", { class: `at-${name}` })]));
    this.texts.where.setAttribute("role", "status");
    this.element = el("div", { class: "viewport", tabindex: 0, role: "application", "aria-roledescription": SAY.imageViewer, "aria-label": label },
      this.canvas, Object.values(this.texts));
    this.element.addEventListener("keydown", (event) => { if (this.key(event)) { event.preventDefault(); event.stopPropagation(); } });
    listen(this.element, this.#gestures());
    new ResizeObserver(() => this.#resized()).observe(this.element);
  }

  get image() {
    return this.stack[this.place];
  }

  /** Show other images; the window is theirs, the zoom fits them. */
  show(images, place = Math.floor(images.length / 2)) {
    Object.assign(this, { stack: images, place: 0, view: null, window: null, own: [], isInverted: false, frame: null, shown: null });
    this.offers([], "");
    this.texts.wait.textContent = images.length ? "" : SAY.noImages;
    return images.length ? this.moveTo(place) : this.draw();
  }

  async moveTo(place) {
    this.place = Math.min(this.stack.length - 1, Math.max(0, place));
    const image = this.image;
    const ready = this.frames.peek(image);
    this.element.dataset.place = this.place;
    this.texts.where.textContent = SAY.imageOf(this.place + 1, this.stack.length);
    if (ready) this.#take(image, ready);
    else {
      this.texts.wait.textContent = SAY.loading;
      try {
        const frame = await this.frames.get(image);
        if (this.image === image) this.#take(image, frame);
      } catch (problem) {
        if (this.image === image) this.texts.wait.textContent = problem.message;
      }
    }
    if (this.image === image) this.frames.prefetch(this.stack, this.place);
  }

  scroll(by) {
    if (!this.stack.length) return;
    const done = this.moveTo(this.place + by);
    this.#follow();
    return done;
  }

  /** Scroll another viewport along, to what lies nearest; `null`: none. Who scrolls that one by itself shifts the two. */
  link(other) {
    if (this.linked) this.linked.leads = null;
    Object.assign(this, { linked: other, offset: 0 });
    if (!other) return;
    other.leads = this;
    this.#follow();
    if (this.window && other.shown?.modality === this.shown?.modality) other.setWindow(this.window);
  }

  #follow() {
    if (this.leads) this.leads.offset = (depthOf(this.image) ?? 0) - (depthOf(this.leads.image) ?? 0);
    const depth = this.linked && depthOf(this.image);
    if (depth === null || !this.linked?.stack.length) return;
    const place = nearestTo(this.linked.stack, depth + this.offset);
    if (place !== null && place !== this.linked.place) this.linked.moveTo(place);
  }

  #take(image, frame) {
    Object.assign(this, { frame, shown: image });
    if (!this.window && frame.values && image.samples === 1) {
      this.window = windowOf(image, frame.values, frame.tables);
      this.own = ownWindows(image, frame.tables);
      this.offers(this.own, image.modality);
    }
    this.texts.wait.textContent = "";
    this.#paint();
  }

  setWindow(window) {
    if (this.#isRendered()) return; // the node has windowed it: numbers would say what is not so
    this.window = window;
    if (this.linked?.window && this.linked.shown?.modality === this.shown?.modality) this.linked.setWindow(window);
    this.#paint();
  }

  /** Whether what is shown is the node's picture: of colours that the page does not know, or of more than 16 bits. */
  #isRendered() {
    return Boolean(this.frame?.picture && this.shown && !this.shown.url);
  }

  preset(key) {
    if (this.shown?.modality !== "CT" || !PRESETS[key]) return;
    const [name, center, width] = PRESETS[key];
    this.setWindow({ center, width, shape: "LINEAR", name });
  }

  resetWindow() {
    if (!this.frame?.values || this.shown.samples > 1) return;
    this.isInverted = false;
    this.setWindow(windowOf(this.shown, this.frame.values, this.frame.tables));
  }

  /** Show the image by one of the tables and windows that it brings. */
  chooseOwn(place) {
    if (this.own[place]) this.setWindow({ ...this.own[place] });
  }

  /** The next of them, for whoever looks through all. */
  nextOwn() {
    const now = this.own.findIndex((one) => one.table === this.window?.table && one.center === this.window.center && one.width === this.window.width);
    if (this.own.length) this.chooseOwn((now + 1) % this.own.length);
  }

  /** Change the window by hand, from whatever is shown by now: `change` gets centre and width. */
  adjust(change) {
    if (!this.window || !this.frame?.values) return;
    const now = byNumbers(this.#windowFor(this.shown), this.frame.tables);
    this.setWindow({ ...now, name: "", ...change(now) });
  }

  /** A table is that of each image; one that has none is shown by what it asks for itself. */
  #windowFor(image) {
    const { tables, values } = this.frame;
    return this.window.table === undefined || tables?.voi[this.window.table] ? this.window : windowOf(image, values, tables);
  }

  invert() {
    this.isInverted = !this.isInverted;
    this.#paint();
  }

  fit() {
    this.view = this.shown && fitted(this.shown, this.element.clientWidth, this.element.clientHeight);
    this.draw();
  }

  zoom(factor, at = [this.element.clientWidth / 2, this.element.clientHeight / 2]) {
    if (this.view) this.view = zoomed(this.view, factor, at);
    this.draw();
  }

  pan(dx, dy) {
    if (this.view) this.view = panned(this.view, dx, dy);
    this.draw();
  }

  /** What a key does; whether it does anything. */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.stack.length) return false;
    if (this.editor?.key(event, this.shown)) return this.draw(), true;
    const act = event.shiftKey && PANS[event.key] ? () => this.pan(...PANS[event.key]) : KEYS[event.key];
    if (!act) return false;
    act(this);
    return true;
  }

  #gestures() {
    return {
      down: (at) => {
        this.element.focus({ preventScroll: true });
        this.dragged = 0;
        return this.view && this.editor?.down(toImage(this.view, at), REACH_PX / this.view.scale, this.shown) ? "edit" : this.tool;
      },
      drag: (tool, dx, dy, at) => this.view && this.#dragWith(tool, dx, dy, at),
      up: (tool) => { if (tool === "edit") this.editor?.up(); this.draw(); },
      hover: (at) => this.#tellValue(at),
      pinch: (factor, dx, dy, at) => { this.zoom(factor, at); this.pan(dx, dy); },
      wheel: (direction, isZoom, at) => (isZoom ? this.zoom(direction > 0 ? 0.9 : 1 / 0.9, at) : this.scroll(direction)),
    };
  }

  #dragWith(tool, dx, dy, at) {
    if (tool === "edit") this.editor?.drag(toImage(this.view, at), this.shown), this.draw();
    else if (tool === "pan") this.pan(dx, dy);
    else if (tool === "zoom") this.zoom(Math.exp(-dy / 150));
    else if (tool === "window") this.#dragWindow(dx, dy);
    else if (tool === "scroll") {
      this.dragged += dy;
      const by = Math.trunc(this.dragged / SCROLL_PX);
      this.dragged -= by * SCROLL_PX;
      if (by) this.scroll(by);
    }
  }

  #dragWindow(dx, dy) {
    this.adjust(({ center, width }) => {
      const step = Math.max(0.5, width / 250);
      return { width: Math.max(1, width + dx * step), center: center + dy * step };
    });
  }

  #tellValue(at) {
    if (!this.view || !this.frame?.values || this.shown.samples > 1) return;
    const [column, row] = toImage(this.view, at).map(Math.floor);
    const isInside = column >= 0 && row >= 0 && column < this.shown.columns && row < this.shown.rows;
    this.texts.value.textContent = isInside
      ? SAY.valueAt(column, row, Math.round(valueAt(this.frame.values, this.shown, column, row, this.frame.tables) * 10) / 10, this.shown.modality) : "";
  }

  #resized() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.element;
    if (!width || !height) return;
    Object.assign(this.canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    this.view = this.shown && fitted(this.shown, width, height);
    this.#drawNow();
  }

  /** Window the frame into the picture that is scaled onto the screen. */
  #paint() {
    const { shown: image, frame } = this;
    if (!frame) return;
    if (this.back.width !== image.columns || this.back.height !== image.rows) {
      Object.assign(this.back, { width: image.columns, height: image.rows });
      this.pixels = null;
      this.view = null;
    }
    const context = this.back.getContext("2d", { willReadFrequently: true });
    if (frame.picture) context.drawImage(frame.picture, 0, 0, image.columns, image.rows);
    else {
      this.pixels ??= context.createImageData(image.columns, image.rows);
      const screen = new Uint32Array(this.pixels.data.buffer);
      if (image.samples > 1) paintColour(frame.values, image, screen);
      else paintGrey(frame.values, this.#table(image), screen);
      context.putImageData(this.pixels, 0, 0);
    }
    if (!this.view && this.element.clientWidth) this.view = fitted(image, this.element.clientWidth, this.element.clientHeight);
    this.draw();
  }

  /** The greys are the same for all images of one scale: they are reckoned anew only for another window. */
  #table(image) {
    const { tables } = this.frame;
    const now = this.#windowFor(image);
    const key = JSON.stringify([now, tables?.key, this.isInverted, image.slope, image.intercept, image.bits, image.stored, image.signed, image.photometric, image.look, image.padding]);
    if (this.tableKey !== key) Object.assign(this, { tableKey: key, table: greyTable(image, now, this.isInverted, tables) });
    return this.table;
  }

  /** Draw with the next picture of the screen. */
  draw() {
    this.drawing ??= requestAnimationFrame(() => { this.drawing = null; this.#drawNow(); });
  }

  #drawNow() {
    const context = this.canvas.getContext("2d");
    const ratio = window.devicePixelRatio || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.view || !this.shown) return this.#tell();
    const { scale, aspect, x, y } = this.view;
    context.setTransform(scale * ratio, 0, 0, scale * aspect * ratio, x * ratio, y * ratio);
    context.imageSmoothingEnabled = scale < 8;
    context.drawImage(this.back, 0, 0);
    context.imageSmoothingEnabled = false;
    for (const mask of this.layers?.masksOn(this.shown, () => this.draw()) ?? []) context.drawImage(mask, 0, 0, this.shown.columns, this.shown.rows);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    for (const region of this.layers?.regionsOn(this.shown) ?? []) drawRegion(context, this.view, region);
    if (this.editor?.isOn(this.shown)) drawRegion(context, this.view, this.editor.drawn());
    drawRuler(context, rulerOf(this.shown, this.view, this.element.clientWidth / 4), this.element);
    this.#tell();
    this.element.dataset.shown = `${this.shown.sop}/${this.shown.frame}`;
  }

  #tell() {
    const { shown: image, window: now } = this;
    const edges = (image && edgesOf(image)) ?? {};
    for (const side of ["left", "right", "top", "bottom"]) this.texts[side].textContent = edges[side] ?? "";
    this.texts.window.textContent = this.#isRendered() ? SAY.windowStays : now && image ? wordsOf(now) : "";
    for (const name of ["center", "width", "table"]) {
      if (now?.[name] === undefined) delete this.element.dataset[name];
      else this.element.dataset[name] = now[name];
    }
  }
}

/** How a window or a table is called. */
export const wordsOf = (window) => (window.table === undefined ? SAY.windowIs(window.center, window.width, window.name, window.shape) : SAY.tableIs(window.table + 1, window.name));

const PANS = { ArrowLeft: [-40, 0], ArrowRight: [40, 0], ArrowUp: [0, -40], ArrowDown: [0, 40] };
const windowBy = (dx, dy) => (view) => view.adjust(({ center, width }) => (
  { width: Math.max(1, width * (1 + dx / 20)), center: center + (dy * width) / 40 }));

const KEYS = {
  ArrowUp: (view) => view.scroll(-1), ArrowDown: (view) => view.scroll(1), PageUp: (view) => view.scroll(-10), PageDown: (view) => view.scroll(10),
  Home: (view) => view.scroll(-view.stack.length), End: (view) => view.scroll(view.stack.length),
  "+": (view) => view.zoom(1.25), "=": (view) => view.zoom(1.25), "-": (view) => view.zoom(0.8), f: (view) => view.fit(),
  i: (view) => view.invert(), 0: (view) => view.resetWindow(), w: (view) => view.nextOwn(),
  "[": windowBy(-1, 0), "]": windowBy(1, 0), ",": windowBy(0, -1), ".": windowBy(0, 1),
  ...Object.fromEntries(Object.keys(PRESETS).map((key) => [key, (view) => view.preset(key)])),
};

function drawRegion(context, view, { corners, label = "", isChosen = false, chosenCorner = -1, isOpen = false }) {
  if (!corners.length) return;
  const points = corners.map((one) => toScreen(view, one));
  context.beginPath();
  points.forEach(([x, y], place) => (place ? context.lineTo(x, y) : context.moveTo(x, y)));
  if (!isOpen) context.closePath();
  for (const [width, colour] of [[4, "#000a"], [2, isChosen ? "#ffd24d" : "#5fe0f0"]]) {
    Object.assign(context, { lineWidth: width, strokeStyle: colour, lineJoin: "round" });
    context.stroke();
  }
  const half = points.length > MANY_CORNERS ? 2.5 : 4;
  if (isChosen) points.forEach(([x, y], place) => drawCorner(context, [x, y], place === chosenCorner ? 6 : half, place === chosenCorner));
  if (label) drawLabel(context, label, Math.max(...points.map(([x]) => x)) + 6, Math.min(...points.map(([, y]) => y)));
}

function drawCorner(context, [x, y], half, isTaken) {
  context.fillStyle = isTaken ? "#fff" : "#ffd24d";
  context.fillRect(x - half, y - half, 2 * half, 2 * half);
}

function drawLabel(context, text, x, y) {
  Object.assign(context, { font: "600 13px system-ui, sans-serif", lineWidth: 4, strokeStyle: "#000c", fillStyle: "#fff", textBaseline: "top" });
  context.strokeText(text, x, y);
  context.fillText(text, x, y);
}

function drawRuler(context, ruler, { clientWidth, clientHeight }) {
  if (!ruler) return;
  const left = (clientWidth - ruler.px) / 2, y = clientHeight - 30;
  Object.assign(context, { lineWidth: 2, strokeStyle: "#fff" });
  context.beginPath();
  for (const [fromX, fromY, x, to] of [[left, y, left + ruler.px, y], [left, y - 5, left, y + 5], [left + ruler.px, y - 5, left + ruler.px, y + 5]]) {
    context.moveTo(fromX, fromY);
    context.lineTo(x, to);
  }
  context.stroke();
  drawLabel(context, SAY.mm(ruler.mm), left + ruler.px + 8, y - 7);
}
