// How often something was tried, and when it is tried again: the same words wherever something waits.

import { when } from "./dom.js";
import { STRINGS } from "./strings.js";

const SAY = STRINGS.tries;

/** "tried 4 times; next try at 10:32". What is due and still here waits for something else: `otherwise` says for what.
 *  Without `nextAt` it is tried no more by itself. Of `several` things it is the one that was tried most. */
export function tried(tries, nextAt, otherwise = SAY.nextInTurn, several = false) {
  const said = !tries ? SAY.notYet : several && tries > 1 ? SAY.mostly(tries) : SAY.tried(tries);
  if (!nextAt) return [said];
  return new Date(nextAt) > new Date() ? [said, SAY.nextAt, when(nextAt)] : [said, otherwise];
}
