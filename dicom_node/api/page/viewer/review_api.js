// Review as the API has it: who is at it, the decision, the coded words, and how a result stands.

import { get, post, remove } from "../api.js";
import { dateText } from "../dom.js";
import { personName } from "../worklist.js";

const SIDES = new Set(["left", "right"]);
const DECIDABLE = new Set(["DONE", "PARTIAL"]);
const address = (jobKey) => `/api/v1/results/${jobKey}/review`;

export const takeLock = (jobKey) => post(`${address(jobKey)}/lock`);
export const releaseLock = (jobKey) => remove(`${address(jobKey)}/lock`);
export const decide = (jobKey, body) => post(address(jobKey), body);
export const decisionsOn = (jobKey) => get(`${address(jobKey)}s`);

/** The coded findings that can be added, parts of the body, and sides. */
export async function reviewCodes() {
  const { findings, sites } = await get("/api/v1/review-codes");
  return { findings, sites: sites.filter((one) => !SIDES.has(one.key)), sides: sites.filter((one) => SIDES.has(one.key)) };
}

/** How a result stands: whether a decision is open, or a second reader's word, and whose the first was. */
export function standOf(result) {
  const state = result.review_state ?? "UNREVIEWED";
  const isMade = DECIDABLE.has(result.state) && result.standing === "CURRENT" && !result.shadow_of && !result.review_of;
  const awaits = Boolean(result.awaits_second_reader);
  return {
    state, awaits, isOpen: isMade && state === "UNREVIEWED" && !awaits, by: personName(result.reviewer ?? ""), account: "",
    at: result.reviewed_at ? dateText(result.reviewed_at) : "", isReport: Boolean(result.review_of),
    failed: result.review_failed ?? "", waits: result.review_waits ?? "",
  };
}
