// The form in which a reader corrects findings: presence, numbers, words, regions, and what was missed.

import { el, unitOf } from "../dom.js";
import { STRINGS } from "../strings.js";
import { reasonFields } from "./reasons.js";

const SAY = STRINGS.viewer;

const PRESENCES = ["PRESENT", "ABSENT", "UNDETERMINED"];

/** The form of a panel's draft; it writes into the draft as one types. */
export function correctionForm(panel) {
  const { findings, added } = panel.draft;
  return el("form", { class: "corrections", onsubmit: (event) => { event.preventDefault(); panel.send("modify"); } },
    el("p", {}, SAY.modifyAsk),
    findings.map((one, place) => findingFields(panel, one, `f${place}`)),
    added.map((one, place) => addedFields(panel, one, `n${place}`)),
    panel.codes && el("button", { type: "button", class: "quiet", id: "add-finding", onclick: () => add(panel) }, SAY.addFinding),
    reasonFields(panel.draft),
    el("div", { class: "actions" }, el("button", { type: "button", class: "quiet", onclick: () => panel.ask("look") }, SAY.back),
      el("button", { type: "submit", id: "review-save" }, SAY.save)));
}

function add(panel) {
  const { findings, sites } = panel.codes;
  panel.draft.added.push({ key: `added-${Date.now()}`, finding: findings[0].key, site: sites[0], side: null, label: "", presence: "PRESENT", text: "", region: null });
  panel.suggestReasons();
  panel.render();
  panel.element.querySelector(`#n${panel.draft.added.length - 1}-finding`).focus();
}

function findingFields(panel, one, id) {
  return el("fieldset", { class: "finding", data: { key: one.key } }, el("legend", {}, one.label),
    one.said.presence && presenceField(panel, one, id),
    one.measurements.map((measured, place) => numberField(panel, measured, `${id}-m${place}`)),
    textField(one, id),
    regionFields(panel, one, id),
    el("label", {}, el("input", { type: "checkbox", id: `${id}-removed`, checked: one.removed,
      onchange: (event) => { one.removed = event.target.checked; changed(panel); } }), " ", SAY.removeLabel));
}

function addedFields(panel, one, id) {
  const { findings, sites, sides } = panel.codes;
  const drop = () => { panel.draft.added.splice(panel.draft.added.indexOf(one), 1); panel.images.edit(null); panel.render(); };
  const choose = (name, words, terms, chosen, act) => el("label", {}, words, el("select", { id: `${id}-${name}`,
    onchange: (event) => act(terms.find((term) => term.key === event.target.value) ?? null) },
    name === "side" && el("option", { value: "" }, SAY.noSide),
    terms.map((term) => el("option", { value: term.key, selected: term.key === chosen }, term.meaning))));
  return el("fieldset", { class: "finding", data: { key: one.key } }, el("legend", {}, SAY.added),
    choose("finding", SAY.addedFinding, findings, one.finding, (term) => { one.finding = term.key; }),
    choose("site", SAY.addedSite, sites, one.site.key, (term) => { one.site = term; }),
    choose("side", SAY.addedSide, sides, one.side?.key, (term) => { one.side = term; }),
    presenceField(panel, one, id), textField(one, id), regionFields(panel, one, id),
    el("button", { type: "button", class: "quiet small", onclick: drop }, SAY.dropFinding));
}

function presenceField(panel, one, id) {
  const options = PRESENCES.map((value) => el("option", { value, selected: one.presence === value }, SAY.presence[value]));
  return el("label", {}, SAY.presenceLabel, el("select", { id: `${id}-presence`,
    onchange: (event) => { one.presence = event.target.value; changed(panel); } }, options));
}

/** As the number was shown; an emptied field is no number, and told so when it is sent. */
function numberField(panel, measured, id) {
  const unit = unitOf(measured.unit);
  return el("label", {}, `${measured.label || measured.name.meaning}${unit ? ` [${unit}]` : ""}`,
    el("input", { id, inputmode: "decimal", value: measured.value ?? "", autocomplete: "off",
      oninput: (event) => { measured.value = numberIn(event.target.value, measured.was); changed(panel); } }));
}

/** A number with a point or a comma; what was empty and stays so is unchanged. */
const numberIn = (typed, was) => (typed.trim() === "" ? (was === null ? null : NaN) : Number(typed.trim().replace(",", ".")));

const textField = (one, id) => el("label", {}, SAY.textLabel,
  el("input", { id: `${id}-text`, value: one.text, maxlength: 500, autocomplete: "off", oninput: (event) => { one.text = event.target.value; } }));

function regionFields(panel, one, id) {
  const { images } = panel;
  const isEdited = images.editedKey === one.key;
  const button = (suffix, words, act) => el("button", { type: "button", class: "quiet small", id: `${id}-${suffix}`, onclick: act }, words);
  if (!isEdited) {
    return el("div", { class: "region-tools" },
      button("region", one.region ? SAY.moveRegion : SAY.drawRegion, () => { edit(panel, one); panel.element.querySelector(`#${id}-done`)?.focus(); }),
      one.region && button("drop", SAY.dropRegion, () => { one.region = null; changed(panel); panel.render(); }));
  }
  return el("div", { class: "region-tools" }, el("p", { class: "dim" }, one.region ? SAY.moveHint : SAY.drawHint),
    !one.region && button("square", SAY.squareRegion, () => { images.beginSquare(); panel.render(); images.focus(); }),
    button("done", SAY.regionDone, () => { images.edit(null); panel.render(); panel.element.querySelector(`#${id}-region`)?.focus(); }));
}

/** Put the region on the image under the pointer; each change goes into the draft. */
function edit(panel, one) {
  panel.images.edit(one, (region, isNew) => {
    if (!region) return;
    one.region = region;
    changed(panel);
    if (isNew) panel.render();
  });
  panel.render();
}

function changed(panel) {
  panel.suggestReasons();
}
