// A sidecar's credential source against a signer that does as it likes, on a real API server, with our approver before it:
// whatever it does, the certificate in hand stays, the failure has a code, and when it behaves again no restart is needed.
import { createPublicKey } from 'node:crypto'
import t, { type Test } from 'tap'
import { SYSTEM_NAMESPACE, TRUST_CONFIGMAP } from '../../shared/names.ts'
import { splitPem } from '../../shared/trust-bundle.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { type IssueOptions, testAuthority } from '../support/certificates.ts'
import { requireApiServer } from '../support/requirements.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { forgedAnswers } from '../vectors/csr/answers.ts'
import { IDENTITY } from '../vectors/csr/cases.ts'
import { askingPod } from './support/asking-pod.ts'
import { type Act, type Manner, startFaultySigner } from './support/faulty-signer.ts'
import { until } from './support/installation.ts'
import { installOutsideSigner } from './support/outside-signer.ts'
import { startSignerCluster, TRUST_DOMAIN } from './support/signer-cluster.ts'

const SIGNER = 'example.com/faulty'
/** Renewed after 5 to 8 seconds; a failure is tried again after about one. */
const LIFE_MS = 16_000
const PATIENCE_MS = 1_500
const HOUR_MS = 3_600_000

const root = await testAuthority(TRUST_DOMAIN)
const middle = await root.intermediate()
const authority = await middle.intermediate()
const forger = await testAuthority(TRUST_DOMAIN)

async function chainFor(spki: Buffer, options: IssueOptions = {}): Promise<string> {
  const notAfter = new Date(Date.now() + LIFE_MS)
  return (await authority.issue({ identity: IDENTITY, publicKey: spki, notAfter, ...options })).chain
}
const issue = (pem: string): Act => ({ kind: 'issue', pem })
const honest: Manner = async spki => [issue(await chainFor(spki))]
const arranged =
  (arrange: (chain: readonly string[]) => readonly string[]): Manner =>
  async spki => [issue(arrange(splitPem(await chainFor(spki))).join(''))]

type Fault = {
  readonly name: string
  readonly manner: Manner
  /** The code, and words of the reason. */
  readonly says: RegExp
  /** What the API server says to the signer, where it does not let it. */
  readonly refused?: RegExp
}

const INVALID_PEM = /status\.certificate: Invalid value/

const FAULTS: readonly Fault[] = [
  { name: 'never answers', manner: () => [], says: /^PSTN_CSR_TIMEOUT .*approved but not signed/ },
  {
    name: 'fails',
    manner: () => [{ kind: 'fail' }],
    says: /^PSTN_CSR_FAILED .*FaultySigner: it does as it likes/,
  },
  {
    name: 'fails, and answers later under the name that was given up',
    manner: async spki => [{ kind: 'fail' }, { kind: 'wait', ms: 2_000 }, issue(await chainFor(spki))],
    says: /^PSTN_CSR_FAILED/,
  },
  {
    name: 'answers when nobody waits any more',
    manner: async spki => [{ kind: 'wait', ms: PATIENCE_MS + 1_000 }, issue(await chainFor(spki))],
    says: /^PSTN_CSR_TIMEOUT/,
  },
  {
    name: 'answers with garbage',
    manner: () => [issue('hello')],
    says: /^PSTN_CSR_TIMEOUT/,
    refused: INVALID_PEM,
  },
  {
    name: 'answers with PEM around what is no certificate',
    manner: () => [issue('-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n')],
    says: /^PSTN_CSR_TIMEOUT/,
    refused: INVALID_PEM,
  },
  {
    name: 'answers with its key behind the certificate',
    manner: async spki => {
      const { key } = await authority.issue({ identity: IDENTITY })
      return [issue((await chainFor(spki)) + key)]
    },
    says: /^PSTN_CSR_TIMEOUT/,
    refused: INVALID_PEM,
  },
  { name: 'answers with an empty certificate', manner: () => [issue('')], says: /^PSTN_CSR_TIMEOUT/ },
  ...forgedAnswers.map(({ name, code, because, answer }) => ({
    name: `answers with ${name}`,
    manner: async (spki: Buffer) => [issue(await answer({ authority, forger, spki, now: Date.now() }))],
    says: new RegExp(`^${code} .*${because.source}`),
  })),
]

type Oddity = {
  readonly name: string
  readonly manner: Manner
  readonly seconds?: readonly [least: number, most: number]
}

const ODDITIES: readonly Oddity[] = [
  {
    name: 'slow, but within the time that a sidecar waits',
    manner: async spki => [{ kind: 'wait', ms: 2_000 }, ...(await honest(spki))],
  },
  {
    name: 'with the issuers in disorder',
    manner: arranged(([leaf = '', ...issuers]) => [leaf, ...issuers.reverse()]),
  },
  { name: 'with the chain turned round', manner: arranged(chain => [...chain].reverse()) },
  { name: 'with the root at the end', manner: arranged(chain => [...chain, root.root]) },
  {
    name: 'with certificates that have nothing to do with it',
    manner: arranged(([leaf = '', ...issuers]) => [forger.root, leaf, forger.root, ...issuers]),
  },
  {
    name: 'with a certificate for ten years',
    manner: async spki => [
      issue(await chainFor(spki, { notAfter: new Date(Date.now() + 87_600 * HOUR_MS) })),
    ],
    seconds: [300_000_000, 320_000_000],
  },
  {
    name: 'with a certificate for four seconds',
    manner: async spki => [issue(await chainFor(spki, { notAfter: new Date(Date.now() + 4_000) }))],
    seconds: [0, 5],
  },
]

t.test('a signer that does as it likes', { skip: requireApiServer() }, async t => {
  await using undo = new AsyncDisposableStack()
  const directory = scratchDirectory(t)
  const cluster = undo.use(await startSignerCluster())
  const { server } = cluster
  await installOutsideSigner(server, SIGNER, directory)
  await server.kube.create(`/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps`, {
    metadata: { name: TRUST_CONFIGMAP },
    data: { 'trust-domain': TRUST_DOMAIN, 'roots.pem': root.root },
  })
  const leading = new AbortController()
  const settings = { signerName: SIGNER, maxLeafLifetimeSeconds: 86_400, cleanupAfterMs: 5_000 }
  const approver = cluster.controller(settings).run(leading.signal)
  const stopApprover = async () => {
    leading.abort()
    await approver
  }
  undo.defer(stopApprover)
  const selfApproved = new Set<string>()
  const signer = undo.use(startFaultySigner(server.kube, SIGNER, honest, uid => selfApproved.has(uid)))
  let pods = 0
  const ask = (t: Test, { idle = false, timeoutMs = PATIENCE_MS } = {}) => {
    pods += 1
    return askingPod(t, cluster, `cart-${pods}`, { signerName: SIGNER, timeoutMs, idle })
  }

  /** From one good certificate to the next, over the fault between them. */
  const endures = async (t: Test, pod: Awaited<ReturnType<typeof ask>>, fault: Fault, good = honest) => {
    const first = await pod.next()
    signer.behave(pod.uid, fault.manner)
    await until(async () => pod.failures().length > 0)
    t.match(pod.failures()[0], fault.says)
    t.same(pod.credentials, [first], 'what it has is kept')
    const [failed] = pod.events.filter(event => event.kind === 'failed')
    t.ok(failed && failed.lifeLeftMs > 0, 'and it is valid')
    if (fault.refused) t.match(signer.refusals(pod.uid)[0], fault.refused)
    signer.behave(pod.uid, good)
    const second = await pod.next()
    t.not(second.serial, first.serial)
    t.not(second.key, first.key)
    t.equal(pod.without(), 0, 'there was no moment without a valid certificate')
    await pod.stop()
  }

  await t.test('what it does wrong', async t => {
    t.jobs = FAULTS.length
    for (const fault of FAULTS)
      void t.test(`it ${fault.name}`, { buffered: true }, async t => endures(t, await ask(t), fault))
  })

  await t.test('what it does oddly', async t => {
    t.jobs = ODDITIES.length
    for (const { name, manner, seconds: [least, most] = [1, LIFE_MS / 1000 + 1] } of ODDITIES)
      void t.test(`it answers ${name}`, { buffered: true }, async t => {
        const pod = await ask(t, { idle: true, timeoutMs: 10_000 })
        signer.behave(pod.uid, manner)
        await pod.restart()
        const credential = await pod.next()
        t.same(pod.failures(), [])
        const [leaf, ...issuers] = splitPem(credential.chain).map(parseCertificate)
        t.same(
          issuers.map(({ pem }) => pem),
          splitPem(await chainFor(publicKeyOf(credential.key))).slice(1),
          'its issuers behind it, in order, and nothing else',
        )
        const left = ((leaf?.notAfter.getTime() ?? 0) - Date.now()) / 1000
        t.ok(left >= least - 1 && left <= most, `${left} s`)
        await pod.stop()
      })
  })

  await t.test('it denies, although nobody asked it to judge', async t => {
    await stopApprover()
    const good: Manner = async spki => [{ kind: 'approve' }, ...(await honest(spki))]
    const pod = await ask(t, { idle: true })
    selfApproved.add(pod.uid)
    signer.behave(pod.uid, good)
    await pod.restart()
    const says = /^PSTN_CSR_DENIED .*FaultySigner: it does as it likes/
    await endures(t, pod, { name: 'denies', manner: () => [{ kind: 'deny' }], says }, good)
  })
})

const publicKeyOf = (privateKey: string): Buffer =>
  createPublicKey(privateKey).export({ format: 'der', type: 'spki' })
