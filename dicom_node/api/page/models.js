// Models, for those who answer for them: card, limits, thresholds, decisions, figures, and shadow comparisons.

import { get } from "./api.js";
import { chip, el, numberText, table, when, words } from "./dom.js";
import { STRINGS } from "./strings.js";

const SAID = STRINGS.models;
const section = (title, ...children) => el("section", { class: "card" }, el("h2", {}, title), children);
const head = (back, title, lead) => [el("a", { class: "back", href: back }, STRINGS.common.back),
  el("header", { class: "study-head" }, el("div", {}, el("h1", {}, title), el("p", { class: "dim" }, lead)))];

/** All models, or the one of this name. */
export async function modelsView(name) {
  return name ? oneModel(await get(`/api/v1/models/${encodeURIComponent(name)}`)) : allModels();
}

async function allModels() {
  const [models, shadows] = await Promise.all([get("/api/v1/models"), get("/api/v1/shadows")]);
  const names = Object.keys(models);
  return [
    ...head("#/", SAID.title, SAID.lead),
    section(SAID.title, names.length ? names.map((name) => inShort(name, models[name])) : el("p", {}, SAID.none)),
    section(SAID.shadows, shadows.length ? shadowTable(shadows) : el("p", {}, SAID.noShadows)),
  ];
}

function inShort(name, model) {
  return el("div", { class: "decision" },
    el("h3", {}, el("a", { href: `#/models/${encodeURIComponent(name)}` }, name), el("small", {}, ` ${model.version}`), " ", chip(model.standing)),
    model.why && el("p", { class: "notice", data: { tone: "bad" } }, SAID.notRun(model.why)),
    el("p", {}, model.intended_use, model.limits && el("span", { class: "dim" }, ` ${SAID.facts.limits}: ${model.limits}`)));
}

function shadowTable(shadows) {
  const number = (value) => el("td", { class: "number" }, numberText(value));
  return table(SAID.shadows, SAID.shadowColumns, shadows.map((one) => [
    `${one.route} (${one.model})`, `${one.shadow_of} (${one.live_model})`, number(one.compared), number(one.agreed),
    one.disagreements.length ? one.disagreements.slice(0, 5).map((study) => el("div", {},
      el("a", { href: `#/study/${study.study_instance_uid}` }, study.lines.join("; ")))) : "–"]));
}

function oneModel({ model, ...told }) {
  return [
    ...head("#/models", `${model.name} ${model.version}`, model.intended_use),
    section(SAID.card, el("p", {}, chip(model.standing)), model.why && el("p", { class: "notice", data: { tone: "bad" } }, SAID.notRun(model.why)), facts(model, told)),
    section(SAID.takes, told.takes.map((alternative, index) => table(`${SAID.takes} ${SAID.takesAlternative(index + 1)}`, SAID.conditionColumns, alternative.map(pair)))),
    told.gate.length > 0 && section(SAID.gate, table(SAID.gate, SAID.conditionColumns, told.gate.map(pair))),
    told.looks_for.length > 0 && section(SAID.looksFor, table(SAID.looksFor, SAID.lookColumns, told.looks_for.map((one) => [one.label, one.code, one.site || "–"]))),
    Object.keys(told.parameters).length > 0 && section(SAID.parameters, table(SAID.parameters, SAID.parameterColumns, Object.entries(told.parameters).map(([name, value]) => [name, String(value)]))),
    section(SAID.decisions, told.decisions.length ? table(SAID.decisions, SAID.decisionColumns, told.decisions.map(decision)) : el("p", {}, SAID.noDecision),
      el("p", { class: "dim" }, SAID.howTo)),
    section(SAID.figures, el("p", { class: "dim" }, told.figures ? SAID.figuresLead : SAID.noFigures),
      told.figures && table(SAID.figures, SAID.figureColumns, flat(told.figures))),
  ];
}

const pair = (one) => [one.attribute.replaceAll("_", " "), one.condition];

function facts(model, told) {
  const names = SAID.facts;
  const rows = [
    [names.use, model.intended_use], [names.limits, model.limits || "–"], [names.task, told.task],
    [names.calibrated, model.calibrated ? SAID.yes : SAID.no], [names.maker, model.manufacturer || "–"],
    [names.origin, told.shipped ? SAID.shipped : SAID.added], [names.digest, model.digest], [names.device, model.device_uid],
    [names.accepted, model.accepted_by ? [model.accepted_by, " ", model.accepted_at && when(model.accepted_at)].filter(Boolean) : SAID.nobody],
    [names.golden, model.activated_at ? when(model.activated_at) : SAID.nobody],
  ];
  return el("dl", { class: "facts" }, rows.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

function decision(one) {
  const golden = Object.values(one.detail.golden ?? {});
  const failed = golden.filter((differences) => differences.length).length;
  return [when(one.at), words(one.kind), one.version, one.decided_by, golden.length ? SAID.golden(golden.length, failed) : "–"];
}

/** Figures as rows: the way to each number, and the number. */
function flat(figures, way = "") {
  return Object.entries(figures).flatMap(([key, value]) => {
    const name = way ? `${way} · ${key}` : key;
    if (Array.isArray(value)) return [[name, value.map((one) => (typeof one === "object" ? JSON.stringify(one) : one)).join(", ")]];
    return value !== null && typeof value === "object" ? flat(value, name) : [[name, String(value)]];
  });
}
