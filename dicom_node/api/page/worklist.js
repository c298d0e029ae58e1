// The worklist: one line for each study, by urgency, with its patient, what was found, and what keeps its result.

import { byId, chip, dicomDate, el, replace, when, words } from "./dom.js";
import { STRINGS } from "./strings.js";

const SAY = STRINGS.worklist;
const FILTERS = ["state", "urgency", "modality", "station", "model", "review", "since", "until"];
const known = new Map(); // study → last change seen, to show what is new
const place = { behind: [], cursor: "", next: null };

/** What is asked of the API, as the form says it. */
export function wanted() {
  const asked = new URLSearchParams({ limit: "50" });
  for (const name of ["query", ...FILTERS]) {
    const value = byId(name).value.trim();
    if (value) asked.set(name, name === "modality" ? value.toUpperCase() : value);
  }
  if (place.cursor) asked.set("cursor", place.cursor);
  return asked;
}

const isNarrowed = (asked) => ["query", ...FILTERS].some((name) => asked.has(name));

/** Show one page of the list, the chosen study marked. */
export function showPage(page, asked, chosen) {
  place.next = page.next;
  byId("older").disabled = !page.next;
  byId("newer").disabled = !place.behind.length;
  byId("older").parentElement.hidden = !page.next && !place.behind.length;
  byId("unlisted").hidden = !page.unlisted;
  byId("unlisted").textContent = page.unlisted ? SAY.unlisted(page.unlisted) : "";
  const empty = el("li", { class: "empty" }, isNarrowed(asked) ? SAY.noMatch : SAY.none);
  replace(byId("studies"), page.studies.length ? page.studies.map((entry) => line(entry, chosen)) : empty);
  for (const { study } of page.studies) known.set(study.study_instance_uid, study.updated_at);
}

/** Turn to the next page, or to the one before. */
export function turn(forwards) {
  if (forwards) place.behind.push(place.cursor);
  place.cursor = (forwards ? place.next : place.behind.pop()) ?? "";
}

/** Begin with the first page again: something else is asked for. */
export function begin() {
  place.behind = [];
  place.cursor = "";
}

// --- one line ----------------------------------------------------------------------------------------------------

function line(entry, chosen) {
  const { study } = entry;
  const uid = study.study_instance_uid;
  const fresh = known.size > 0 && known.get(uid) !== study.updated_at;
  return el("li", { class: fresh ? "fresh" : "" },
    el("a", { id: `line-${uid}`, href: `#/study/${uid}`, class: "study", "aria-current": uid === chosen ? "true" : null },
      el("span", { class: "urgency" }, urgency(entry.urgency)),
      el("span", { class: "whose" }, patient(entry.patient)),
      el("span", { class: "of-study" }, el("span", { class: "what" }, study.description || SAY.noDescription), el("span", { class: "dim" }, dotted(facts(entry)))),
      el("span", { class: "found" }, entry.routes.map(found)),
      el("span", { class: "stands" }, chip(study.state), troubled(entry) && el("span", { class: entry.undelivered.length ? "no" : "dim" }, entry.says)),
      el("span", { class: "came dim" }, when(study.last_received_at, "ago"))));
}

const TONES = { STAT: "bad", HIGH: "warn" };
const urgency = (level) => el("span", { class: "chip", data: { tone: TONES[level] ?? "idle" } }, words(level));

function patient(said) {
  if (!said || !(said.name || said.patient_id)) return el("span", { class: "dim" }, SAY.nobody);
  const rest = [said.patient_id, said.birth_date && `${SAY.born} ${dicomDate(said.birth_date)}`, said.sex].filter(Boolean);
  return [el("span", { class: "what" }, personName(said.name) || said.patient_id), el("span", { class: "dim" }, dotted(rest))];
}

/** Facts after each other; a line is broken between them, not within a date. */
const dotted = (all) => all.map((one, at) => [at > 0 && " · ", el("span", { class: "keep" }, one)]);

/** Doe^Jane^M^Dr=山田^太郎 → Doe, Jane M (山田, 太郎) (DICOM PN; the prefix is left out) */
export function personName(text) {
  const groups = text.split("=").map((group) => {
    const [family, given, middle] = group.split("^").map((part) => part.trim());
    return [family, [given, middle].filter(Boolean).join(" ")].filter(Boolean).join(", ");
  }).filter(Boolean);
  return groups.length > 1 ? `${groups[0]} (${groups.slice(1).join(", ")})` : groups[0] ?? "";
}

function facts({ study, stations, patient: said }) {
  return [study.modalities.join("/"), stations.filter(Boolean).join(", "), dicomDate(study.study_date), said?.accession_number, STRINGS.common.images(study.instances)].filter(Boolean);
}

function found(route) {
  const said = route.review === "REJECTED" ? SAY.rejected : route.finding || SAY.noFinding[route.state] || words(route.state);
  return el("span", { class: "route" },
    el("b", { class: route.is_positive ? "presence" : "", data: route.is_positive ? { value: "PRESENT" } : {} }, said),
    route.state === "PARTIAL" && el("span", { class: "tag" }, SAY.partial),
    el("span", { class: "dim" }, [route.model, route.result && ANALYSED.has(route.state) && reviewed(route)].filter(Boolean).join(" · ")));
}

/** Only what says something of the patient is there to be reviewed. */
export const ANALYSED = new Set(["DONE", "PARTIAL"]);
const reviewed = (route) => (route.review === "UNREVIEWED" ? SAY.notReviewed : SAY.reviewedBy(words(route.review).toLowerCase(), personName(route.reviewed_by)));

const troubled = ({ study, undelivered, routes }) =>
  undelivered.length > 0 || study.state !== "REPORTED" || routes.some((route) => route.state === "NOT_ANALYSABLE" || route.state === "FAILED");

// --- keys --------------------------------------------------------------------------------------------------------

const isTyping = (target) => target.closest("input, textarea, select, [contenteditable]") !== null;
const STEPS = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 };

/** `/` leads to the search; j, k and the arrows from line to line, where the list is what one looks at. */
export function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("app").hidden || document.querySelector("dialog[open]")) return;
    const fromSearch = event.target === byId("query") && event.key === "ArrowDown";
    if (isTyping(event.target) && !fromSearch) return;
    if (event.key === "/") {
      event.preventDefault();
      byId("query").focus();
      byId("query").select();
    } else if (event.key in STEPS && (isListed(event.target) || fromSearch)) {
      event.preventDefault();
      step(STEPS[event.key]);
    }
  });
}

const isListed = (target) => document.body.dataset.view === "list" || byId("studies").contains(target);

function step(by) {
  const lines = [...byId("studies").querySelectorAll(".study")];
  const at = lines.indexOf(document.activeElement);
  const to = at < 0 ? (by > 0 ? 0 : lines.length - 1) : Math.min(lines.length - 1, Math.max(0, at + by));
  lines[to]?.focus();
}
