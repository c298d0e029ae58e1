// Read HL7 v2 messages (file names) with Medplum's parser; prints a JSON list of messages, each a list of segments,
// each a list of fields, each a list of repetitions, each a list of components. What cannot be parsed throws.
'use strict';
const fs = require('fs');
const { Hl7Message } = require('@medplum/core');

function read(file) {
  const message = Hl7Message.parse(fs.readFileSync(file, 'utf8'));
  if (message.buildAck().getSegment('MSA').getField(2).toString() !== message.header.getField(10).toString()) {
    throw new Error('its acknowledgement is for another message');
  }
  return message.segments.map((segment) => segment.fields.map((field) => field.components));
}

console.log(JSON.stringify(process.argv.slice(2).map(read)));
