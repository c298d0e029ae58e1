// Buttons by which a result, a study or a list is kept as a file. The addresses come with the answers of the API
// (`links`); the browser keeps what they answer, for they say that they are files.

import { el } from "./dom.js";
import { STRINGS } from "./strings.js";

const SAY = STRINGS.exports;

/** A group of links, one for each form there is; `about` says of what, for those who do not see where it stands. */
export function exportButtons(links, about) {
  const known = Object.keys(SAY.forms).filter((form) => links?.[form]);
  if (!known.length) return null;
  return el("div", { class: "actions", role: "group", "aria-label": SAY.group(about) }, known.map((form) => {
    const [words, title] = SAY.forms[form];
    return el("a", { class: "button quiet small", href: links[form], download: "", title, "aria-label": SAY.one(about, words) }, words);
  }));
}

/** The addresses of a whole list, `studies` or `results`, with the filters that are set. */
export function listLinks(list, filters = {}) {
  const asked = new URLSearchParams(Object.entries(filters).filter(([, value]) => value));
  const address = (form) => `/api/v1/${list}.${form}${asked.size ? `?${asked}` : ""}`;
  return { csv: address("csv"), json: address("json") };
}
