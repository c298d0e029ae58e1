// An OpenID provider of another make (oidc-provider): people sign in on a page of it by their name alone, services by
// client credentials, and who signs out there is told to the node. Behaviour is set through POST /_test (see `control`).
// Its administrator acts through POST /_administrator (see `administer`).
import http from 'node:http';
import { exportJWK, generateKeyPair } from 'jose';
import Provider from 'oidc-provider';

const NODE = process.env.NODE_URL;
const AUDIENCE = 'urn:dicom-node:test';
const control = {
  roles: {}, // by name of the person: what `roles` says of them
  serviceRoles: [], // what it says of a service
  inUserinfo: false, // claims are told only where they are asked for
  key: 'first', // name of the key it signs with; another name is another key
  blocked: [], // whose accounts its administrator has blocked
  silent: false, // answers nothing
  noticesTold: true, // whether the node is told who has signed out
  refreshes: 0, // so far
};
const BUILT_IN = ['inUserinfo', 'key', 'noticesTold'];
const keys = {};
const given = { grants: {}, sessions: {} }; // by name of the person: the newest of each
const origin = () => `http://127.0.0.1:${server.address().port}`;
let provider;

async function key(name) {
  if (!keys[name]) {
    const { privateKey } = await generateKeyPair('RS256', { extractable: true });
    keys[name] = { ...(await exportJWK(privateKey)), alg: 'RS256', use: 'sig', kid: name };
  }
  return keys[name];
}

async function makeProvider() {
  const made = new Provider(origin(), {
    clients: [{
      client_id: 'ainode', client_secret: 'a secret: 100%+', grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
      redirect_uris: [`${NODE}/login/oidc/callback`], post_logout_redirect_uris: [`${NODE}/`], response_types: ['code'],
      token_endpoint_auth_method: 'client_secret_post', backchannel_logout_session_required: true,
      ...(control.noticesTold ? { backchannel_logout_uri: `${NODE}/logout/oidc/backchannel` } : {}),
    }],
    jwks: { keys: [await key(control.key)] },
    cookies: { keys: ['of a test'] },
    claims: { openid: ['sub', 'roles'], profile: ['preferred_username', 'name'] },
    conformIdTokenClaims: control.inUserinfo,
    findAccount: (ctx, id) => (control.blocked.includes(id) ? undefined : {
      accountId: id, claims: () => ({ sub: id, preferred_username: id, name: `Dr ${id}`, roles: control.roles[id] ?? [] }),
    }),
    fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options), // its own speaks to no loopback address
    pkce: { required: () => true },
    issueRefreshToken: () => true,
    rotateRefreshToken: () => true,
    extraTokenClaims: () => ({ roles: control.serviceRoles }),
    interactions: { url: (ctx, interaction) => `/people/${interaction.uid}` },
    loadExistingGrant: async (ctx) => { // nobody is asked whether the node may know who they are
      const grant = new ctx.oidc.provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
      grant.addOIDCScope('openid profile');
      await grant.save();
      return grant;
    },
    features: {
      backchannelLogout: { enabled: true }, clientCredentials: { enabled: true }, devInteractions: { enabled: false },
      revocation: { enabled: true }, rpInitiatedLogout: { enabled: true, logoutSource: (ctx, form) => {
        ctx.body = `<!doctype html><title>Sign out</title>${form}<button form="op.logoutForm" name="logout" value="yes" id="yes">Yes</button>`;
      } },
      resourceIndicators: {
        enabled: true, useGrantedResource: () => true,
        defaultResource: (ctx) => (ctx.oidc.params.grant_type === 'client_credentials' ? AUDIENCE : undefined),
        getResourceServerInfo: () => ({ scope: '', audience: AUDIENCE, accessTokenFormat: 'jwt', accessTokenTTL: 300, jwt: { sign: { alg: 'RS256' } } }),
      },
    },
  });
  made.on('grant.success', (ctx) => { if (ctx.oidc.params.grant_type === 'refresh_token') control.refreshes += 1; });
  made.on('grant.saved', (grant) => { given.grants[grant.accountId] = grant.jti; });
  made.on('session.saved', (session) => { if (session.accountId) given.sessions[session.accountId] = session.jti; });
  for (const event of ['server_error', 'backchannel.error']) made.on(event, (ctx, error) => console.error(event, error));
  return made;
}

async function signIn(request, response, text) {
  const login = new URLSearchParams(text).get('name');
  if (request.method === 'GET') {
    const page = '<!doctype html><title>Who are you?</title><form method="post"><input name="name" id="person"><button id="go">Go</button></form>';
    return void response.writeHead(200, { 'content-type': 'text/html' }).end(page);
  }
  const result = login ? { login: { accountId: login } } : { error: 'access_denied' };
  return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
}

// What an administrator takes back tells nobody: no notice goes to the node.
async function administer(request, response, text) {
  const { revoke, of } = JSON.parse(text);
  if (revoke === 'grant') await (await provider.Grant.find(given.grants[of])).destroy();
  if (revoke === 'tokens') await provider.RefreshToken.revokeByGrantId(given.grants[of]);
  if (revoke === 'session') await (await provider.Session.find(given.sessions[of])).destroy();
  if (revoke === 'account') control.blocked.push(of);
  response.writeHead(204).end();
}

async function set(request, response, text) {
  if (request.method === 'POST') {
    const before = JSON.stringify(BUILT_IN.map((name) => control[name]));
    Object.assign(control, JSON.parse(text));
    // Another provider knows nothing of who signed in so far.
    if (JSON.stringify(BUILT_IN.map((name) => control[name])) !== before) provider = await makeProvider();
  }
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(control));
}

const server = http.createServer((request, response) => {
  if (control.silent && request.url !== '/_test') return;
  const own = { '/_test': set, '/_administrator': administer }[request.url] ?? (request.url.startsWith('/people/') && signIn);
  if (!own) return void provider.callback()(request, response);
  let text = '';
  request.on('data', (chunk) => { text += chunk; });
  request.on('end', () => own(request, response, text));
});
server.listen(0, '127.0.0.1', async () => {
  provider = await makeProvider();
  console.log(JSON.stringify({ port: server.address().port }));
});
