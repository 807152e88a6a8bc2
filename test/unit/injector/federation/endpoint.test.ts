// Our own bundle as partners read it: over https, one path, with both roots while the root is rotated.

import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { pino } from 'pino'
import t from 'tap'
import { createIssuer, createRoot } from '../../../../injector/ca/authority.ts'
import {
  begin,
  dropRetired,
  nextStep,
  recordOf,
  SETTLE_MS,
  switchRoots,
} from '../../../../injector/ca/rotation.ts'
import type { StoredCa } from '../../../../injector/ca/store.ts'
import { BUNDLE_PATH, serveBundle } from '../../../../injector/federation/endpoint.ts'
import { fetchBundle } from '../../../../injector/federation/fetch.ts'
import { ownBundle, partnersSettleMs, sequenceOf } from '../../../../injector/federation/own-bundle.ts'
import { webCertificate } from '../../../../injector/federation/web-certificate.ts'
import type { Clock } from '../../../../shared/clock.ts'
import { systemClock } from '../../../../shared/clock.ts'
import { live, until } from '../../../../shared/live.ts'
import { createLogger } from '../../../../shared/log.ts'
import { CA_SECRET, SYSTEM_NAMESPACE } from '../../../../shared/names.ts'
import { readSpiffeBundle } from '../../../../shared/spiffe-bundle.ts'
import { createAuthority } from '../../../support/authority.ts'
import { scratchDirectory } from '../../../support/scratch.ts'

const log = createLogger('test', 'error')
const never = new AbortController().signal
const web = await createAuthority('web')
const pairFor = async (dns: string) => {
  const { cert, key } = await web.issue({ commonName: 'bundle', dns: [dns] })
  return { chain: cert, key }
}
const NOW = Date.parse('2026-06-01T00:00:00Z')
const root = await createRoot('east.example', NOW)
const material = { root, issuer: await createIssuer(root, 'east.example', NOW) }
const by = { by: 'a test', now: NOW + 1_000 }
const next = await createRoot('east.example', NOW + 1_000)
const publishing = begin(material, next, [], by)

type Said = { readonly status: number; readonly type: string; readonly body: string }
const ask = (port: number, path: string, method = 'GET'): Promise<Said> =>
  new Promise((resolve, reject) => {
    const options = {
      host: '127.0.0.1',
      servername: 'localhost',
      port,
      path,
      method,
      ca: web.cert,
      agent: false,
    }
    request(options, response => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', chunk => {
        body += chunk
      })
      const { statusCode: status = 0, headers } = response
      response.on('end', () => resolve({ status, type: headers['content-type'] ?? '', body }))
    })
      .on('error', reject)
      .end()
  })

t.test('one path, two methods, and nothing before there is a certificate', async t => {
  const certificate = live<Awaited<ReturnType<typeof pairFor>> | undefined>(undefined)
  const bundle = live('{"keys": []}')
  await using endpoint = await serveBundle({ host: '127.0.0.1', port: 0, bundle, certificate, log })
  t.equal(endpoint.port(), undefined)
  certificate.set(await pairFor('localhost'))
  await systemClock.sleep(20, never)
  const port = endpoint.port() ?? 0
  t.strictSame(await ask(port, BUNDLE_PATH), {
    status: 200,
    type: 'application/json; charset=utf-8',
    body: '{"keys": []}',
  })
  t.match(await ask(port, `${BUNDLE_PATH}?a=b`), { status: 200 })
  t.match(await ask(port, BUNDLE_PATH, 'HEAD'), { status: 200, body: '' })
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS'])
    t.match(await ask(port, BUNDLE_PATH, method), { status: 405 })
  for (const path of ['/', '/metrics', '/bundle.json/', '//bundle.json', '/BUNDLE.JSON'])
    t.match(await ask(port, path), { status: 404 }, path)
  certificate.set(await pairFor('elsewhere'))
  await t.rejects(
    ask(port, BUNDLE_PATH),
    { code: 'ERR_TLS_CERT_ALTNAME_INVALID' },
    'a renewed one is in use at once',
  )
})

t.test(
  'a port that is in use costs the endpoint alone: the injector starts, and the log says why',
  async t => {
    const taken = createServer().listen(0, '127.0.0.1')
    await once(taken, 'listening')
    t.teardown(() => taken.close())
    const { port } = taken.address() as AddressInfo
    const said: string[] = []
    const certificate = live(await pairFor('localhost'))
    const endpoint = await serveBundle({
      host: '127.0.0.1',
      port,
      bundle: live('{"keys": []}'),
      certificate,
      log: pino({}, { write: line => void said.push(line) }),
    })
    t.equal(endpoint.port(), undefined)
    t.match(said, [/bundle endpoint failed.*EADDRINUSE|EADDRINUSE.*bundle endpoint failed/])
    certificate.set(await pairFor('localhost'))
    await endpoint[Symbol.asyncDispose]()
  },
)

t.test('during a rotation both roots are in it, and its sequence grows with each step', async t => {
  const metadata = { name: CA_SECRET, namespace: SYSTEM_NAMESPACE }
  const secret = { apiVersion: 'v1', kind: 'Secret', type: 'Opaque', metadata, data: {} } as const
  const stored = live<StoredCa>({ material, secret, resourceVersion: '1' })
  const trust = live({ trustDomain: 'east.example', roots: [root.certificate] })
  const bundle = ownBundle(trust, stored, live([]), 300)
  const certificate = live(await pairFor('localhost'))
  await using endpoint = await serveBundle({ host: '127.0.0.1', port: 0, bundle, certificate, log })
  const fetched = () =>
    fetchBundle(
      {
        trustDomain: 'east.example',
        url: `https://localhost:${endpoint.port()}${BUNDLE_PATH}`,
        roots: [web.cert],
        ownRoots: [],
      },
      never,
    )
  t.match(await fetched(), { roots: { length: 1 }, refreshHintSeconds: 300, sequence: sequenceOf(material) })
  stored.set({ ...stored.get(), material: publishing })
  trust.set({ ...trust.get(), roots: [root.certificate, next.certificate] })
  t.match(await fetched(), { roots: { length: 2 }, sequence: BigInt(NOW + 1_000) })
  const switched = switchRoots(publishing, await createIssuer(next, 'east.example', NOW), NOW + 2_000)
  const dropped = dropRetired(switched, NOW + 3_000)
  t.same([switched, dropped].map(sequenceOf), [NOW + 2_000, NOW + 3_000].map(BigInt))
  t.notOk(
    'sequence' in
      readSpiffeBundle(ownBundle(trust, stored, live([root.certificate]), 300).get(), 'east.example').bundle,
  )
})

t.test('a next root waits for three refresh hints where partners fetch it', async t => {
  const facts = { obstacles: [], longestLeafMs: 3_600_000 }
  const began = Date.parse(recordOf(publishing).rotation?.began ?? '')
  const at = (ms: number, settleMs?: number) =>
    nextStep(publishing, { ...facts, now: began + ms, ...(settleMs && { settleMs }) }).kind
  const settleMs = partnersSettleMs(300)
  t.equal(settleMs, 900_000)
  t.same([at(SETTLE_MS - 1), at(SETTLE_MS)], ['wait', 'switch'])
  t.same([at(SETTLE_MS, settleMs), at(899_999, settleMs), at(900_000, settleMs)], ['wait', 'wait', 'switch'])
})

t.test('a certificate comes, is renewed, and a pair that does not fit changes nothing', async t => {
  const directory = scratchDirectory(t)
  const end = new AbortController()
  t.teardown(() => end.abort())
  const clock: Clock = { ...systemClock, sleep: (ms, signal) => systemClock.sleep(ms / 500, signal) }
  const put = ({ chain, key }: { readonly chain: string; readonly key: string }) => {
    writeFileSync(join(directory, 'tls.crt'), chain)
    writeFileSync(join(directory, 'tls.key'), key)
  }
  const certificate = await webCertificate(directory, { clock, log, signal: end.signal })
  t.equal(certificate.get(), undefined)
  const [first, second] = [await pairFor('localhost'), await pairFor('localhost')]
  put(first)
  await until(
    certificate,
    (pair): pair is typeof first => pair?.key === first.key,
    AbortSignal.timeout(5_000),
  )
  put({ chain: second.chain, key: first.key })
  await systemClock.sleep(60, never)
  t.same(certificate.get(), first)
  // OpenSSL alone sees it, in whatever listener hears of the pair: at the next start the injector would not come up.
  put({ ...second, chain: `${second.chain}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n` })
  await systemClock.sleep(60, never)
  t.same(certificate.get(), first)
  put(second)
  await until(
    certificate,
    (pair): pair is typeof first => pair?.key === second.key,
    AbortSignal.timeout(5_000),
  )
})
