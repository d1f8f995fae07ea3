// Run in a copy of the kit: writes `pep-as.toml`, the kit's `pep.toml` with its authorization server behind the gate as well, and
// `clients.json`, the registry that the gate checks clients against.
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const { jwkOf, main } = await import(pathToFileURL(path.resolve('lib/common.mjs')));

const client = (client_id, more = {}) => ({
  client_id,
  status: 'active',
  redirect_uris: ['https://tpp.test/cb'],
  token_endpoint_auth_method: 'private_key_jwt',
  // The RSA key too: a signature with RS256 is then wrong for its algorithm alone.
  jwks: { keys: [jwkOf('client-jose', {}, false), { ...jwkOf('client-ps-jose', {}, false), alg: undefined }] },
  ...more,
});
const registry = { clients: [client('dpop', { organisation: 'TPP Ltd' }), client('pkj-jar', { status: 'suspended' })] };
fs.writeFileSync('clients.json', JSON.stringify(registry, null, 2));

const route = (name, at, methods, what) => `
[[route]]
name     = "${name}"
path     = "${at}"
methods  = ${JSON.stringify(methods)}
upstream = "as"
${what}
`;
const endpoint = (name) => `kind = "authorization"\nauthorization = { server = "main", endpoint = "${name}" }`;
fs.writeFileSync('pep-as.toml', `${fs.readFileSync('pep.toml', 'utf8')}
[registry]
source             = { file = "clients.json" }
refresh_every      = "1s"
keep_last_good_for = "1h"

[authorization_server.main]
issuer = "${main.issuer}"

[upstream.as]
servers = ["${main.issuer}"]
ca      = ["pki/server-ca.pem"]
${[
    route('as-par', '/request', ['POST'], endpoint('par')),
    route('as-authorize', '/auth', ['GET', 'POST'], endpoint('authorize')),
    route('as-token', '/token', ['POST'], endpoint('token')),
    // Where a browser is sent back and forth while the user logs in.
    route('as-resume', '/auth/**', ['GET'], 'open = true'),
    route('as-pages', '/interaction/**', ['GET', 'POST'], 'open = true'),
  ].join('')}`);
