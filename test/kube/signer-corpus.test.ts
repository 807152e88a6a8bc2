// The corpus of test/vectors/csr on a real API server with the manifests installed: each request is refused by the
// layer that docs/forged-requests.md names, and whatever the admission policy refuses, the approver would too.
import type { V1CertificateSigningRequest } from '@kubernetes/client-node'
import t from 'tap'
import { CSR_PATH } from '../../injector/signer/objects.ts'
import { isKubeError } from '../../shared/kube/rest.ts'
import { csrName } from '../../shared/names.ts'
import { parseCsr } from '../../shared/x509/csr.ts'
import { testAuthority } from '../support/certificates.ts'
import { mergePatch } from '../support/merge-patch.ts'
import { requireApiServer } from '../support/requirements.ts'
import { approved, ignored } from '../vectors/csr/accepted.ts'
import { type ForgedAnswer, forgedAnswers } from '../vectors/csr/answers.ts'
import { type ApprovedByHand, approvedByHand } from '../vectors/csr/approved-by-hand.ts'
import { type Case, type Forgery, IDENTITY } from '../vectors/csr/cases.ts'
import { FORGED, forged } from '../vectors/csr/forged.ts'
import { type RefusedElsewhere, refusedElsewhere } from '../vectors/csr/refused-elsewhere.ts'
import { type Anybody, asAnybody } from './support/as-anybody.ts'
import { firstRefusal } from './support/asking-sidecar.ts'
import { bearerOf } from './support/bearers.ts'
import { until } from './support/installation.ts'
import {
  each,
  isOutcome,
  type LiveCase,
  type Outcome,
  outcomeOf,
  prepare,
  read,
  send,
} from './support/live-case.ts'
import {
  createPod,
  eventually,
  type SignerCluster,
  startSignerCluster,
  TRUST_DOMAIN,
} from './support/signer-cluster.ts'

const skip = requireApiServer()
const leader = new AbortController()
let running: Promise<void> = Promise.resolve()
let cluster: SignerCluster
let anybody: Anybody
let asking = 0

const isReal = ({ unreal }: Case): boolean => unreal === undefined

t.before(async () => {
  if (skip) return
  cluster = await startSignerCluster()
  anybody = asAnybody(cluster.server.endpoint)
  const applied = await cluster.server.kubectl(['apply', '-f', '-'], PEOPLE_MAY_ASK)
  if (applied.code !== 0) throw new Error(applied.stderr)
  await untilPolicyIs('in force')
})
t.teardown(async () => {
  leader.abort()
  await running
  anybody?.[Symbol.dispose]()
  await cluster?.[Symbol.asyncDispose]()
})

const PEOPLE_MAY_ASK = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: requester}
rules:
- {apiGroups: [certificates.k8s.io], resources: [certificatesigningrequests], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: requester}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: requester}
subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: people}]
`

/** The API server notices a changed policy within seconds. */
async function untilPolicyIs(state: 'in force' | 'gone'): Promise<void> {
  const { body, user } = await prepare(cluster.server.kube, {
    name: 'a probe',
    object: { metadata: { name: 'probe' } },
  })
  await until(async () => {
    const answer = await anybody.create(`${CSR_PATH}?dryRun=All`, body, user)
    return (answer.kind === 'refused') === (state === 'in force')
  })
}

/** What became of it, whoever decided. */
async function attempt(one: Case): Promise<Outcome> {
  const { kube } = cluster.server
  const sent = await send(anybody, await prepare(kube, one))
  return isOutcome(sent) ? sent : outcomeOf(kube, sent)
}

type Expected = { readonly by: Outcome['by']; readonly says?: RegExp }

/** All of them at once, then a test for each. */
function corpus<T extends { readonly name: string }>(
  title: string,
  cases: readonly T[],
  act: (one: T) => Promise<Outcome>,
  expected: (one: T) => Expected,
): void {
  t.test(title, { skip }, async t => {
    const outcomes = await each(cases, act)
    for (const [one, outcome] of outcomes)
      t.test(one.name, async t => {
        t.match(outcome, expected(one))
      })
  })
}

corpus('while another signer answers, the sidecar refuses', forgedAnswers, answer, ({ because }) => ({
  by: 'sidecar',
  says: because,
}))

async function answer({ answer, code }: ForgedAnswer): Promise<Outcome> {
  const { kube } = cluster.server
  const [authority, forger] = [await testAuthority(TRUST_DOMAIN), await testAuthority(TRUST_DOMAIN)]
  asking += 1
  const pod = await createPod(kube, `asks-${asking}`)
  const refused = firstRefusal(await cluster.clientOf('cart', pod), pod, authority.bundle)
  const path = `${CSR_PATH}/${csrName(pod.metadata?.uid ?? '', 0)}`
  const object = await eventually(() => ifThere<V1CertificateSigningRequest>(path), path)
  const { spki } = parseCsr(Buffer.from(object.spec.request, 'base64').toString())
  const chain = await answer({ authority, forger, spki, now: Date.now() })
  const certificate = Buffer.from(chain).toString('base64')
  await kube.replace(`${path}/status`, { ...object, status: { certificate } })
  const error = await refused
  return error?.code === code ? { by: 'sidecar', says: error.message } : { by: 'nobody', says: String(error) }
}

async function ifThere<T>(path: string): Promise<T | undefined> {
  try {
    return await cluster.server.kube.get<T>(path)
  } catch (error) {
    if (isKubeError(error, 404)) return undefined
    throw error
  }
}

// Approved before the injector starts: its approver would deny them first.
const byHand = new Map<ApprovedByHand, Outcome | V1CertificateSigningRequest>()
t.test('people approve whatever they are asked', { skip }, async () => {
  const { kube, kubectl } = cluster.server
  const names: string[] = []
  for (const one of approvedByHand) {
    const sent = await send(anybody, await prepare(kube, byPerson(one)))
    byHand.set(one, sent)
    if (!isOutcome(sent)) names.push(sent.metadata?.name ?? '')
  }
  const { code, stderr } = await kubectl(['certificate', 'approve', ...names])
  if (code !== 0) throw new Error(stderr)
  running = cluster.controller().run(leader.signal)
})

/** People choose other names than pods. */
const byPerson = (one: ApprovedByHand): Case =>
  one.object
    ? { ...one, object: mergePatch(one.object, { metadata: { name: null, generateName: 'by-hand-' } }) }
    : one

corpus(
  'what was approved by hand, the signer refuses',
  approvedByHand,
  async one => {
    const sent = byHand.get(one)
    if (!sent) throw new Error('not sent')
    return isOutcome(sent) ? sent : outcomeOf(cluster.server.kube, sent)
  },
  ({ layer, because }) => (layer ? { by: layer } : { by: 'signer', says: because }),
)

corpus('other layers refuse', refusedElsewhere, elsewhere, ({ layer, says }) => ({ by: layer, says }))

async function elsewhere({ bearer, ...one }: RefusedElsewhere): Promise<Outcome> {
  const { server } = cluster
  const as = bearer && (await bearerOf(server, bearer))
  const sent = await send(anybody, await prepare(server.kube, one), as)
  return isOutcome(sent) ? sent : outcomeOf(server.kube, sent)
}

const denial = ({ rule, because }: Forgery): RegExp =>
  new RegExp(`PSTN_CSR_DENIED ${rule}: .*(?:${because.source})`, 's')

for (const [title, cases] of Object.entries(FORGED)) {
  corpus(
    `${title}: every forgery is refused, by the layer that says so`,
    cases.filter(isReal),
    attempt,
    one =>
      one.layer
        ? { by: one.layer, says: one.layer === 'API server' ? invalid(one) : /PSTN_CSR_DENIED/ }
        : { by: 'approver', says: denial(one) },
  )
}

/** By the field that the approver's rule is about: refused for another reason, a case would show nothing. */
function invalid({ rule }: Forgery): RegExp {
  switch (rule) {
    case 'name':
      return /metadata\.name: Invalid value/
    case 'metadata':
      return /metadata\.annotations: Too long/
    case 'usages':
      return /spec\.usages/
    case 'size':
      return /Request entity too large/
    default:
      return /spec\.request: Invalid value/
  }
}

// Sent before, looked at after the accepted ones were answered, which came later.
const waiting = new Map<Case, Outcome | V1CertificateSigningRequest>()
t.test('people and nodes ask', { skip }, async () => {
  for (const one of ignored.filter(isReal)) {
    waiting.set(one, await send(anybody, await prepare(cluster.server.kube, one)))
  }
})

corpus('odd but honest requests get a certificate', approved.filter(isReal), attempt, () => ({
  by: 'nobody',
  says: new RegExp(`^${IDENTITY}$`),
}))

corpus(
  'requests of people and nodes stay pending',
  ignored.filter(isReal),
  async one => {
    const sent = waiting.get(one)
    if (!sent || isOutcome(sent)) return sent ?? { by: 'nobody', says: 'not sent' }
    return read(await cluster.server.kube.get(`${CSR_PATH}/${sent.metadata?.name}`))
  },
  () => ({ by: 'pending', says: /^$/ }),
)

const ADMISSION = '/apis/admissionregistration.k8s.io/v1'
const heldByPolicy = forged.filter(one => isReal(one) && one.layer === 'admission policy')

type Policy = { readonly spec: { readonly validations: readonly Validation[] } }
type Validation = { readonly message?: string; readonly messageExpression?: string }

t.test('without one of its validations the admission policy lets some forgery through', { skip }, async t => {
  const { kube } = cluster.server
  const cases = [...heldByPolicy, ...refusedElsewhere.filter(({ layer }) => layer === 'admission policy')]
  const prepared = [...(await each(cases, one => prepare(kube, one))).values()].filter(isSmall)
  const path = `${ADMISSION}/validatingadmissionpolicies/postern-requests`
  const { validations } = (await kube.get<Policy>(path)).spec
  const letsSomeThrough = async () => {
    const answers = await each(prepared, ({ body, user }) =>
      anybody.create(`${CSR_PATH}?dryRun=All`, body, user),
    )
    return [...answers.values()].some(({ kind }) => kind === 'created')
  }
  const put = (validations: readonly Validation[]) =>
    kube.patch(path, 'application/merge-patch+json', { spec: { validations } })
  for (const removed of validations)
    await t.test(removed.message ?? removed.messageExpression ?? '', async () => {
      await put(validations.filter(one => one !== removed))
      await until(letsSomeThrough)
      await put(validations)
      await until(async () => !(await letsSomeThrough()))
    })
})

/** So that sending all of them again and again costs little. */
const isSmall = ({ body }: LiveCase): boolean => JSON.stringify(body).length < 10_000

t.test('the admission policy goes away', { skip }, async () => {
  await cluster.server.kube.delete(`${ADMISSION}/validatingadmissionpolicybindings/postern-requests`)
  await untilPolicyIs('gone')
})

corpus('without the admission policy the approver refuses the same', heldByPolicy, attempt, one => ({
  by: 'approver',
  says: denial(one),
}))
