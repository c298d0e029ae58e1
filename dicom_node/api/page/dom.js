// Builds elements and words. Everything from outside becomes text, never markup: there is no innerHTML on this page.

import { STRINGS } from "./strings.js";

const SAY = STRINGS.common;

export const byId = (id) => document.getElementById(id);

/** Which words an element of the HTML asks for by their name: its own, and those of its attributes. */
const ASKED_BY = { "data-say": null, "data-say-label": "aria-label", "data-say-hint": "placeholder" };

/** Give the HTML its words, and show it: what asks for them stands hidden until then, so that nothing jumps. */
export function fillWords() {
  for (const [asking, attribute] of Object.entries(ASKED_BY)) {
    for (const node of document.querySelectorAll(`[${asking}]`)) {
      const said = node.getAttribute(asking).split(".").reduce((words, key) => words[key], STRINGS);
      if (attribute) node.setAttribute(attribute, said);
      else node.textContent = said;
    }
  }
  document.documentElement.lang = STRINGS.language;
  document.documentElement.classList.remove("unsaid");
}

/** Let somebody choose among the languages of the page, each by its own name; the browser keeps it, and the page is made anew. */
export function offerLanguages(select) {
  const { languages = "" } = document.documentElement.dataset;
  const nameOf = (language) => new Intl.DisplayNames([language], { type: "language" }).of(language);
  select.append(...languages.split(" ").filter(Boolean).map((one) => el("option", { value: one, lang: one, selected: one === STRINGS.language }, nameOf(one))));
  select.addEventListener("change", () => {
    const secure = location.protocol === "https:" ? "; secure" : "";
    document.cookie = `language=${select.value}; path=/; max-age=31536000; samesite=strict${secure}`;
    location.reload();
  });
}

/** Make an element: properties, then children (strings become text nodes, null and false are left out). */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") node.className = value;
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function table(label, heads, rows) {
  const head = el("tr", {}, heads.map((text) => (text ? el("th", { scope: "col" }, text) : el("td"))));
  const body = rows.map((cells) => el("tr", {}, cells.map((cell) => (cell instanceof HTMLTableCellElement ? cell : el("td", {}, cell)))));
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
    el("table", {}, el("thead", {}, head), el("tbody", {}, body)));
}

export function more(key, title, ...children) {
  return el("details", { data: { key } }, el("summary", {}, title), children);
}

/** Replace what `place` holds, but keep opened details open and the focus where it was. */
export function replace(place, ...children) {
  const open = new Set([...place.querySelectorAll("details[open]")].map((d) => d.dataset.key));
  const focused = place.contains(document.activeElement) ? document.activeElement.id : "";
  place.replaceChildren(...children.flat(Infinity).filter(Boolean));
  for (const details of place.querySelectorAll("details")) details.open = open.has(details.dataset.key);
  if (focused) byId(focused)?.focus({ preventScroll: true });
}

const TONES = {
  RECEIVING: "busy", COMPLETE: "busy", ANALYSING: "busy", REPORTED: "good", NOT_ANALYSED: "warn", FAILED: "bad",
  QUEUED: "busy", RUNNING: "busy", DONE: "good", PARTIAL: "warn", NOT_ANALYSABLE: "warn", SUPERSEDED: "idle",
  PENDING: "busy", SENT: "good", COMMITTED: "good", PARKED: "bad", DISCARDED: "idle", AWAITS_SECOND: "busy", DECIDED: "busy",
  LIVE: "good", MODEL_UNUSABLE: "bad", MODEL_NOT_ACCEPTED: "bad", MODEL_ALTERED: "bad", MODEL_NOT_ACTIVATED: "warn",
  MODEL_NOT_CONFINED: "bad", DISABLED: "idle", REVOKED: "idle", ACKNOWLEDGED: "busy",
};

/** NOT_ANALYSED → Not analysed */
export const words = (state) => STRINGS.code(state);

export const chip = (state) => el("span", { class: "chip", data: { tone: TONES[state] ?? "idle" } }, words(state));

/** A number as the language of the page writes it. */
export const numberText = (value, options) => value.toLocaleString(STRINGS.locale, options);

export const toneOf = (state) => TONES[state] ?? "idle";

const FULL = new Intl.DateTimeFormat(STRINGS.locale, { dateStyle: "medium", timeStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat(STRINGS.locale, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat(STRINGS.locale, { day: "numeric", month: "short" });

/** A time of today, or of the last months with its day; "full" has the year too, "ago" says how long ago. */
export function when(iso, style = "clock") {
  const at = new Date(iso);
  const today = at.toDateString() === new Date().toDateString();
  const text = style === "full" ? FULL.format(at) : style === "ago" ? ago(at) : today ? CLOCK.format(at) : `${DAY.format(at)} ${CLOCK.format(at)}`;
  return el("time", { datetime: iso, title: FULL.format(at) }, text);
}

export const dateText = (iso) => FULL.format(new Date(iso));

function ago(at) {
  const seconds = Math.max(0, (Date.now() - at) / 1000);
  if (seconds < 60) return SAY.justNow;
  if (seconds < 3600) return SAY.minutesAgo(Math.floor(seconds / 60));
  if (seconds < 86400) return SAY.hoursAgo(Math.floor(seconds / 3600));
  return DAY.format(at);
}

/** 20260314 → 2026-03-14 (DICOM DA) */
export const dicomDate = (text) => text.replace(/^(\d{4})(\d{2})(\d{2})$/, "$1-$2-$3");

export function bytes(number) {
  const units = SAY.sizes;
  const power = Math.min(units.length - 1, Math.floor(Math.log(Math.max(1, number)) / Math.log(1024)));
  const value = number / 1024 ** power;
  return `${numberText(value, { maximumFractionDigits: value < 10 && power ? 1 : 0, minimumFractionDigits: value < 10 && power ? 1 : 0, useGrouping: false })} ${units[power]}`;
}

const UNITS = { "[hnsf'U]": "HU", 1: "", "{ratio}": "", "mm3": "mm³", "cm3": "cm³", "mm2": "mm²" };
export const unitOf = (code) => UNITS[code.value] ?? code.value;
