// How often models and radiologists' reports say the same, where a person should look again, and reports without a study.

import { get } from "./api.js";
import { dateText, el, table } from "./dom.js";
import { STRINGS } from "./strings.js";

const SAY = STRINGS.concordance;
const MOST = 50; // findings that differ, and reports without a study, that are shown

/** What a filter asks for, from its form or at first. */
export const asked = (form) => (form
  ? { by: [...form.querySelectorAll("input[name=by]:checked")].map((one) => one.value), model: form.model.value, from: form.from.value, to: form.to.value }
  : { by: ["model", "finding"], model: "", from: "", to: "" });

const filled = ({ model, from, to }) => Object.entries({ model, from, to }).filter(([, value]) => value);

/** Ask for the groups and lists, and show them. `again(wanted)` is called when one chooses something else. */
export async function concordanceView(models, wanted, again) {
  const of = new URLSearchParams([...wanted.by.map((one) => ["by", one]), ...filled(wanted)]);
  const answer = await get(`/api/v1/concordance?${of}`); // one after the other: of those that compute each has few places
  const { findings: differing } = await get(`/api/v1/concordance/studies?${new URLSearchParams([...filled(wanted), ["limit", MOST]])}`);
  const { reports: unmatched } = await get(`/api/v1/concordance/unmatched?limit=${MOST}`);
  return [
    el("a", { class: "back", href: "#/" }, STRINGS.common.back),
    el("header", { class: "study-head" },
      el("div", {}, el("h1", {}, SAY.title), el("p", { class: "dim" }, SAY.says), el("p", {}, reportsLine(answer.reports)))),
    filterForm(models, wanted, again),
    el("section", { class: "card" }, answer.groups.length ? groupTable(answer) : el("p", {}, SAY.none)),
    ...(differing.length ? [el("section", { class: "card" }, el("h2", {}, SAY.differing), differingTable(differing))] : []),
    ...(unmatched.length ? [el("section", { class: "card" }, el("h2", {}, SAY.unmatched), unmatchedTable(unmatched))] : []),
  ];
}

const reportsLine = (reports) => SAY.reports(Object.entries(reports).filter(([, number]) => number)
  .map(([match, number]) => `${number} ${SAY.matches[match]}`).join(", "));

function filterForm(models, wanted, again) {
  const day = (name) => el("label", {}, SAY.filter[name], " ", el("input", { type: "date", name, value: wanted[name] }));
  const form = el("form", { class: "apart", onsubmit: (event) => event.preventDefault(), onchange: () => again(asked(form)) },
    el("label", {}, SAY.filter.model, " ", el("select", { name: "model" },
      el("option", { value: "" }, SAY.filter.all),
      models.map((name) => el("option", { value: name, selected: name === wanted.model }, name)))),
    day("from"), day("to"),
    el("fieldset", {}, el("legend", {}, SAY.filter.by), Object.entries(SAY.by).map(([value, words]) =>
      el("label", {}, el("input", { type: "checkbox", name: "by", value, checked: wanted.by.includes(value) }), " ", words))));
  return form;
}

function groupTable({ by, groups }) {
  const heads = [...by.map((one) => SAY.by[one]), ...Object.values(SAY.counted), SAY.kappa];
  return table(SAY.title, heads, groups.map((group) => [
    ...by.map((one) => group.group[one] || "–"),
    ...Object.keys(SAY.counted).map((name) => el("td", { class: "number" }, group[name])),
    el("td", { class: "number", title: group.kappa_not_told || null }, kappaText(group.kappa))]));
}

const two = (number) => number.toFixed(2);

/** 0.62 (0.41 to 0.83); where it is not known, so. */
export const kappaText = (kappa) => (kappa ? SAY.kappaIs(two(kappa.value), two(kappa.low), two(kappa.high)) : SAY.notKnown);

const differingTable = (found) => table(SAY.differing, SAY.differingColumns, found.map((one) => [
  el("a", { href: `#/study/${one.study_instance_uid}` }, one.study_instance_uid),
  one.model, one.finding, SAY.verdicts[one.verdict], one.scanner || "–", dateText(one.made_at)]));

const unmatchedTable = (found) => table(SAY.unmatched, SAY.unmatchedColumns, found.map((one) => [
  one.source, one.accession_number || one.stated_study_uid, dateText(one.received_at), one.reason]));
