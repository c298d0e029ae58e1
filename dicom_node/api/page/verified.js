// Whether a person stands behind a result: the same words at its head, over its images, and as what its pictures are.

import { el, words } from "./dom.js";
import { STRINGS } from "./strings.js";
import { personName } from "./worklist.js";

const SAY = STRINGS.result;

/** What holds of a result: verified by whom, decided by whom, or said by a model alone. */
export function standsBehind(result) {
  const reader = personName(result.reviewer ?? "");
  if (result.review_of) return SAY.verifiedBy(reader);
  if (result.awaits_second_reader) return SAY.awaitsSecondTag(reader);
  return reader ? SAY.decidedTag(words(result.review_state), reader) : SAY.notVerifiedTag;
}

/** What only a model said is marked so wherever it is shown. */
export const reviewTag = (result) => el("span", { class: result.review_of ? "tag verified" : "tag" }, standsBehind(result));
