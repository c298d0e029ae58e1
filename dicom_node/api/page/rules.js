// The rules: routes in force, suspended and resumed; and routes that are tried before they count.

import { asSeen, get, isChangedMeanwhile, may, post, put } from "./api.js";
import { byId, el, numberText, table, words } from "./dom.js";
import { standing } from "./destinations.js";
import { STRINGS } from "./strings.js";

const SAID = STRINGS.rules;
let refused = null; // what was written over a route that somebody else had changed, and what the node said
const number = (value) => el("td", { class: "number" }, numberText(value));
const bad = (text) => el("p", { class: "notice", data: { tone: "bad" } }, text);
const section = (title, ...children) => el("section", { class: "card" }, el("h2", {}, title), children);

export async function rulesView(act, change) {
  const routes = await get("/api/v1/routes");
  return [
    el("a", { class: "back", href: "#/" }, STRINGS.common.back),
    el("header", { class: "study-head" }, el("div", {}, el("h1", {}, SAID.title), el("p", { class: "dim" }, SAID.lead))),
    section(SAID.inForce, routes.length ? table(SAID.inForce, SAID.columns, routes.map((route) => row(route, act))) : el("p", {}, SAID.none)),
    may("operate") && section(SAID.tryTitle, el("p", { class: "dim" }, SAID.tryLead), tryForm(routes, change), el("div", { id: "trial", "aria-live": "polite" }, refused && bad(refused.said))),
  ];
}

function row(route, act) {
  const sends = route.shadow_of ? SAID.shadow(route.shadow_of) : route.destinations.join(", ") || "–";
  return [[route.name, route.edited && edited(route, act)].filter(Boolean), route.model, conditions(route.when), sends,
    [standing("routes", route, SAID.standing, act), route.held > 0 && el("p", { class: "dim" }, SAID.held(route.held))].filter(Boolean)];
}

/** Who wrote the route anew, and the way back. */
function edited(route, act) {
  const { edited_by: by, edit_reason: reason, conflict } = route.edited;
  return el("div", {}, el("p", { class: "dim" }, SAID.editedBy(by, reason)),
    conflict && el("p", { class: "notice", data: { tone: "bad" } }, conflict),
    may("administer") && el("button", { type: "button", class: "quiet small", id: `revert-${route.name}`, "aria-label": SAID.revertNamed(route.name),
      onclick: () => act(`/api/v1/routes/${encodeURIComponent(route.name)}/revert`, SAID.askRevert(route.name), SAID.reverted, { needsReason: true, seen: asSeen(route) }) }, SAID.revert));
}

function conditions(when) {
  if (!when.length) return SAID.everything;
  return when.map(inline).join(` ${SAID.or} `);
}

// --- as TOML -----------------------------------------------------------------------------------------------------

/** A value as TOML writes it, tables inline. */
function inline(value) {
  if (Array.isArray(value)) return `[${value.map(inline).join(", ")}]`;
  if (value !== null && typeof value === "object") {
    const pairs = Object.entries(value).map(([key, one]) => `${key} = ${inline(one)}`);
    return pairs.length ? `{ ${pairs.join(", ")} }` : "{}";
  }
  return JSON.stringify(value);
}

/** A route as it stands in node.toml; what is as by default is left out. */
export function asToml(route) {
  const when = route.when.length === 1 ? route.when[0] : route.when;
  const told = { name: route.name, model: route.model, when, rank: route.rank, quiet_period_s: route.quiet_period_s,
    max_wait_s: route.max_wait_s, priority: route.priority };
  if (route.shadow_of) Object.assign(told, { shadow: true, shadow_of: route.shadow_of });
  else told.destinations = route.destinations;
  if (Object.keys(route.parameters).length) told.parameters = route.parameters;
  const isUsual = (key, value) => (Array.isArray(value) && !value.length) || (key === "priority" && value === "images");
  const lines = Object.entries(told).filter(([key, value]) => !isUsual(key, value)).map(([key, value]) => `${key} = ${inline(value)}`);
  return `[[route]]\n${lines.join("\n")}\n`;
}

// --- tried -------------------------------------------------------------------------------------------------------

function tryForm(routes, change) {
  const begun = refused?.toml ?? (routes.length ? asToml(routes[0]) : "");
  const begin = (event) => { byId("rule-text").value = asToml(routes[Number(event.target.value)]); };
  return el("form", { id: "try-rule", class: "fields wide", "aria-label": SAID.tryTitle, onsubmit: (event) => { event.preventDefault(); tryRules(); } },
    routes.length > 0 && [el("label", { for: "rule-begin" }, SAID.begin),
      el("select", { id: "rule-begin", onchange: begin }, routes.map((route, index) => el("option", { value: index }, route.name)))],
    el("label", { for: "rule-text" }, SAID.text),
    el("textarea", { id: "rule-text", rows: 9, maxlength: 2000, spellcheck: "false", autocomplete: "off", required: true }, begun),
    el("label", { for: "rule-studies" }, SAID.studies),
    el("input", { id: "rule-studies", type: "number", min: 1, max: 1000, value: 200, required: true }),
    el("button", { type: "submit" }, SAID.try),
    may("administer") && [el("label", { for: "rule-reason" }, SAID.reason), el("input", { id: "rule-reason", maxlength: 500, autocomplete: "off", value: refused?.reason }),
      el("button", { type: "button", class: "quiet", id: "save-rule", onclick: () => saveRule(routes, change) }, SAID.save)]);
}

/** Put what is written over the route that it names, as it stood when the form was made. */
function saveRule(routes, change) {
  const toml = byId("rule-text").value;
  const names = [...toml.matchAll(/^\s*name\s*=\s*(["'])(.+?)\1/gm)].map((found) => found[2]);
  byId("rule-reason").required = true;
  if (!byId("try-rule").reportValidity()) return;
  byId("rule-reason").required = false;
  if (names.length !== 1) {
    byId("trial").replaceChildren(bad(SAID.oneName));
    return;
  }
  const seen = asSeen(routes.find((one) => one.name === names[0]));
  change(() => written(names[0], { toml, reason: byId("rule-reason").value }, seen), SAID.saved, { question: SAID.askSave(names[0]) });
}

/** Write a route. Where somebody else has changed it meanwhile, what was typed is kept beside what they did. */
async function written(name, wanted, seen) {
  refused = null;
  try {
    return await put(`/api/v1/routes/${encodeURIComponent(name)}`, wanted, seen);
  } catch (problem) {
    if (isChangedMeanwhile(problem)) refused = { ...wanted, said: problem.message };
    throw problem;
  }
}

async function tryRules() {
  const place = byId("trial");
  place.replaceChildren(el("p", { class: "dim" }, SAID.trying));
  try {
    const asked = { toml: byId("rule-text").value, studies: Number(byId("rule-studies").value) };
    place.replaceChildren(...trialParts(await post("/api/v1/rules/try", asked)));
  } catch (problem) {
    place.replaceChildren(bad(problem.message));
  }
}

function trialParts(trial) {
  const counts = trial.routes.map((one) => [one.route, ...[one.wanted_before, one.wanted, one.analysed, one.gained, one.lost, one.other_series].map(number)]);
  return [el("p", {}, SAID.tried(trial.studies)), table(SAID.counts, SAID.countColumns, counts), ...trial.routes.flatMap(routeParts)];
}

function routeParts(one) {
  if (!one.gained && !one.lost && !one.other_series) return [];
  const clauses = one.clauses.map((clause) => [clause.asked_by, clause.attribute, clause.condition, number(clause.holds), number(clause.fails)]);
  const changed = one.changed.map((study) => [el("a", { href: `#/study/${study.study_instance_uid}` }, study.study_instance_uid), words(study.change), study.reason]);
  return [
    clauses.length && el("h3", {}, SAID.clauses(one.route)), clauses.length && table(SAID.clauses(one.route), SAID.clauseColumns, clauses),
    el("h3", {}, SAID.changed(one.route)), table(SAID.changed(one.route), SAID.changedColumns, changed),
  ].filter(Boolean);
}
