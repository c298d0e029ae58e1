// Talks to the API; an answer that is not good becomes an error with the problem's own words.

import { STRINGS } from "./strings.js";

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** Who has signed in, as /api/v1/me says; what they may not do is not offered. */
export const session = { me: null };
export const may = (permission) => session.me?.permissions.includes(permission) ?? false;

// What the page asks while nobody moves is no use of the session: it ends as if the page were closed.
const ATTENDED_MS = 60_000;
let touchedAt = Date.now();
for (const sign of ["pointerdown", "keydown", "wheel", "touchstart"]) {
  addEventListener(sign, () => { touchedAt = Date.now(); }, { passive: true, capture: true });
}
const unattended = () => (Date.now() - touchedAt > ATTENDED_MS ? { "X-Unattended": "1" } : {});

async function call(path, options = {}) {
  let response;
  try {
    const headers = { ...options.headers, ...unattended() };
    response = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options, headers });
  } catch {
    throw new Problem(0, STRINGS.common.noAnswer);
  }
  if (response.status === 204) return null;
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(response.status, body.detail ?? STRINGS.common.answered(response.status));
  return body;
}

function send(method, path, body, seen = {}) {
  return call(path, { method, headers: { ...seen, ...(body && { "Content-Type": "application/json" }) }, body: body && JSON.stringify(body) });
}

/** The header that says which version of a thing somebody saw; without the thing: that there was none of its name. */
export const asSeen = (one) => (one ? { "If-Match": `"${one.version}"` } : { "If-None-Match": "*" });
/** Whether somebody else has changed it since it was shown. */
export const isChangedMeanwhile = (problem) => problem.status === 412;

/** Answers that were asked for before anybody wanted them; each is given once. */
const begun = new Map();
export function begin(path) {
  const answer = call(path);
  answer.catch(() => {}); // told to whoever wants it
  begun.set(path, answer);
}
export const forget = () => begun.clear();

export function get(path) {
  const answer = begun.get(path) ?? call(path);
  begun.delete(path);
  return answer;
}
export const post = (path, body, seen) => send("POST", path, body, seen);
export const put = (path, body, seen) => send("PUT", path, body, seen);
export const update = (path, body) => send("PATCH", path, body);
export const remove = (path) => send("DELETE", path);
