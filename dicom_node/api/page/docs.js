// Draws openapi.json: operations by group, with parameters, bodies, answers, and a curl command for each.

import { byId, el, fillWords, table } from "./dom.js";
import { STRINGS } from "./strings.js";

const SAY = STRINGS.docs;

const ADDRESS = "/api/v1/openapi.json";
const VERBS = ["get", "post", "put", "patch", "delete"];
const MOST_DEEP = 8; // of an example that is made from a schema

const paragraph = (text) => text && el("p", {}, text);
const named = (ref) => ref.split("/").pop();

/** The schema behind a reference. */
const resolved = (schema, schemas) => (schema?.$ref ? schemas[named(schema.$ref)] ?? {} : schema ?? {});

/** string, integer ≥ 1, FindingAnswer[] … */
function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return named(schema.$ref);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.map(typeOf).join(" | ");
  if (schema.type === "array") return `${typeOf(schema.items) || "any"}[]`;
  if (schema.enum) return schema.enum.join(" | ");
  return schema.const ?? schema.type ?? "any";
}

/** What else a schema says: limits, pattern, default. */
function limitsOf(schema) {
  const inner = schema?.anyOf?.find((one) => one.type !== "null") ?? {};
  const said = { ...inner, ...schema };
  const told = { "≥": said.minimum, "≤": said.maximum, [SAY.atMost]: said.maxLength, pattern: said.pattern, default: said.default };
  return Object.entries(told).filter(([, value]) => value !== undefined && value !== null).map(([name, value]) => `${name} ${value}`).join(", ");
}

/** An example of a schema: its own where it has one, else made of its properties. */
function exampleOf(schema, schemas, deep = 0) {
  const given = schema?.example ?? schema?.examples?.[0] ?? schema?.default;
  if (given !== undefined && given !== null) return given;
  const found = resolved(schema, schemas);
  if (found !== schema && found.examples?.[0] !== undefined) return found.examples[0];
  if (deep > MOST_DEEP) return null;
  const choice = (found.anyOf ?? found.oneOf)?.[0];
  if (choice) return exampleOf(choice, schemas, deep + 1);
  if (found.enum) return found.enum[0];
  if (found.const !== undefined) return found.const;
  if (found.properties) return Object.fromEntries(Object.entries(found.properties).map(([name, one]) => [name, exampleOf(one, schemas, deep + 1)]));
  if (found.type === "array") return found.items && deep < MOST_DEEP ? [exampleOf(found.items, schemas, deep + 1)] : [];
  return { integer: 1, number: 1.5, boolean: true, string: found.format === "date-time" ? "2026-03-14T09:30:00Z" : "text", object: {} }[found.type] ?? null;
}

function parametersOf(operation) {
  const rows = (operation.parameters ?? []).filter((one) => one.in !== "cookie").map((one) => [
    el("code", {}, one.name), one.required ? SAY.needed(one.in) : one.in, typeOf(one.schema), limitsOf(one.schema), one.description ?? ""]);
  return rows.length > 0 && [el("h3", {}, SAY.parameters), table(SAY.parameters, SAY.parameterColumns, rows)];
}

function bodyOf(operation, schemas) {
  return Object.entries(operation.requestBody?.content ?? {}).map(([media, { schema }]) => {
    const whole = schema?.anyOf?.find((one) => one.$ref) ?? schema;
    const fields = Object.entries(resolved(whole, schemas).properties ?? {}).map(([name, one]) => [
      el("code", {}, name), typeOf(one), limitsOf(one), one.description ?? ""]);
    return [el("h3", {}, SAY.bodyOf(media)), fields.length > 0 && table(SAY.body, SAY.bodyColumns, fields)];
  });
}

function answersOf(operation, schemas) {
  const rows = Object.entries(operation.responses).map(([status, one]) => {
    const [media, content] = Object.entries(one.content ?? {})[0] ?? ["", {}];
    return [el("code", {}, status), one.description, typeOf(content.schema), media];
  });
  const good = operation.responses[200] ?? operation.responses[201] ?? operation.responses[202];
  const schema = good?.content?.["application/json"]?.schema;
  return [
    el("h3", {}, SAY.answers), table(SAY.answers, SAY.answerColumns, rows),
    schema && el("pre", {}, JSON.stringify(exampleOf(schema, schemas), null, 2))];
}

function curlOf(path, verb, operation, schemas) {
  const of = (one) => one.example ?? exampleOf(one.schema, schemas);
  const known = (operation.parameters ?? []).filter((one) => one.in === "path");
  const url = known.reduce((text, one) => text.replace(`{${one.name}}`, encodeURIComponent(of(one))), path);
  const media = Object.keys(operation.requestBody?.content ?? {})[0];
  const body = media === "application/json" ? ` \\\n     -H 'Content-Type: application/json' -d '${JSON.stringify(exampleOf(
    operation.requestBody.content[media].schema, schemas))}'` : media === "multipart/form-data" ? " \\\n     -F files=@study.zip" : "";
  const key = operation.security ? ' -H "Authorization: Bearer $TOKEN"' : "";
  return `curl -s${verb === "get" ? "" : ` -X ${verb.toUpperCase()}`}${key} '${location.origin}${url}'${body}`;
}

function drawn(path, verb, operation, schemas) {
  return el("details", { id: operation.operationId, data: { words: `${path} ${operation.summary} ${operation.description ?? ""}`.toLowerCase() } },
    el("summary", {}, el("span", { class: "verb" }, verb.toUpperCase()), " ", el("code", {}, path), " ", operation.summary),
    paragraph(operation.description), parametersOf(operation), bodyOf(operation, schemas),
    answersOf(operation, schemas), el("h3", {}, SAY.command), el("pre", {}, curlOf(path, verb, operation, schemas)));
}

function groupsOf(document) {
  const groups = new Map();
  for (const [path, item] of Object.entries(document.paths)) {
    for (const verb of VERBS.filter((one) => item[one])) {
      const tag = item[verb].tags?.[0] ?? SAY.other;
      groups.set(tag, [...(groups.get(tag) ?? []), drawn(path, verb, item[verb], document.components.schemas)]);
    }
  }
  return groups;
}

function filter() {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const one of document.querySelectorAll("#operations details")) one.hidden = !words.every((word) => one.dataset.words.includes(word));
  for (const one of document.querySelectorAll("#operations section")) one.hidden = !one.querySelector("details:not([hidden])");
}

function openNamed() {
  const one = byId(decodeURIComponent(location.hash.slice(1)));
  if (one instanceof HTMLDetailsElement) one.open = true;
  one?.scrollIntoView();
}

async function start() {
  const told = await (await fetch(ADDRESS)).json();
  byId("title").textContent = `${told.info.title} ${told.info.version}`;
  byId("about").textContent = told.info.description;
  const groups = groupsOf(told);
  byId("tags").append(...[...groups.keys()].map((tag) => el("a", { href: `#tag-${tag}` }, tag)));
  byId("operations").append(...[...groups].map(([tag, operations]) =>
    el("section", { id: `tag-${tag}`, "aria-label": tag }, el("h2", {}, tag), operations)));
  byId("filter").addEventListener("input", filter);
  window.addEventListener("hashchange", openNamed);
  openNamed();
}

fillWords();
start().catch(() => { byId("about").textContent = SAY.noAnswer; });
