// Leads from a study's results to the reading window: by buttons, and by keys wherever one is in the study.

import { may } from "../api.js";
import { el } from "../dom.js";
import { STRINGS } from "../strings.js";
import { openReading, Reading } from "./reading.js";
import { standOf } from "./review_api.js";

const SAY = STRINGS.viewer;

const KEYS = { v: "", a: "accept", m: "modify", r: "reject" };
let shown = null; // the study that is shown now

/** Return what makes the buttons of a result of this study. */
export function readingButtons(view) {
  shown = view;
  return (result) => {
    const name = result.summary.model?.name || result.model;
    const isOpen = may("review") && standOf(result).isOpen;
    return el("span", { class: "reading-buttons" },
      el("button", { type: "button", class: "quiet small", id: `images-${result.job_key}`, "aria-label": SAY.openLabel(name), title: SAY.keysHere, onclick: () => openReading(view, result) }, SAY.open),
      isOpen && el("button", { type: "button", class: "small", id: `review-${result.job_key}`, "aria-label": SAY.reviewLabel(name), title: SAY.keysHere, onclick: () => openReading(view, result) }, SAY.review));
  };
}

/** The first result that awaits a review, else the first that holds. */
const nextOf = (view) => view.results.find((one) => standOf(one).isOpen) ?? view.results.find((one) => one.current) ?? view.results[0];

function onKey(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || Reading.current || document.querySelector("dialog[open]")) return;
  if (!(event.key in KEYS) || event.target.closest("input, select, textarea")) return;
  if (!shown || location.hash !== `#/study/${shown.study.study_instance_uid}`) return;
  const result = nextOf(shown);
  if (!result) return;
  event.preventDefault();
  openReading(shown, result, KEYS[event.key]);
}

document.addEventListener("keydown", onKey);
