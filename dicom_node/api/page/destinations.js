// How a destination stands, and the way to suspend and to resume it; a route stands and goes on alike.

import { asSeen, may } from "./api.js";
import { chip, el, when } from "./dom.js";
import { STRINGS } from "./strings.js";

const SAY = STRINGS.standing;
const SAID = STRINGS.destinations;

const button = (id, text, label, onclick) => el("button", { type: "button", class: "quiet small", id, "aria-label": label, onclick }, text);

/** The standing of a destination, with what may be done about it. */
export function destinationStanding(destination, act) {
  if (destination.state === "SUSPENDED" && !destination.suspended_by) return shutOut(destination, act);
  return standing("destinations", destination, SAID.standing, act);
}

/** The standing of what a person suspends and resumes: `asks` holds its questions. */
export function standing(what, one, asks, act) {
  const at = `/api/v1/${what}/${encodeURIComponent(one.name)}`;
  if (one.state !== "SUSPENDED") {
    return el("div", {}, el("span", { class: "dim" }, SAY.active, " "), may("operate") && button(`suspend-${what}-${one.name}`,
      SAY.suspend, SAY.suspendNamed(one.name), () => act(`${at}/suspend`, asks.askSuspend(one.name), asks.suspended, { needsReason: true, seen: asSeen(one) })));
  }
  return el("div", {}, chip(one.state),
    el("p", { class: "notice", data: { tone: "bad" } }, SAY.suspendedBy(one.suspended_by, one.reason)),
    el("p", { class: "dim" }, SAY.since, when(one.since)),
    may("operate") && button(`resume-${what}-${one.name}`, SAY.resume, SAY.resumeNamed(one.name),
      () => act(`${at}/resume`, asks.askResume(one.name), asks.resumed, { seen: asSeen(one) })));
}

/** A destination that does not let the node in. */
function shutOut(destination, act) {
  const { name } = destination;
  return el("div", {}, chip(destination.state),
    el("p", { class: "notice", data: { tone: "bad" } }, SAY.notLetIn(destination.reason)),
    el("p", { class: "dim" }, SAY.since, when(destination.since), may("operate") && SAY.whenRemoved),
    may("operate") && el("button", { type: "button", class: "quiet small", id: `retry-destination-${name}`,
      onclick: () => act(`/api/v1/destinations/${encodeURIComponent(name)}/retry`, SAID.askRetry(name), SAID.retried) }, SAY.sendAgain));
}
