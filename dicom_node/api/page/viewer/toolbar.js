// What stands above the images: series, tool, window, overlays, and what is put beside.

import { dicomDate, el } from "../dom.js";
import { STRINGS } from "../strings.js";
import { PRESETS, wordsOf } from "./viewport.js";

const SAY = STRINGS.viewer;

const OWN = "own-"; // before the place of a window or table of the image
const LAYERS = { showsMasks: ["masks", "s"], showsRegions: ["regions", "o"] };

/** The bar of a `Reading`: its element, and how it is told what has changed. */
export function toolbar(reading) {
  const series = el("select", { id: "reading-series", onchange: () => reading.showSeries(series.value) });
  const beside = el("select", { id: "reading-beside", onchange: () => reading.compare(beside.value) }, el("option", { value: "" }, SAY.nothingBeside),
    reading.result.artifacts.some((one) => one.has_preview) && el("option", { value: "pictures" }, SAY.pictures));
  const presets = el("select", { id: "reading-window", onchange: () => { chooseWindow(reading.main, presets.value); presets.value = ""; } },
    windowOptions([], "CT"));
  const layers = Object.fromEntries(Object.entries(LAYERS).map(([name, [words, key]]) => [name, layerBox(reading, name, SAY.layer[words], key)]));
  const loaded = el("span", { class: "dim loaded" });
  const element = el("div", { class: "reading-bar", role: "toolbar", "aria-label": SAY.images },
    el("label", {}, SAY.series, series), tools(reading), el("label", {}, SAY.presets, presets),
    el("button", { type: "button", class: "quiet small", onclick: () => reading.main.invert() }, SAY.invert),
    el("button", { type: "button", class: "quiet small", onclick: () => reading.main.fit() }, SAY.fit),
    Object.values(layers), el("label", {}, SAY.beside, beside), loaded);
  return {
    element,
    offerSeries: (found, chosen) => series.replaceChildren(...found.map((one) => el("option", { value: one.uid, selected: one.uid === chosen }, nameOf(one)))),
    offerPriors: (priors) => beside.append(...priors.map((one, place) => el("option", { value: String(place) }, SAY.prior(dicomDate(one.date), one.description)))),
    besideIs: (what) => { beside.value = what; },
    layerIs: (name, isOn) => { layers[name].querySelector("input").checked = isOn; },
    offerWindows: (own, modality) => presets.replaceChildren(...windowOptions(own, modality)),
    loadedIs: (here, all) => { loaded.textContent = SAY.loaded(here, all); },
  };
}

const nameOf = (one) => `${one.description || one.modality} (${one.images})`;

function chooseWindow(viewport, key) {
  if (key === "0") viewport.resetWindow();
  else if (key.startsWith(OWN)) viewport.chooseOwn(Number(key.slice(OWN.length)));
  else if (key) viewport.preset(key);
}

/** What the image asks for first, all that it brings where that is more than one, and the windows that every CT has. */
function windowOptions(own, modality) {
  const option = (value, words) => el("option", { value }, words);
  return [option("", "…"), option("0", SAY.presetOf.image),
    own.length > 1 && el("optgroup", { label: SAY.ownWindows }, own.map((one, place) => option(`${OWN}${place}`, wordsOf(one)))),
    ...(modality === "CT" ? Object.entries(PRESETS).map(([key, [name]]) => option(key, SAY.presetOf[name])) : [])].filter(Boolean);
}

const layerBox = (reading, name, words, key) => el("label", { class: "check" },
  el("input", { type: "checkbox", id: `layer-${name}`, checked: true, "aria-keyshortcuts": key, onchange: () => reading.toggle(name) }), " ", words);

function tools(reading) {
  return el("fieldset", { class: "tools" }, el("legend", { class: "unseen" }, SAY.tools), Object.entries(SAY.tool).map(([tool, words], place) =>
    el("label", { class: "check" }, el("input", { type: "radio", name: "reading-tool", value: tool, checked: place === 0, onchange: () => reading.setTool(tool) }), " ", words)));
}
