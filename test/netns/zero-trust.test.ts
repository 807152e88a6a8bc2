// docs/zero-trust.md on real sidecars: an injector on a real API server, an issuer with an https endpoint for its keys, and each
// row of the page's table failed alone. Then the issuer rotates its keys, goes away, and a token ends under a stream.
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { POLICY_LABEL } from '../../shared/names.ts'
import { until } from '../kube/support/installation.ts'
import { createAuthority } from '../support/authority.ts'
import { blocksOf } from '../support/markdown.ts'
import type { LogLine } from '../support/namespace-kubelet.ts'
import { metricsOf, type PlainPod, startMesh } from '../support/netns-mesh.ts'
import { requireApiServer, requireCommands, requireNetns } from '../support/requirements.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { projectRoot } from '../support/source-files.ts'
import { confused, ISSUER, type SigningKey, signingKey, token } from '../support/tokens.ts'

const PORT = 8080
/** The same in HTTP/2, as of gRPC. */
const PORT2 = 8081
/** Answers with what it was told; `/held` without an end. */
const APPLICATION = `
import { createServer } from 'node:http'
import { createServer as createHttp2Server } from 'node:http2'
const answer = (request, response) => {
  response.write(JSON.stringify(request.headers))
  if (!request.url.endsWith('/held')) response.end()
}
createServer(answer).listen(${PORT}, '::')
createHttp2Server(answer).listen(${PORT2}, '::')
`
const lacking = requireNetns() || requireApiServer() || requireCommands('curl', 'setpriv')

const claims = (more: object = {}) => ({
  ...{ iss: ISSUER, sub: 'ada', aud: 'orders', account: '42' },
  exp: Math.floor(Date.now() / 1000) + 600,
  ...more,
})

/** The keys that it has now, over https; undefined: it answers 500. */
async function startIssuer(address: string, stack: AsyncDisposableStack) {
  const authority = await createAuthority('roots of id.example')
  const { cert, key } = await authority.issue({ commonName: 'id.example', ips: [address] })
  const issuer: { keys: readonly SigningKey[] | undefined; asked: number } = { keys: [], asked: 0 }
  const server = createServer({ cert, key }, (_, response) => {
    issuer.asked += 1
    if (issuer.keys) response.end(JSON.stringify({ keys: issuer.keys.map(({ jwk }) => jwk) }))
    else response.writeHead(500).end()
  })
  await new Promise<void>(resolve => server.listen(0, address, resolve))
  stack.defer(() => {
    server.close()
    server.closeAllConnections()
  })
  const { port } = server.address() as AddressInfo
  return Object.assign(issuer, { uri: `https://${address}:${port}/keys`, root: authority.cert })
}

const AS_APPLICATION = ['--reuid=1000', '--regid=1000', '--clear-groups']
const curl = ({ namespace }: Pick<PlainPod, 'namespace'>, ...args: readonly string[]) =>
  namespace.run('setpriv', [...AS_APPLICATION, 'curl', '--silent', '--max-time', '60', ...args])

t.test('zero trust', { skip: lacking }, async t => {
  await using stack = new AsyncDisposableStack()
  const mesh = await startMesh(t, stack)
  const issuer = await startIssuer(mesh.network.node.ipv4 ?? '', stack)
  const one = signingKey('one')
  const two = signingKey('two')
  issuer.keys = [one]
  const [block] = blocksOf(readFileSync(join(projectRoot, 'docs/zero-trust.md'), 'utf8')).filter(
    ({ language }) => language === 'yaml',
  )
  const [orders, web, job, plain] = await Promise.all([
    mesh.start('orders', {
      annotations: { 'postern.dev/http-ports': `${PORT}`, 'postern.dev/http2-ports': `${PORT2}` },
    }),
    mesh.start('web'),
    mesh.start('job'),
    mesh.startPlain('plain'),
  ])
  const page = (block?.text ?? '').replace(`ports: ["${PORT}"]`, `ports: ["${PORT}", "${PORT2}"]`)
  t.match(page, `${PORT2}`)
  const text = page.replace(
    'jwksUri: https://id.example/keys',
    `jwksUri: ${issuer.uri}\n    caBundle: ${JSON.stringify(issuer.root)}`,
  )
  t.match(text, issuer.uri, 'control: the page names it')
  await until(() =>
    mesh.kube
      .create('/api/v1/namespaces/shop/configmaps', {
        metadata: { name: 'zero-trust', labels: { [POLICY_LABEL]: 'true' } },
        data: { 'zero-trust.yaml': text },
      })
      .then(
        () => true,
        () => false,
      ),
  )
  const module = join(scratchDirectory(t), 'application.mjs')
  writeFileSync(module, APPLICATION)
  orders.namespace.spawn(process.execPath, [module], { uid: 1000, stdio: ['ignore', 'ignore', 'inherit'] })

  const url = (path: string) => `http://${orders.ipv4}:${PORT}${path}`
  const bearer = (text: string) => ['--header', `Authorization: Bearer ${text}`]
  const ask = async (path: string, ...options: readonly string[]) => {
    const { stdout } = await curl(
      web,
      '--write-out',
      '\n%{http_code} %header{postern-code}',
      ...options,
      url(path),
    )
    const [body = '', outcome = ''] = stdout.split('\n').slice(-2)
    return { outcome, told: body.startsWith('{') ? JSON.parse(body) : undefined }
  }
  const outcome = async (...asked: Parameters<typeof ask>) => (await ask(...asked)).outcome
  const good = () => bearer(token(one, claims()))
  const ALLOWED = '200 '
  const DENIED = '403 PSTN_POLICY_DENIED'
  await until(async () => (await outcome('/accounts/42', ...good())) === ALLOWED)

  await t.test(
    'all five: the application is told the user by the sidecar alone, and gets no token',
    async t => {
      const { told } = await ask(
        '/accounts/42/orders',
        ...good(),
        '--header',
        'X-User: root',
        '--header',
        'x_user: root',
      )
      t.equal(told['x-user'], 'ada')
      t.notOk(told.authorization)
      t.notOk(told.x_user)
      t.match(told['x-forwarded-client-cert'], /ns\/shop\/sa\/web$/)
    },
  )

  await t.test('1, 2: whoever is not encrypted, or has no certificate, gets no connection', async t => {
    t.not((await curl(plain, ...good(), url('/accounts/42'))).status, 0)
    const refused = (await metricsOf(orders))(
      'postern_connections_refused_total{direction="inbound",code="PSTN_PLAINTEXT_REFUSED"}',
    )
    t.ok(refused >= 1)
  })

  await t.test('3: another service gets none either, though it has the token', async t => {
    t.not((await curl(job, ...good(), url('/accounts/42'))).stdout, '200')
    const isDenied = ({ msg, code, source }: LogLine) =>
      msg === 'decision' && code === 'PSTN_POLICY_DENIED' && JSON.stringify(source).includes('sa/job')
    t.match(await orders.line(isDenied), { direction: 'inbound' })
  })

  await t.test('4: the user must have a token, and it must be right', async t => {
    t.equal(await outcome('/accounts/42'), DENIED)
    const bad: readonly (readonly [code: string, text: string])[] = [
      ['PSTN_JWT_EXPIRED', token(one, claims({ exp: 1 }))],
      ['PSTN_JWT_AUDIENCE', token(one, claims({ aud: 'web' }))],
      ['PSTN_JWT_ISSUER', token(one, claims({ iss: 'https://evil.example' }))],
      ['PSTN_JWT_SIGNATURE', token(signingKey('one'), claims())],
      ['PSTN_JWT_KEY_UNKNOWN', token(signingKey('other'), claims())],
      ['PSTN_JWT_MALFORMED', confused(one)],
    ]
    for (const [code, text] of bad) t.equal(await outcome('/accounts/42', ...bearer(text)), `401 ${code}`)
    t.equal(await outcome('/accounts/42', ...good(), ...good()), '401 PSTN_JWT_MULTIPLE')
    t.equal(await outcome('/accounts/42', ...good()), ALLOWED, 'control')
  })

  await t.test('5: the account must be the user’s', async t => {
    for (const path of ['/accounts/43', '/accounts/43/orders', '/accounts/42%3Bx', '/accounts', '/admin/42'])
      t.not(await outcome(path, ...good()), ALLOWED, path)
    t.equal(await outcome('/accounts/43', ...good()), DENIED)
    t.equal(
      await outcome('/accounts/43', ...bearer(token(one, claims({ account: ['42', '43'] })))),
      ALLOWED,
      'control',
    )
  })

  await t.test('a stream ends with its token', async t => {
    // A minute is to spare.
    const short = token(one, claims({ exp: Math.floor(Date.now() / 1000) - 54 }))
    const startedAt = performance.now()
    const { status, stdout } = await curl(web, '--no-buffer', ...bearer(short), url('/accounts/42/held'))
    t.not(status, 0)
    t.match(stdout, '"x-user":"ada"', 'control: it had begun')
    t.ok(performance.now() - startedAt < 20_000)
    const isEnded = ({ msg, code }: LogLine) => msg === 'connection' && code === 'PSTN_JWT_EXPIRED'
    t.match(await orders.line(isEnded), { outcome: 'closed' })
  })

  await t.test('HTTP/2: the same, stream by stream', async t => {
    const at2 = (path: string) => `http://${orders.ipv4}:${PORT2}${path}`
    const status = async (path: string, ...options: readonly string[]) => {
      const asked = [
        '--http2-prior-knowledge',
        '--write-out',
        '\n%{http_code} %header{postern-code}',
        ...options,
      ]
      return (await curl(web, ...asked, at2(path))).stdout.split('\n').at(-1)
    }
    t.equal(await status('/accounts/42', ...good()), ALLOWED)
    t.equal(await status('/accounts/43', ...good()), DENIED)
    t.equal(await status('/accounts/42'), DENIED)
    t.equal(await status('/accounts/42', ...bearer(confused(one))), '401 PSTN_JWT_MALFORMED')
    const short = token(one, claims({ exp: Math.floor(Date.now() / 1000) - 56 }))
    const held = await curl(
      web,
      '--http2-prior-knowledge',
      '--no-buffer',
      ...bearer(short),
      at2('/accounts/42/held'),
    )
    t.not(held.status, 0)
    t.match(held.stdout, '"x-user":"ada"', 'control: it had begun')
    const ended = (await metricsOf(orders))(
      'postern_http_requests_refused_total{protocol="http2",code="PSTN_JWT_EXPIRED"}',
    )
    t.equal(ended, 1)
  })

  await t.test('a new key is found when a token names it, and an old one ends', async t => {
    issuer.keys = [two]
    const fresh = () => bearer(token(two, claims()))
    await until(async () => {
      const got = await outcome('/accounts/42', ...fresh())
      if (got === ALLOWED) return true
      t.equal(got, '401 PSTN_JWT_KEY_UNKNOWN')
      await delay(1_000)
      return false
    })
    t.equal(await outcome('/accounts/42', ...good()), '401 PSTN_JWT_KEY_UNKNOWN')

    issuer.keys = undefined
    const asked = issuer.asked
    await until(async () => {
      await outcome('/accounts/42', ...bearer(token(signingKey('none'), claims())))
      await delay(1_000)
      return issuer.asked > asked
    })
    t.equal(await outcome('/accounts/42', ...fresh()), ALLOWED, 'the last good ones stay')
    const failed = await metricsOf(orders)
    t.ok(failed('postern_jwks_fetches_total{outcome="PSTN_JWKS_UNAVAILABLE"}') >= 1)
    t.match(await orders.line(({ msg }) => msg === 'keys not fetched'), {
      code: 'PSTN_JWKS_UNAVAILABLE',
      uri: issuer.uri,
    })
  })
})
