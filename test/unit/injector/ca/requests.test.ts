import t from 'tap'
import { type CaMaterial, createIssuer, createRoot } from '../../../../injector/ca/authority.ts'
import { answerRequest, pendingRequests, type RequestContext } from '../../../../injector/ca/requests.ts'
import { begin, fingerprintOf, recordOf, schedule, switchRoots } from '../../../../injector/ca/rotation.ts'
import { MOST_ANSWERS } from '../../../../shared/ca/record.ts'
import { CA_REQUEST_PREFIX } from '../../../../shared/ca/request.ts'

const now = Date.parse('2026-01-01T00:00:00Z')
const at = new Date(now).toISOString()
const asked = { by: 'alice', at }
const root = await createRoot('cluster.local', now)
const idle: CaMaterial = { root, issuer: await createIssuer(root, 'cluster.local', now) }

const context: RequestContext = {
  now,
  pods: new Map([['shop/web', 'uid-of-web']]),
  newRoot: () => createRoot('cluster.local', now),
  newIssuer: of => createIssuer(of, 'cluster.local', now),
}

/** The CA after the requests, one after the other. */
async function after(before: CaMaterial, ...requests: (object | string)[]): Promise<CaMaterial> {
  const annotations = Object.fromEntries(
    requests.map((request, index) => [
      `${CA_REQUEST_PREFIX}${index}`,
      typeof request === 'string' ? request : JSON.stringify(request),
    ]),
  )
  let material = before
  for (const pending of pendingRequests(annotations))
    material = await answerRequest(material, pending, context)
  return material
}
const answersOf = (material: CaMaterial) => recordOf(material).answers

t.test(
  'requests are answered in the order in which they were made, and other annotations are none',
  async t => {
    const later = new Date(now + 1_000).toISOString()
    const annotations = {
      note: 'keep',
      [`${CA_REQUEST_PREFIX}a`]: JSON.stringify({ kind: 'skip', pods: [], by: 'alice', at: later }),
      [`${CA_REQUEST_PREFIX}b`]: JSON.stringify({ kind: 'rotate', skip: [], ...asked }),
    }
    t.same(
      pendingRequests(annotations).map(({ id }) => id),
      ['b', 'a'],
    )
  },
)

t.test(
  'another issuer signs at once, under the same root, and whatever a rotation of the root waits for',
  async t => {
    const replaced = await after(idle, { kind: 'rotate-issuer', ...asked })
    t.equal(replaced.root, idle.root)
    t.not(fingerprintOf(replaced.issuer.certificate), fingerprintOf(idle.issuer.certificate))
    t.match(recordOf(replaced), {
      phase: 'idle',
      answers: [{ id: '0', done: 'done', says: 'a new issuer signs' }],
    })
    const [rotate, issuer] = [
      { kind: 'rotate', skip: [], ...asked },
      { kind: 'rotate-issuer', ...asked },
    ]
    const both = await after(idle, rotate, issuer)
    t.equal(recordOf(both).phase, 'publishing')
    t.equal(both.root, idle.root, 'not the next root: it signs nothing yet')
  },
)

t.test('a rotation is begun once: the second request is told of the first', async t => {
  const begun = await after(idle, { kind: 'rotate', skip: ['shop/web'], ...asked })
  t.match(recordOf(begun), {
    phase: 'publishing',
    rotation: { by: 'alice', began: at, skipped: [{ pod: 'shop/web', uid: 'uid-of-web' }] },
    answers: [{ id: '0', done: 'done', by: 'alice' }],
  })
  const again = await after(begun, { kind: 'rotate', skip: [], by: 'bob', at })
  t.equal(again.next, begun.next)
  t.match(answersOf(again)[0], { done: 'refused', by: 'bob', says: /a rotation runs since .*, by alice/ })
})

const refused: Record<string, { request: object | string; says: RegExp }> = {
  'a pod that does not live': {
    request: { kind: 'rotate', skip: ['shop/gone'], ...asked },
    says: /no live pod shop\/gone/,
  },
  'skipping where nothing waits': {
    request: { kind: 'skip', pods: ['shop/web'], ...asked },
    says: /no rotation/,
  },
  'a root that is none': {
    request: { kind: 'revoke-root', fingerprint: '0'.repeat(64), ...asked },
    says: /no root has this fingerprint/,
  },
  'what is not JSON': { request: '{', says: /must be JSON/ },
  'an unknown wish': {
    request: { kind: 'destroy', ...asked },
    says: /kind: must be one of rotate, skip, rotate-issuer, revoke-root/,
  },
  'an unknown key': {
    request: { kind: 'rotate', skip: [], force: true, ...asked },
    says: /force: unknown key/,
  },
  'half a fingerprint': {
    request: { kind: 'revoke-root', fingerprint: 'abc', ...asked },
    says: /fingerprint: must be/,
  },
}
for (const [name, { request, says }] of Object.entries(refused)) {
  t.test(`${name} is refused, and nothing else is changed`, async t => {
    const answered = await after(idle, request)
    t.match(answersOf(answered), [{ done: 'refused', says }])
    t.equal(recordOf(answered).phase, 'idle')
    t.same([answered.root, answered.issuer], [idle.root, idle.issuer])
  })
}

t.test(
  'the root that signs is replaced by a new one, and during a rotation by the one that is known',
  async t => {
    const revoke = { kind: 'revoke-root', fingerprint: fingerprintOf(root.certificate), ...asked }
    const replaced = await after(idle, revoke)
    t.not(replaced.root.certificate, root.certificate)
    const begun = await after(idle, { kind: 'rotate', skip: [], ...asked })
    const promoted = await after(begun, revoke)
    t.equal(promoted.root.certificate, begun.next?.certificate)
    t.equal(recordOf(promoted).phase, 'idle')
  },
)

t.test('the last answers are remembered, not all', async t => {
  const many = Array.from({ length: MOST_ANSWERS + 3 }, () => ({ kind: 'skip', pods: [], ...asked }))
  t.equal(answersOf(await after(idle, ...many)).length, MOST_ANSWERS)
})

t.test(
  'a pod on whose account an old root is kept can be skipped after the switch, and no other time',
  async t => {
    const begun = begin(idle, await context.newRoot(), [], { by: 'alice', now })
    const seen = begun.next ? switchRoots(begun, await context.newIssuer(begun.next), now) : begun
    const skip = { kind: 'skip', pods: ['shop/web'], ...asked }
    t.match(answersOf(await after(schedule(seen, { drop: now, seen: now }), skip)), [
      { done: 'refused', says: 'no rotation waits for pods' },
    ])
    const heldBy = { pod: 'shop/web', uid: 'uid-of-web', serial: '0a', notAfter: at }
    const held = await after(schedule(seen, { drop: now, seen: now, heldBy }), skip)
    t.match(recordOf(held).rotation, { heldBy, skipped: [{ uid: 'uid-of-web', by: 'alice' }] })
  },
)
