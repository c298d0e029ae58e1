// How often readers agreed with the models: shares with their intervals, by month where that is asked for.

import { get } from "./api.js";
import { el, table } from "./dom.js";
import { exportButtons } from "./exports.js";
import { STRINGS } from "./strings.js";

const SAY = STRINGS.agreement;

/** What a filter asks for, from its form or at first. */
export const asked = (form) => (form
  ? { by: [...form.querySelectorAll("input[name=by]:checked")].map((one) => one.value), model: form.model.value, from: form.from.value, to: form.to.value }
  : { by: ["model", "version", "month"], model: "", from: "", to: "" });

const query = ({ by, model, from, to }) => new URLSearchParams([
  ...by.map((one) => ["by", one]), ...Object.entries({ model, from, to }).filter(([, value]) => value)]);

/** Ask for the groups, and show them. `models` are the names to choose from; `again(wanted)` is called when one chooses. */
export async function agreementView(models, wanted, again) {
  const answer = await get(`/api/v1/agreement?${query(wanted)}`);
  const links = { csv: `${answer.links.csv}?${query(wanted)}` };
  const cases = new URLSearchParams([...query(wanted)].filter(([name]) => name !== "by"));
  return [
    el("a", { class: "back", href: "#/" }, STRINGS.common.back),
    el("header", { class: "study-head" },
      el("div", {}, el("h1", {}, SAY.title), el("p", { class: "dim" }, SAY.says)),
      exportButtons(links, SAY.title),
      el("a", { class: "button quiet small", href: `${answer.links.cases}?${cases}`, download: "" }, SAY.cases)),
    filterForm(models, wanted, again),
    el("section", { class: "card" }, answer.groups.length ? groupTable(answer) : el("p", {}, SAY.none)),
  ];
}

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
  const heads = [...by.map((one) => SAY.by[one]), ...Object.values(SAY.counted)];
  return table(SAY.title, heads, groups.map((group) => [
    ...by.map((one) => group.group[one] || "–"),
    ...Object.keys(SAY.counted).map((name) => shareCell(group[name], name === "found" ? group.found_not_told : ""))]));
}

const percent = (share) => `${Math.round(share * 100)} %`;

/** 12 of 14, 86 % (60 to 96 %); where it is not known, why. */
export function shareText(found) {
  if (!found) return SAY.notKnown;
  const counted = SAY.of(found.count, found.total);
  return found.share === null ? counted : SAY.share(counted, percent(found.share), Math.round(found.low * 100), percent(found.high));
}

const shareCell = (found, why) => el("td", { class: "number", title: why || null }, shareText(found));
