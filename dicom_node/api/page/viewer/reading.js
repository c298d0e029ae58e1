// The window in which a study is read: its images, its result over them, what to compare with, and the review.

import { get, may } from "../api.js";
import { dicomDate, el } from "../dom.js";
import { STRINGS } from "../strings.js";
import { nameOf, textOf } from "./dataset.js";
import { describes, loadFrame, seriesOf, stackOf } from "./dicomweb.js";
import { RegionEditor } from "./editor.js";
import { Frames } from "./frames.js";
import { Layers } from "./layers.js";
import { reviewTag } from "../verified.js";
import { loadPicture, picturesOf } from "./pictures.js";
import { priorsOf } from "./priors.js";
import { ReviewPanel } from "./review.js";
import { undrawnOf } from "./segments.js";
import { toolbar } from "./toolbar.js";
import { Viewport } from "./viewport.js";

const SAY = STRINGS.viewer;

/** No pictures to scroll through, or drawn by the page itself. */
const NO_STACK = new Set(["SR", "SEG", "PR", "KO", "DOC", "RTSTRUCT", "REG", "RWV", "PLAN"]);

export class Reading {
  constructor(view, result) {
    Object.assign(this, { view, result, study: view.study.study_instance_uid, beside: "", priors: [], editedKey: "" });
    const reviewed = view.results.find((one) => one.job_key === result.review_of);
    // A result that tells a review has no pictures and masks of its own: they are those of the one that was reviewed.
    this.artifacts = [...result.artifacts, ...(reviewed?.artifacts ?? [])];
    this.frames = new Frames({ load: (image) => (image.url ? loadPicture(image) : loadFrame(image)), kept: () => this.#tellSoon() });
    this.layers = new Layers();
    this.layers.told = () => this.#tellUndrawn();
    this.main = new Viewport(this.frames, { label: SAY.images, layers: this.layers });
    this.second = new Viewport(this.frames, { label: SAY.priorImages, layers: null });
    this.second.element.hidden = true;
    this.panel = new ReviewPanel(result, this, () => this.#again());
    this.bar = toolbar(this);
    this.main.offers = (own, modality) => this.bar.offerWindows(own, modality);
    this.dialog = this.#dialog();
  }

  #dialog() {
    return el("dialog", { class: "reading", "aria-labelledby": "reading-title", onclose: () => this.#ended(), oncancel: (event) => event.preventDefault() },
      el("header", { class: "reading-head" },
        el("div", {}, el("h1", { id: "reading-title" }, SAY.title(this.view.study.description)), el("p", { class: "patient" }, "…"), el("ul", { class: "undrawn", role: "status", "aria-label": SAY.undrawn, hidden: true })),
        this.tag = reviewTag(this.result),
        el("button", { type: "button", class: "quiet small", id: "reading-help", "aria-expanded": "false", onclick: () => this.#help() }, SAY.help, " ", el("kbd", { "aria-hidden": "true" }, "?")),
        el("button", { type: "button", class: "quiet small", id: "reading-close", onclick: () => this.leave() }, SAY.close)),
      this.bar.element,
      el("dl", { class: "reading-keys", hidden: true }, SAY.keys.map(([key, words]) => el("div", {}, el("dt", {}, el("kbd", {}, key)), el("dd", {}, words)))),
      el("div", { class: "reading-body" }, el("div", { class: "viewports" }, this.main.element, this.second.element), this.panel.element));
  }

  /** Show it; `decision` is what is asked at once. */
  open(decision) {
    document.body.append(this.dialog);
    this.dialog.showModal();
    // Of the whole page: after a click beside everything nothing has the focus.
    this.listening = (event) => this.#key(event);
    document.addEventListener("keydown", this.listening);
    this.main.element.focus();
    this.panel.begin().then(() => { if (decision && this.panel.mayDecide) this.panel.ask(decision); });
    this.#load().catch((problem) => this.#fault(problem));
  }

  leave() {
    this.dialog.close();
  }

  #ended() {
    document.removeEventListener("keydown", this.listening);
    this.frames.stop();
    this.panel.end();
    this.dialog.remove();
    Reading.current = null;
    document.getElementById("detail")?.focus({ preventScroll: true });
  }

  async #load() {
    const series = (await seriesOf(this.study)).map(describes);
    const mine = new Set(this.artifacts.map((one) => one.series_instance_uid));
    this.series = series.filter((one) => !NO_STACK.has(one.modality) && !mine.has(one.uid));
    if (!this.series.length) return this.#fault({ message: SAY.noSeries });
    const chosen = this.view.jobs.find((job) => job.job_key === (this.result.review_of || this.result.job_key))?.series_instance_uid;
    const first = this.series.find((one) => one.uid === chosen) ?? this.series[0];
    this.bar.offerSeries(this.series, first.uid);
    const masks = series.filter((one) => one.modality === "SEG" && mine.has(one.uid)).map((one) => one.uid);
    await Promise.all([this.showSeries(first.uid), this.layers.loadSegmentations(this.study, masks).then(() => { this.panel.masksAreKnown(); this.main.draw(); })]);
    this.#tellUndrawn();
    this.priors = await priorsOf(this.header, this.study).catch(() => []);
    this.bar.offerPriors(this.priors);
  }

  async showSeries(uid) {
    const { header, images } = await stackOf(this.study, uid);
    this.header = header;
    this.#tellPatient();
    const region = this.panel.draft.findings.find((one) => one.region)?.region;
    const marked = region ? images.findIndex((one) => isOn(region, one)) : -1;
    this.#tellUndrawn(images);
    await this.main.show(images, marked >= 0 ? marked : undefined);
  }

  /** Say which segmentations are not drawn over these images, and why: who sees no outline would take it for no finding. */
  #tellUndrawn(images = this.main.stack) {
    const told = undrawnOf(this.layers.masks, images).map(({ labels, reason, mask, image }) => SAY.undrawnFor[reason](labels.join(", "), mask, image));
    for (const { labels, why } of this.layers.faults.values()) told.push(SAY.masksNotLoaded(labels.join(", "), why));
    const place = this.dialog.querySelector(".undrawn");
    place.replaceChildren(...told.map((words) => el("li", {}, words)));
    place.hidden = !told.length;
  }

  #tellPatient() {
    const facts = [nameOf(this.header, "00100010") || SAY.noPatient, textOf(this.header, "00100020"), dicomDate(textOf(this.header, "00100030")), textOf(this.header, "00100040"),
      dicomDate(textOf(this.header, "00080020")), textOf(this.header, "00080050")];
    this.dialog.querySelector(".patient").textContent = facts.filter(Boolean).join(" · ");
  }

  /** Put something beside the images: "", "pictures", or the number of a prior. */
  async compare(what) {
    this.beside = what;
    this.second.element.hidden = !what;
    this.main.link(null);
    this.bar.besideIs(what);
    if (!what) return;
    try {
      if (what === "pictures") return await this.second.show(await picturesOf(this.artifacts), 0);
      const prior = this.priors[Number(what)];
      const { images } = await stackOf(prior.study, prior.series);
      if (this.beside !== what) return;
      await this.second.show(images);
      this.main.link(this.second);
    } catch (problem) {
      this.#fault(problem);
    }
  }

  toggle(layer) {
    this.layers[layer] = !this.layers[layer];
    this.bar.layerIs(layer, this.layers[layer]);
    this.main.draw();
  }

  setTool(tool) {
    this.main.tool = this.second.tool = tool;
  }

  // --- what the panel asks of the images

  show(findings) {
    this.layers.setRegions(findings, this.editedKey);
    this.main.draw();
  }

  canShow(finding) {
    return Boolean(finding.region || this.layers.masks.length && finding.segment_number);
  }

  /** The image with the region of a finding, or one in the middle of its mask. */
  goTo(finding) {
    const { region, segment_number: segment } = finding;
    const masks = this.layers.masks.filter((one) => one.segment === segment);
    const sop = region?.sop_instance_uid ?? masks[Math.floor(masks.length / 2)]?.onSop;
    const place = this.main.stack.findIndex((one) => (region ? isOn(region, one) : one.sop === sop));
    if (place >= 0) this.main.moveTo(place);
  }

  /** Let the region of a finding be changed on the image it lies on, or drawn on the one that is shown; `null`: none. */
  edit(finding, changed = () => {}) {
    this.editedKey = finding?.key ?? "";
    this.main.editor = null;
    if (finding) {
      const image = finding.region ? this.main.stack.find((one) => isOn(finding.region, one)) : this.main.shown;
      if (!image) return;
      this.goTo(finding);
      const editor = new RegionEditor(image, finding.region?.points_xy_px, () => { const isNew = !finding.region; changed(editor.region(), isNew); this.main.draw(); });
      this.main.editor = editor;
    }
    this.main.draw();
  }

  beginSquare() {
    const { shown } = this.main;
    this.main.editor?.begin([shown.columns / 2, shown.rows / 2], Math.min(shown.columns, shown.rows) / 5);
  }

  focus() {
    this.main.element.focus();
  }

  // --- keys and words

  #key(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const isTyping = event.target.closest("input:not([type=checkbox], [type=radio]), select, textarea");
    if (event.key !== "Escape" && isTyping) return;
    if (this.panel.key(event) || this.#ownKey(event) || this.main.key(event)) event.preventDefault();
  }

  #ownKey(event) {
    const acts = {
      "?": () => this.#help(), s: () => this.toggle("showsMasks"), o: () => this.toggle("showsRegions"),
      h: () => this.compare(this.beside === "pictures" ? "" : "pictures"), x: () => this.compare(""),
      p: () => this.priors.length && this.compare(this.beside === "0" ? "" : "0"), Escape: () => this.leave(),
    };
    // A slider or a button has arrows and Enter of its own.
    if (!acts[event.key]) return false;
    acts[event.key]();
    return true;
  }

  #help() {
    const keys = this.dialog.querySelector(".reading-keys");
    keys.hidden = !keys.hidden;
    this.dialog.querySelector("#reading-help").setAttribute("aria-expanded", String(!keys.hidden));
  }

  #tellSoon() {
    this.telling ??= setTimeout(() => { this.telling = null; this.#tell(); }, 100);
  }

  #tell() {
    this.bar.loadedIs(this.frames.countOf(this.main.stack), this.main.stack.length);
  }

  #fault(problem) {
    this.main.texts.wait.textContent = problem.message;
  }

  /** The result as it stands after a decision. */
  async #again() {
    const view = await get(`/api/v1/studies/${this.study}`);
    const result = view.results.find((one) => one.job_key === this.result.job_key);
    const tag = reviewTag(result);
    this.tag.replaceWith(tag);
    this.tag = tag;
    return result;
  }
}

const isOn = (region, image) => region.sop_instance_uid === image.sop && (region.frame_number ?? 1) === image.frame;

/** The window that is open, `null` for none. */
Reading.current = null;

export function openReading(view, result, decision = "") {
  if (Reading.current || !may("read")) return;
  Reading.current = new Reading(view, result);
  Reading.current.open(may("review") ? decision : "");
}
