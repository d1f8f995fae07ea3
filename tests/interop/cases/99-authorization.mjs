// The gate before the kit's authorization server. The configuration is the one that `tests/interop/configure.mjs` writes.
import crypto from 'node:crypto';
import * as jose from 'jose';
import { add, as, f, facts, PEP } from '../lib/bench.mjs';
import { main, pem } from '../lib/common.mjs';

const { oidc } = f;
const CLIENT = 'dpop';
const REDIRECT = 'https://tpp.test/cb';
const ASSERTION = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';
const RESOURCE = facts.kit.resources.jwt_es256;

const now = () => Math.floor(Date.now() / 1000);
const ES = { alg: 'ES256', kid: 'client-jose' };
const RS = { alg: 'RS256', kid: 'client-ps-jose' };
const rsa = crypto.createPrivateKey(pem('client-ps-jose.key'));
const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
/** A JWS of a registered key; with RS256, of the RSA one. */
function sign(header, claims) {
  if (header.alg !== 'RS256') return f.jws(header, claims, f.keyOf('client-jose'));
  const input = `${part(header)}.${part(claims)}`;
  return `${input}.${crypto.sign('sha256', Buffer.from(input), rsa).toString('base64url')}`;
}

/** What a client asks for. */
const asked = {
  client_id: CLIENT,
  response_type: 'code',
  redirect_uri: REDIRECT,
  scope: 'openid accounts:read',
  resource: RESOURCE,
  code_challenge: crypto.createHash('sha256').update('v'.repeat(43)).digest('base64url'),
  code_challenge_method: 'S256',
};
/** A request object in which nothing is wrong but what is changed. */
const object = (changes = {}, header = {}) => sign({ ...ES, typ: 'oauth-authz-req+jwt', ...header }, {
  ...asked,
  iss: CLIENT,
  aud: main.issuer,
  iat: now(),
  nbf: now(),
  exp: now() + 300,
  ...changes,
});
/** The same with another payload under its signature. */
const altered = (signed, claims) => { const [header, , signature] = signed.split('.'); return `${header}.${part(claims)}.${signature}`; };
/** A client assertion in which nothing is wrong but what is changed. */
const assertion = (changes = {}, header = ES) => sign(header, {
  iss: CLIENT, sub: CLIENT, aud: main.issuer, iat: now(), exp: now() + 60, jti: crypto.randomUUID(), ...changes,
});

async function post(path, parameters) {
  const answer = await f.fetchWith()(`${PEP.origin}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams(parameters).toString(),
  });
  return { status: answer.status, location: answer.headers.get('location'), body: await answer.json() };
}
const proven = (parameters, by = assertion()) => ({ ...parameters, client_assertion_type: ASSERTION, client_assertion: by });
const push = (request, more = {}) => post('/request', proven({ request, ...more }));
const token = (by) => post('/token', proven({ grant_type: 'client_credentials', resource: RESOURCE }, by));
async function authorize(parameters) {
  const answer = await f.fetchWith()(`${PEP.origin}/auth?${new URLSearchParams(parameters)}`, { redirect: 'manual' });
  return { status: answer.status, location: answer.headers.get('location'), body: await answer.json().catch(() => ({})) };
}
const seenByServer = async () => { const all = await as.stats(); return (all.par || 0) + (all.token || 0); };

add('jar-walk', 'PAR with a signed object, authorize, token, payment: all through the gate (JAR-17)', async () => {
  const direct = (await f.configFor(CLIENT)).serverMetadata();
  const through = Object.fromEntries(Object.entries(direct).filter(([name]) => name !== 'mtls_endpoint_aliases'));
  for (const name of ['pushed_authorization_request_endpoint', 'authorization_endpoint', 'token_endpoint']) {
    through[name] = through[name].replace(new URL(main.issuer).origin, PEP.origin);
  }
  const key = { key: await jose.importPKCS8(pem('client-jose.key'), 'ES256'), kid: 'client-jose' };
  const config = new oidc.Configuration(through, CLIENT, { id_token_signed_response_alg: 'PS256' }, oidc.PrivateKeyJwt(key));
  config[oidc.customFetch] = f.fetchWith();
  const [verifier, state, nonce] = [oidc.randomPKCECodeVerifier(), oidc.randomState(), oidc.randomNonce()];
  const pair = await f.newDpopKey();
  const opt = { DPoP: oidc.getDPoPHandle(config, pair) };
  const before = { par: await as.stats('par'), token: await as.stats('token') };

  const wanted = new URLSearchParams({
    redirect_uri: REDIRECT,
    response_type: 'code',
    scope: 'openid payments',
    resource: RESOURCE,
    state,
    nonce,
    login_hint: 'alice',
    acr_values: facts.kit.acr_values[1],
    code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
  });
  const signed = (await oidc.buildAuthorizationUrlWithJAR(config, wanted, key)).searchParams;
  let url = await oidc.buildAuthorizationUrlWithPAR(config, signed, opt);
  if (url.origin !== PEP.origin) throw new Error(`authorize is at ${url.origin}`);

  // The browser: from page to page until the client's address.
  const cookies = new Map();
  for (let hop = 0; hop < 10 && !url.href.startsWith(REDIRECT); hop += 1) {
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const page = await f.fetchWith()(url.href, { redirect: 'manual', headers: { cookie } });
    for (const line of page.headers.getSetCookie()) {
      const [pair] = line.split(';');
      const at = pair.indexOf('=');
      cookies.set(pair.slice(0, at), pair.slice(at + 1));
    }
    const next = page.headers.get('location');
    if (!next) throw new Error(`stopped at ${url.pathname}: ${page.status} ${await page.text()}`);
    if (new URL(next, url).origin !== PEP.origin && !next.startsWith(REDIRECT)) throw new Error(`sent past the gate: ${next}`);
    url = new URL(next, url);
    await page.body?.cancel();
  }
  const checks = { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce, idTokenExpected: true };
  const got = await oidc.authorizationCodeGrant(config, url, checks, { resource: RESOURCE }, opt);
  const payment = { method: 'POST', body: '{"amount":"1.00"}', headers: { 'content-type': 'application/json' }, cert: '' };
  const paid = await f.call({ ...got, keyPair: pair, client: CLIENT, cert: undefined }, `${PEP.origin}/payments/1`, payment);
  const seen = { par: await as.stats('par') - before.par, token: await as.stats('token') - before.token };
  return {
    ok: paid.status === 200 && got.token_type === 'dpop' && seen.par === 1 && seen.token === 1,
    got: `${got.token_type} token, payment ${paid.status}, the server saw ${JSON.stringify(seen)}`,
  };
}, { timeout: 30000 });

const BAD_OBJECT = [400, 'invalid_request_object'];
const BAD_REQUEST = [400, 'invalid_request'];
const BAD_CLIENT = [401, 'invalid_client'];
/** Wrong in one thing each: what is sent, and what comes back. */
const wrong = {
  'jar-01-unsigned': [() => post('/request', proven(asked)), BAD_OBJECT],
  'jar-02-altered': [() => push(altered(object(), { iss: CLIENT, client_id: CLIENT, scope: 'admin' })), BAD_OBJECT],
  'jar-02-other-key': [() => push(f.jws({ ...ES, typ: 'oauth-authz-req+jwt' }, JSON.parse(Buffer.from(object().split('.')[1], 'base64url')), f.keyOf('client2-jose'))), BAD_OBJECT],
  'jar-03-none': [() => push(object({}, { alg: 'none' })), BAD_OBJECT],
  'jar-03-rs256': [() => push(object({}, RS)), BAD_OBJECT],
  'jar-04-aud': [() => push(object({ aud: 'https://other.test' })), BAD_OBJECT],
  'jar-05-no-nbf': [() => push(object({ nbf: undefined })), BAD_OBJECT],
  'jar-05-no-exp': [() => push(object({ exp: undefined })), BAD_OBJECT],
  'jar-05-expired': [() => push(object({ nbf: now() - 600, exp: now() - 300 })), BAD_OBJECT],
  'jar-05-old': [() => push(object({ nbf: now() - 3700 })), BAD_OBJECT],
  'jar-05-lives-too-long': [() => push(object({ exp: now() + 3700 })), BAD_OBJECT],
  'jar-06-far-ahead': [() => push(object({ nbf: now() + 90 })), BAD_OBJECT],
  'jar-07-iss': [() => push(object({ iss: 'pkj-mtls' })), BAD_OBJECT],
  'jar-07-client-id': [() => push(object({ client_id: 'pkj-mtls' })), BAD_OBJECT],
  'jar-08-request-uri': [() => push(object(), { request_uri: 'urn:x' }), BAD_REQUEST],
  'jar-08-request-uri-inside': [() => push(object({ request_uri: 'urn:x' })), BAD_REQUEST],
  'jar-10-outside': [() => push(object({ state: 'a' }), { state: 'b' }), BAD_REQUEST],
  'jar-11-typ': [() => push(object({}, { typ: 'at+jwt' })), BAD_OBJECT],
  'jar-12-front-channel': [() => authorize(asked), BAD_REQUEST],
  'jar-13-response-type': [() => push(object({ response_type: 'code id_token' })), BAD_REQUEST],
  'jar-13-no-redirect-uri': [() => push(object({ redirect_uri: undefined })), BAD_REQUEST],
  'jar-13-redirect-uri': [() => push(object({ redirect_uri: `${REDIRECT}2` })), BAD_REQUEST],
  'jar-13-no-pkce': [() => push(object({ code_challenge: undefined })), BAD_REQUEST],
  'jar-13-pkce-plain': [() => push(object({ code_challenge_method: 'plain' })), BAD_REQUEST],
  'jar-14-not-redirected': [() => authorize({ client_id: CLIENT, request_uri: 'https://evil.test/o', redirect_uri: 'https://evil.test/cb' }), [400, 'invalid_request_uri']],
  'jar-15-aud': [() => token(assertion({ aud: `${main.issuer}/token` })), BAD_CLIENT],
  'jar-15-rs256': [() => token(assertion({}, RS)), BAD_CLIENT],
  'jar-15-sub': [() => token(assertion({ sub: 'pkj-mtls' })), BAD_CLIENT],
  'jar-15-expired': [() => token(assertion({ iat: now() - 120, exp: now() - 60 })), BAD_CLIENT],
  'jar-15-suspended': [() => token(assertion({ iss: 'pkj-jar', sub: 'pkj-jar' })), [403, 'unauthorized_client']],
};
for (const [id, [send, [status, error]]] of Object.entries(wrong)) {
  add(id, `${status} ${error}, not seen by the server`, async () => {
    const before = await seenByServer();
    const answer = await send();
    const seen = await seenByServer() - before;
    return {
      ok: answer.status === status && answer.body.error === error && !answer.location && seen === 0,
      got: `${answer.status} ${answer.body.error}${answer.location ? `, sent to ${answer.location}` : ''}, seen ${seen}`,
    };
  });
}
add('jar-09-get', 'GET at PAR is 405', async () => {
  const answer = await f.fetchWith()(`${PEP.origin}/request`);
  return { ok: answer.status === 405, got: `${answer.status}` };
});
add('jar-15-used', 'the first use of an assertion is 201, the second 401 invalid_client and not seen', async () => {
  const by = assertion();
  const first = await post('/request', proven({ request: object() }, by));
  const before = await seenByServer();
  const second = await post('/request', proven({ request: object() }, by));
  const seen = await seenByServer() - before;
  const ok = first.status === 201 && second.status === 401 && second.body.error === 'invalid_client' && seen === 0;
  return { ok, got: `${first.status}, then ${second.status} ${second.body.error}, seen ${seen}` };
});

const right = {
  'jar-04-aud-array': () => object({ aud: ['https://other.test', main.issuer] }),
  'jar-06-nbf-8s-ahead': () => object({ nbf: now() + 8 }),
  'jar-11-no-typ': () => object({}, { typ: undefined }),
};
for (const [id, made] of Object.entries(right)) {
  add(id, '201 of the server', async () => {
    const answer = await push(made());
    const uri = answer.body.request_uri ?? JSON.stringify(answer.body);
    return { ok: answer.status === 201 && /^urn:ietf:params:oauth:request_uri:/.test(uri), got: `${answer.status} ${uri}` };
  });
}
