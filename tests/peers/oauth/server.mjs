// An OAuth server of another make (oidc-provider) that signs clients in by SMART Backend Services, and a gate before any
// HTTP server that lets through who shows one of its tokens. With CERT, KEY and CA it speaks TLS and wants to see a
// certificate of CA. Behaviour is set through POST /_test (see `freshControl`); GET returns it with the requests so far.
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { exportJWK, generateKeyPair, importJWK, jwtVerify } from 'jose';
import Provider from 'oidc-provider';

const SCOPES = ['Patient', 'DiagnosticReport', 'Observation', 'ImagingStudy', 'Device', 'Endpoint', 'Provenance', '*'];
const AUDIENCE = 'urn:dicom-node:test';
const isTls = Boolean(process.env.CERT);

function freshControl() {
  return {
    target: '', // where what is let through goes
    jwks: { keys: [] }, // public keys of the client `ainode`
    scopes: [...SCOPES.map((one) => `system/${one}.crus`), ...SCOPES.map((one) => `system/${one}.crs`), 'system/Patient.rs'],
    smart: {}, // what smart-configuration says besides; null leaves a key out
    tokenSeconds: 300,
    refuseKnown: false, // set to true: tokens that were shown so far are not let through any more
    refuseAll: false, // nor is any other
    forbid: false, // 403 to everything
    revokeAfterWrite: false, // after the next write that is let through neither token nor client is known any more
    fault: null, // of the token endpoint: { status, error?, retryAfter? }, 'silence', 'garbage', 'endless'
    answer: null, // what the token endpoint answers instead of a token
    dateSaid: '', // told as Date instead of the time
    clockShift: 0, // seconds added to the Date that is told
    asked: [], // requests for tokens: { kid, alg, claims, scope, status }
    passed: [], // requests at the gate: { method, url, status }
    secrets: [], // assertions and tokens that were shown
  };
}

let control = freshControl();
let refused = new Set();
let provider;
const { privateKey } = await generateKeyPair('RS256', { extractable: true });
const ownKey = { ...(await exportJWK(privateKey)), alg: 'RS256', use: 'sig', kid: 'own' };
const publicKey = await importJWK({ kty: ownKey.kty, n: ownKey.n, e: ownKey.e, alg: 'RS256' });

// --- the OAuth server -----------------------------------------------------------------------------------------------

function makeProvider() {
  return new Provider(`${origin()}/oauth`, {
    clients: [{
      client_id: 'ainode', token_endpoint_auth_method: 'private_key_jwt', grant_types: ['client_credentials'], redirect_uris: [],
      response_types: [], scope: control.scopes.join(' '), jwks: control.jwks,
    }],
    clientAuthMethods: ['private_key_jwt'],
    enabledJWA: { clientAuthSigningAlgValues: ['RS384', 'ES384'] },
    jwks: { keys: [ownKey] },
    scopes: control.scopes,
    // SMART App Launch 2.2: the audience is the token endpoint, and an assertion ends within five minutes.
    assertJwtClientAuthClaimsAndHeader: async (ctx, claims, header) => {
      const left = claims.exp - Date.now() / 1000;
      if (claims.aud !== `${origin()}/oauth/token` || left > 300 || !header.kid || header.typ !== 'JWT') {
        throw new Error('not an assertion of SMART Backend Services');
      }
    },
    features: {
      clientCredentials: { enabled: true }, devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true, defaultResource: () => AUDIENCE, useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: control.scopes.join(' '), audience: AUDIENCE, accessTokenFormat: 'jwt', accessTokenTTL: control.tokenSeconds,
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
  });
}

function decoded(part) {
  try {
    return JSON.parse(Buffer.from(part, 'base64url').toString());
  } catch {
    return {};
  }
}

function note(form) {
  const [header, claims] = (form.get('client_assertion') ?? '').split('.').map(decoded);
  const noted = { kid: header?.kid, alg: header?.alg, claims, scope: form.get('scope'), status: 0 };
  control.asked.push(noted);
  control.secrets.push(form.get('client_assertion'));
  return noted;
}

function answerToken(request, response, text) {
  const noted = note(new URLSearchParams(text));
  response.on('finish', () => { noted.status = response.statusCode; });
  const { fault, answer } = control;
  if (fault === 'silence') return;
  if (fault === 'endless') {
    const more = () => response.writableEnded || response.destroyed || response.write('x'.repeat(65536), () => setImmediate(more));
    response.writeHead(200, { 'content-type': 'application/json' });
    more();
    return;
  }
  if (fault === 'garbage') return void response.writeHead(200, { 'content-type': 'text/html' }).end('<html>Please log in</html>');
  if (answer) return void response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
  if (fault) {
    const wait = fault.retryAfter ? { 'retry-after': String(fault.retryAfter) } : {};
    // The words of a real server, which may repeat what it was sent.
    const body = { error: fault.error, error_description: `not believed: ${new URLSearchParams(text).get('client_assertion')}` };
    response.writeHead(fault.status, { 'content-type': 'application/json', ...wait }).end(fault.error ? JSON.stringify(body) : 'no');
    return;
  }
  request.body = Object.fromEntries(new URLSearchParams(text));
  asProvider(request, response);
}

function asProvider(request, response) {
  request.originalUrl = request.url;
  request.url = request.url.slice('/oauth'.length);
  provider.callback()(request, response);
}

// --- the gate -------------------------------------------------------------------------------------------------------

function smartConfiguration() {
  const said = {
    token_endpoint: `${origin()}/oauth/token`, grant_types_supported: ['client_credentials'],
    token_endpoint_auth_methods_supported: ['private_key_jwt'], token_endpoint_auth_signing_alg_values_supported: ['RS384', 'ES384'],
    capabilities: ['client-confidential-asymmetric', 'permission-v2'], ...control.smart,
  };
  return Object.fromEntries(Object.entries(said).filter(([, value]) => value !== null));
}

async function refusal(request) {
  if (control.refuseAll) return 401;
  const [, token] = (request.headers.authorization ?? '').match(/^Bearer (\S+)$/) ?? [];
  try {
    await jwtVerify(token ?? '', publicKey, { audience: AUDIENCE });
    if (!control.secrets.includes(token)) control.secrets.push(token);
    if (refused.has(token)) return 401;
  } catch {
    return 401;
  }
  return control.forbid ? 403 : 0;
}

async function passOn(request, response, content) {
  const status = await refusal(request);
  const noted = { method: request.method, url: request.url, status };
  control.passed.push(noted);
  if (status) return void response.writeHead(status, { 'content-type': 'application/json', 'www-authenticate': 'Bearer' }).end('{}');
  const { authorization, host, connection, ...headers } = request.headers;
  const behind = http.request(control.target + request.url, { method: request.method, headers }, (answered) => {
    noted.status = answered.statusCode;
    if (control.revokeAfterWrite && ['POST', 'PUT'].includes(request.method) && !request.url.endsWith('/_search')) {
      Object.assign(control, { revokeAfterWrite: false, refuseAll: true, fault: { status: 401, error: 'invalid_client' } });
    }
    response.writeHead(answered.statusCode, answered.headers);
    answered.pipe(response);
  });
  behind.on('error', () => response.writeHead(502).end());
  behind.end(content);
}

// --- HTTP -----------------------------------------------------------------------------------------------------------

function answerControl(request, response, text) {
  if (request.method === 'DELETE') control = freshControl();
  if (request.method === 'POST') Object.assign(control, JSON.parse(text));
  if (control.refuseKnown) refused = new Set(control.secrets);
  control.refuseKnown = false;
  if (request.method === 'DELETE' || /"(jwks|scopes)"/.test(text)) provider = makeProvider();
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(control));
}

function answer(request, response) {
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    const content = Buffer.concat(chunks);
    const path = new URL(request.url, 'http://localhost').pathname;
    if (control.dateSaid) response.setHeader('date', control.dateSaid);
  if (control.clockShift) response.setHeader('date', new Date(Date.now() + control.clockShift * 1000).toUTCString());
    if (path === '/_test') return answerControl(request, response, content.toString());
    if (path === '/oauth/token') return answerToken(request, response, content.toString());
    if (path.startsWith('/oauth/')) return asProvider(request, response);
    if (path.endsWith('/.well-known/smart-configuration')) {
      return void response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(smartConfiguration()));
    }
    return passOn(request, response, content);
  });
}

const tls = isTls && {
  cert: readFileSync(process.env.CERT), key: readFileSync(process.env.KEY), ca: readFileSync(process.env.CA), requestCert: true,
  rejectUnauthorized: true,
};
const server = isTls ? https.createServer(tls, answer) : http.createServer(answer);
function origin() {
  return `${isTls ? 'https' : 'http'}://127.0.0.1:${server.address().port}`;
}
server.listen(0, '127.0.0.1', () => {
  provider = makeProvider();
  console.log(JSON.stringify({ port: server.address().port }));
});
