// The command against a real admin server, by a port-forward that the caller has.
import t, { type Test } from 'tap'
import { certs } from '../../../../cli/certs/list.ts'
import { serveAdmin } from '../../../../injector/admin/server.ts'
import type { Gathered, SidecarReport } from '../../../../shared/control/sidecar-report.ts'
import { PosternError } from '../../../../shared/errors.ts'
import { createLogger } from '../../../../shared/log.ts'
import { typed as typedAt } from '../../../support/command-line.ts'

const HOUR_MS = 3_600_000
const at = (hours: number): string => new Date(Date.now() + hours * HOUR_MS).toISOString()
const certificate = (fromHours: number, toHours: number) => ({
  fingerprint: 'ab'.repeat(32),
  notBefore: at(fromHours),
  notAfter: at(toHours),
})
const ca = { issuer: certificate(-240, 480), roots: [certificate(-240, 40_000)] }
const web: SidecarReport = {
  podUid: 'uid-web',
  pod: 'web',
  namespace: 'shop',
  version: '1.0.0',
  replica: 'injector-0',
  roots: [],
  certificate: { serial: '0a0b', notAfter: at(20.1), receivedAt: at(-4) },
  connectedSince: at(-1),
}
const nothing: Gathered = { reports: [], missing: [], unconnected: [] }
const failing: SidecarReport = {
  ...web,
  pod: 'pay',
  namespace: 'bank',
  renewal: { failures: 7, code: 'PSTN_CSR_DENIED', since: at(-1), retrySeconds: 60 },
}

async function typed(t: Test, gathered: object, words = '') {
  const server = await serveAdmin({
    port: 0,
    log: createLogger('test', 'error'),
    answers: { '/sidecars': async () => gathered, '/ca': async () => ca },
  })
  t.teardown(() => server[Symbol.asyncDispose]())
  return command(`certs --injector http://127.0.0.1:${server.port} ${words}`)
}

const command = (words: string) =>
  typedAt(words.split(' ').filter(Boolean), {
    commands: [certs],
    connect: () => Promise.reject(new PosternError('PSTN_CONFIG_INVALID', 'no cluster')),
  })

t.test('all good: exit code 0, and what expires first', async t => {
  const { code, out } = await typed(t, { ...nothing, reports: [web] })
  t.equal(code, 0)
  t.match(
    out,
    /^nothing is in danger\. The first of 3 to expire: shop\/web, in 20 h 5 min\n\nCERTIFICATE +STANDING/,
  )
  t.match(out, /^shop\/web +good +in 20 h 5 min +0a0b$/m)
  t.match(out, /^issuer +good +in 19 d 23 h +abababab/m)
})

t.test('a danger is exit code 1, named in the first line', async t => {
  const { code, out } = await typed(t, { ...nothing, reports: [web, failing] })
  t.equal(code, 1)
  t.match(out, /^IN DANGER: 1 of 4\. Nearest: bank\/pay, failing, .*PSTN_CSR_DENIED, 7 failures/)
})

t.test('--namespace looks at one namespace and the CA', async t => {
  const { code, out } = await typed(t, { ...nothing, reports: [web, failing] }, '--namespace shop')
  t.equal(code, 0)
  t.notMatch(out, /bank/)
})

t.test('a replica that did not answer is bad news, and said', async t => {
  const missing = [{ replica: 'injector-1', reason: 'PSTN_CONTROL_LOST: no answer within 2000 ms' }]
  const { code, out } = await typed(t, { ...nothing, reports: [web], missing })
  t.equal(code, 1)
  t.match(out, /^replica injector-1 did not answer \(PSTN_CONTROL_LOST: .*\): its sidecars look as if/m)
})

t.test('--json is one document with the same order', async t => {
  const { code, out } = await typed(t, { ...nothing, reports: [web, failing] }, '--json')
  t.equal(code, 1)
  t.match(JSON.parse(out), {
    dangers: 1,
    certificates: [{ name: 'bank/pay', standing: 'failing', danger: true }, { name: 'shop/web' }, {}, {}],
    missing: [],
  })
})

t.test('what a newer injector says beyond is left alone; what is no answer is refused', async t => {
  const newer = { ...nothing, reports: [{ ...web, mood: 'fine' }], weather: 'fair' }
  t.equal((await typed(t, newer)).code, 0)
  const { code, err } = await typed(t, { reports: 'many' })
  t.same([code, /PSTN_CONFIG_INVALID: sidecars\.reports/.test(err)], [1, true])
})

t.test('an injector that is not there is one line and exit code 1', async t => {
  const { code, out, err } = await command('certs --injector http://127.0.0.1:1')
  t.same([code, out], [1, ''])
  t.match(err, /^postern: PSTN_API_UNAVAILABLE: the injector: \/sidecars: .*ECONNREFUSED.*\n$/)
})

t.test('without a cluster and without --injector it says so; what makes no sense is exit code 2', async t => {
  t.match(await command('certs'), { code: 1, err: 'postern: PSTN_CONFIG_INVALID: no cluster\n' })
  t.match(await command('certs --injector 127.0.0.1:15016'), { code: 2 })
  t.match(await command('certs --injector https://127.0.0.1:15016'), { code: 2 })
  t.match(await command('certs all'), { code: 2, err: /takes no "all"/ })
})
