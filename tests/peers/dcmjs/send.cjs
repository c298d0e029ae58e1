// C-ECHO, then a C-STORE for each file, over one association; prints the statuses as JSON.
// node send.cjs PORT CALLING CALLED FILE…
'use strict';

const { Client, requests } = require('dcmjs-dimse');

const [port, calling, called, ...files] = process.argv.slice(2);
const told = { echo: null, stored: [], errors: [], closed: false };

const client = new Client();
const echo = new requests.CEchoRequest();
echo.on('response', (response) => (told.echo = response.getStatus()));
client.addRequest(echo);
for (const file of files) {
  const store = new requests.CStoreRequest(file);
  store.on('response', (response) => told.stored.push(response.getStatus()));
  client.addRequest(store);
}
client.on('associationRejected', (result) => told.errors.push(`rejected ${JSON.stringify(result)}`));
client.on('abort', (abort) => told.errors.push(`aborted ${JSON.stringify(abort)}`));
client.on('networkError', (error) => told.errors.push(String(error)));
client.on('closed', () => {
  told.closed = true;
  process.stdout.write(JSON.stringify(told) + '\n');
});
client.send('127.0.0.1', Number(port), calling, called);
