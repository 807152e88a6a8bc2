// Callers without SPIFFE, end to end: a CA of their own and a table of subjects in a ConfigMap of the injector's namespace, an API
// server, an injector, and a sidecar that ends their TLS on the port that was named for them.
import { generateKeyPairSync } from 'node:crypto'
import t from 'tap'
import { FEDERATION_LABEL, POLICY_LABEL, TRUST_CONFIGMAP } from '../../shared/names.ts'
import { systemPath, until } from '../kube/support/installation.ts'
import { type Issued, type IssueOptions, type TestAuthority, testAuthority } from '../support/certificates.ts'
import { memoryVolume } from '../support/memory-volume.ts'
import type { LogLine } from '../support/namespace-kubelet.ts'
import { startApplication } from '../support/netns-applications.ts'
import type { Script } from '../support/netns-conversation.ts'
import { isConnection, MESH_NAMESPACE, startMesh } from '../support/netns-mesh.ts'
import { CLOSE, isWhole, PING, PONG, refusedBy } from '../support/netns-pair.ts'
import { openssl } from '../support/openssl.ts'
import { requireApiServer, requireCommands, requireNetns } from '../support/requirements.ts'
import { type CallerOptions, call, fromFiles } from '../support/tls-callers.ts'

const [NAMED, OTHER] = [8443, 8444]
const SUBJECT = 'CN=batch,O=Partner'
const DOMAIN = 'partner-clients.example'
const HOUR_MS = 3_600_000
const ANSWER: Script = [...PONG, ...PONG, { do: 'receiveEnd' }, { do: 'end' }]
const TALK: Script = [...PING, ...PING, ...CLOSE]
const HELD: Script = [...PING, { do: 'receiveReset' }]
const STAYS: Script = [...PING, { do: 'gate', name: 'over' }, ...PING, ...CLOSE]
const CLIENTS = systemPath('configmaps/batch')

const tlsPorts = {
  kind: 'PeerAuthentication',
  spec: { portLevelTls: { [NAMED]: { mode: 'MUTUAL' }, [OTHER]: { mode: 'MUTUAL' } } },
}
const allowed = {
  kind: 'AuthorizationPolicy',
  spec: {
    rules: [
      { from: [{ source: { principals: [`spiffe://${DOMAIN}/batch`, 'cluster.local/ns/shop/sa/job'] } }] },
    ],
  },
}
const document = ({ kind, spec }: typeof tlsPorts | typeof allowed) =>
  JSON.stringify({
    apiVersion: 'policy.postern.dev/v1',
    kind,
    metadata: { name: 'orders' },
    spec: { selector: { matchLabels: { app: 'orders' } }, ...spec },
  })

/** Of these CAs. */
const clients = (...authorities: readonly TestAuthority[]) => ({
  metadata: { name: 'batch', labels: { [FEDERATION_LABEL]: 'true' } },
  data: {
    'batch.yaml': JSON.stringify({
      apiVersion: 'federation.postern.dev/v1',
      kind: 'PartnerClients',
      metadata: { name: 'batch' },
      spec: {
        namespace: MESH_NAMESPACE,
        selector: { matchLabels: { app: 'orders' } },
        ports: [NAMED],
        caBundle: authorities.map(({ root }) => root).join(''),
        principals: [
          { subject: SUBJECT, principal: `spiffe://${DOMAIN}/batch` },
          { subject: 'CN=audit,O=Partner', principal: `spiffe://${DOMAIN}/audit` },
        ],
      },
    }),
  },
})

/** In the order of the DER, which RFC 2253 shows from its end. */
const named = (name: string) => `O=Partner, CN=${name}`
const batch = (authority: TestAuthority, more: IssueOptions = {}) =>
  authority.issue({ uris: [], subject: named('batch'), ...more })

const selfSigned = (): Pick<Issued, 'key' | 'chain'> => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const key = String(privateKey.export({ type: 'pkcs8', format: 'pem' }))
  const args = ['req', '-x509', '-key', 'key.pem', '-subj', '/O=Partner/CN=batch', '-days', '1']
  return { key, chain: String(openssl(args, { files: { 'key.pem': key } })) }
}

const lacking = requireNetns() || requireApiServer() || requireCommands('openssl')

t.test('clients without SPIFFE', { skip: lacking }, async t => {
  await using stack = new AsyncDisposableStack()
  const mesh = await startMesh(t, stack)
  const { kube } = mesh
  const files = memoryVolume(t)
  const orders = await mesh.start('orders')
  await mesh.start('job', {
    annotations: { 'postern.dev/cert-files': 'app' },
    volumes: { 'postern-cert-files': files },
  })
  const application = await startApplication(orders.namespace)
  for (const port of [NAMED, OTHER]) await application.serve({ port, meet: true, script: ANSWER })
  await kube.create(`/api/v1/namespaces/${MESH_NAMESPACE}/configmaps`, {
    metadata: { name: 'orders', labels: { [POLICY_LABEL]: 'true' } },
    data: { 'tls.yaml': document(tlsPorts), 'allow.yaml': document(allowed) },
  })
  const { data } = await kube.get<{ data: Record<string, string> }>(
    systemPath(`configmaps/${TRUST_CONFIGMAP}`),
  )
  const ca = data['roots.pem'] ?? ''
  const [partner, next, stranger] = await Promise.all(
    ['partner CA', 'partner CA, the next', 'partner CA'].map(name => testAuthority(name)),
  )
  if (!partner || !next || !stranger) throw new Error('three authorities')

  const shown = ({ key, chain }: Pick<Issued, 'key' | 'chain'>) => ({ key, cert: chain, ca })
  let introduced = 0
  const dial = (tls: CallerOptions['tls'], { port = NAMED, script = TALK, gate = Promise.resolve() } = {}) =>
    call({ host: orders.ipv4, port }, { script, tls, introduce: ++introduced, gate })
  const talks = async (tls: CallerOptions['tls'], port = NAMED) =>
    isWhole(await dial(tls, { port }).transcript)
  const held = async (tls: CallerOptions['tls'], script: Script, gate?: Promise<void>) => {
    const conversation = dial(tls, { script, ...(gate && { gate }) })
    await until(async () => conversation.progress().received === 1)
    return conversation
  }
  const seen = async () => {
    const outcomes = await Promise.all([NAMED, OTHER].map(port => application.outcomes({ port })))
    return outcomes.map(counts => Object.values(counts).reduce((sum, count) => sum + count, 0))
  }
  const right = await batch(partner)
  const job = fromFiles(files)

  await t.test('control: before they are named they are strangers, and our own is not', async t => {
    await until(() => talks(job))
    t.notOk(await talks(shown(right)))
    t.ok((await refusedBy(orders, 'inbound', 'PSTN_PEER_UNTRUSTED')) > 0)
  })

  await kube.create(systemPath('configmaps'), clients(partner))
  await until(() => talks(shown(right)))

  await t.test('whoever is in the table comes in, and the audit line names its principal', async t => {
    const line = await orders.line(
      ({ msg, source }) => msg === 'connection' && JSON.stringify(source).includes(right.serial),
    )
    t.match(line, {
      direction: 'inbound',
      via: 'tls',
      outcome: 'ok',
      source: { identity: `spiffe://${DOMAIN}/batch`, serial: right.serial },
      destination: { port: NAMED },
    })
    t.ok(await talks(shown(await batch(await partner.intermediate()))), 'below an issuer')
    t.ok(await talks(job), 'and our own beside it')
  })

  await t.test('everybody else is refused by a code, and the application hears of none', async t => {
    const hence = (hours: number) => new Date(Date.now() + hours * HOUR_MS)
    const cases: readonly [
      name: string,
      code: string,
      Pick<Issued, 'key' | 'chain'> | undefined,
      port?: number,
    ][] = [
      [
        'a subject that is not in the table',
        'PSTN_PEER_UNEXPECTED',
        await batch(partner, { subject: named('other') }),
      ],
      [
        'the subject’s parts the other way round',
        'PSTN_PEER_UNEXPECTED',
        await batch(partner, { subject: 'CN=batch, O=Partner' }),
      ],
      ['of another CA', 'PSTN_PEER_UNTRUSTED', await batch(next)],
      ['of another CA of the same name', 'PSTN_PEER_UNTRUSTED', await batch(stranger)],
      ['at a port that is not named', 'PSTN_PEER_UNTRUSTED', right, OTHER],
      ['self-signed', 'PSTN_PEER_UNTRUSTED', selfSigned()],
      ['expired', 'PSTN_PEER_EXPIRED', await batch(partner, { notBefore: hence(-2), notAfter: hence(-1) })],
      [
        'of the future',
        'PSTN_PEER_NOT_YET_VALID',
        await batch(partner, { notBefore: hence(1), notAfter: hence(2) }),
      ],
      [
        'a SPIFFE ID of ours',
        'PSTN_PEER_TRUST_DOMAIN',
        await batch(partner, { uris: ['spiffe://cluster.local/ns/shop/sa/job'] }),
      ],
      [
        'its own principal as a SPIFFE ID',
        'PSTN_PEER_TRUST_DOMAIN',
        await batch(partner, { uris: [`spiffe://${DOMAIN}/batch`] }),
      ],
      [
        'in the table, and in no rule',
        'PSTN_POLICY_DENIED',
        await batch(partner, { subject: named('audit') }),
      ],
      ['no certificate', 'PSTN_PEER_NO_CERTIFICATE', undefined],
    ]
    const before = await seen()
    for (const [name, code, leaf, port] of cases) {
      const counted = await refusedBy(orders, 'inbound', code)
      t.notOk(await talks(leaf ? shown(leaf) : { ca }, port), name)
      await until(async () => (await refusedBy(orders, 'inbound', code)) > counted)
    }
    t.notOk(await talks(undefined), 'plaintext')
    t.same(await seen(), before)
    t.match(await orders.line(isDecision('PSTN_PEER_UNEXPECTED')), { reason: /"CN=other,O=Partner"/ })
    t.match(await orders.line(isDecision('PSTN_POLICY_DENIED')), {
      source: { identity: `spiffe://${DOMAIN}/audit` },
    })
    t.ok(await talks(shown(right)), 'control: the right one passes')
  })

  await t.test(
    'a CA is replaced without a cut, and the old one’s connections end when it is taken out',
    async t => {
      const over = Promise.withResolvers<void>()
      const own = await held(job, STAYS, over.promise)
      const old = await held(shown(right), HELD)
      const patch = (...authorities: readonly TestAuthority[]) =>
        kube.patch(CLIENTS, 'application/merge-patch+json', clients(...authorities))
      await patch(partner, next)
      const successor = shown(await batch(next))
      await until(() => talks(successor))
      t.ok(await talks(shown(right)), 'both count')
      const newer = await held(successor, STAYS, over.promise)
      const started = performance.now()
      await patch(next)
      t.ok((await old.transcript).reset)
      const ms = performance.now() - started
      t.ok(ms < 1_000, `${Math.round(ms)} ms after it was asked for`)
      t.notOk(await talks(shown(right)))
      over.resolve()
      t.ok(isWhole(await newer.transcript), 'control: the next one’s goes on')
      t.ok(isWhole(await own.transcript), 'control: our own goes on')
    },
  )

  await t.test('without the ConfigMap all of them are out, and ours stay', async t => {
    const over = Promise.withResolvers<void>()
    const own = await held(job, STAYS, over.promise)
    const successor = shown(await batch(next))
    const theirs = await held(successor, HELD)
    await kube.delete(CLIENTS)
    t.ok((await theirs.transcript).reset)
    t.match(await orders.line(isConnection({ outcome: 'closed', code: 'PSTN_PEER_UNTRUSTED' })), {
      source: { identity: `spiffe://${DOMAIN}/batch` },
    })
    t.notOk(await talks(successor))
    over.resolve()
    t.ok(isWhole(await own.transcript))
  })
})

const isDecision = (code: string) => (line: LogLine) => line.msg === 'decision' && line.code === code
