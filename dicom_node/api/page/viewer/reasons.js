// Why a reader decides so: the coded reasons, and free words.

import { el } from "../dom.js";
import { STRINGS } from "../strings.js";

const SAY = STRINGS.viewer;

/** The coded reasons and free words. */
export function reasonFields(draft) {
  const toggle = (event) => draft.reasons[event.target.checked ? "add" : "delete"](event.target.value);
  return el("fieldset", { class: "reasons" }, el("legend", {}, SAY.reasons),
    Object.entries(SAY.reasonOf).map(([code, words]) => el("label", {},
      el("input", { type: "checkbox", id: `reason-${code}`, value: code, checked: draft.reasons.has(code), onchange: toggle }), " ", words)),
    remarkField(draft));
}

/** Free words alone. */
export const remarkField = (draft) => el("label", {}, SAY.reasonText, el("input", { id: "reason-text", maxlength: 1000, value: draft.text, autocomplete: "off",
  oninput: (event) => { draft.text = event.target.value; } }));
