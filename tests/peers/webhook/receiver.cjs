// A receiver of events: verifies each by the library of the Standard Webhooks project, and behaves as it is told.
"use strict";
const http = require("node:http");
const { Webhook } = require("standardwebhooks");

let control = fresh();
let requests = [];
const taken = new Map();

// `answers` are used up one by one, then every event is answered 204. An answer is a status with headers, or one of
// drop (verify, keep, say nothing and close), hang (never answer), garbage (no HTTP). `delay_ms` waits before each.
function fresh() {
  return { secret: process.env.SECRET, answers: [], delay_ms: 0 };
}

function verified(body, headers) {
  try {
    new Webhook(control.secret).verify(body, headers);
    return "";
  } catch (error) {
    return error.message;
  }
}

function receive(request, body, response) {
  const id = request.headers["webhook-id"];
  const fault = verified(body, request.headers);
  const answer = control.answers.shift() ?? { status: 204 };
  const keeps = !fault && (answer.drop || (answer.status >= 200 && answer.status < 300));
  requests.push({ id, fault, at: Date.now(), body, headers: request.headers, path: request.url, repeated: taken.has(id) });
  if (keeps && !taken.has(id)) taken.set(id, JSON.parse(body));
  if (fault) return end(response, 400);
  if (answer.drop) return request.socket.destroy();
  if (answer.hang) return undefined;
  if (answer.garbage) return request.socket.end("\u0000\u0001 this is no HTTP\r\n\r\n");
  return end(response, answer.status, answer.headers);
}

function end(response, status, headers = {}) {
  response.writeHead(status, headers).end(status === 204 ? undefined : "An answer that nobody needs to read.");
}

function test(request, body, response) {
  if (request.method === "POST") control = { ...control, ...JSON.parse(body) };
  if (request.method === "DELETE") [control, requests] = [fresh(), taken.clear() ?? []];
  response.writeHead(200, { "Content-Type": "application/json" });
  response.end(JSON.stringify({ requests, taken: [...taken].map(([id, event]) => ({ id, ...event })) }));
}

const server = http.createServer((request, response) => {
  let body = "";
  request.setEncoding("utf8").on("data", (part) => (body += part));
  request.on("end", () => {
    if (request.url === "/_test") return test(request, body, response);
    if (request.method !== "POST") return end(response, 405);
    return setTimeout(receive, control.delay_ms, request, body, response);
  });
});
server.listen(Number(process.env.PORT ?? 0), "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port })));
