import t from 'tap'
import { admit } from '../../../../injector/control/admit.ts'
import { reduce } from '../../../../injector/directory/reduce.ts'
import { createWorld } from '../../../../injector/directory/world.ts'
import { workloadSpiffeId } from '../../../../shared/spiffe-id.ts'
import { type PodParts, pod } from '../../../support/cluster-objects.ts'
import { WORLD_SETTINGS } from '../../../support/directory.ts'

const id = (serviceAccount: string, namespace = 'shop', trustDomain = 'cluster.local') =>
  workloadSpiffeId({ trustDomain, namespace, serviceAccount })

const decide = (claim: { podUid?: string; identity?: string; address?: string }, parts: PodParts = {}) => {
  const world = createWorld(WORLD_SETTINGS)
  const object = pod('web', { ips: ['10.1.0.5', 'fd00::5'], ...parts })
  reduce(world, { kind: 'set', resource: 'pods', object })
  const { podUid = 'uid-web', identity = id('web'), address = '10.1.0.5' } = claim
  const decision = admit(world, { podUid, peer: { identity: identity as ReturnType<typeof id>, address } })
  return decision.kind === 'admit'
    ? 'admit'
    : `${decision.mayHeal ? 'perhaps later' : 'never'}: ${decision.reason}`
}

const table: [string, ReturnType<typeof decide>, string | RegExp][] = [
  ['the pod’s service account from the pod’s address', decide({}), 'admit'],
  ['from its second address', decide({ address: 'fd00::5' }), 'admit'],
  ['a pod that is being deleted still needs its stream', decide({}, { deleting: true }), 'admit'],
  [
    'a pod that nobody knows may become known',
    decide({ podUid: 'other' }),
    'perhaps later: no pod has the uid other',
  ],
  [
    'another service account of the namespace',
    decide({ identity: id('db') }),
    'never: the certificate is spiffe://cluster.local/ns/shop/sa/db, pod shop/web is spiffe://cluster.local/ns/shop/sa/web',
  ],
  [
    'the same service account of another namespace',
    decide({ identity: id('web', 'bank') }),
    /^never: the certificate is/,
  ],
  ['another trust domain', decide({ identity: id('web', 'shop', 'partner') }), /^never: the certificate is/],
  ['a pod that has ended', decide({}, { phase: 'Succeeded' }), 'never: pod shop/web has ended'],
  [
    'from another address',
    decide({ address: '10.1.0.6' }),
    'perhaps later: 10.1.0.6 is no address of pod shop/web (10.1.0.5, fd00::5)',
  ],
  ['before the pod’s status has an address', decide({}, { ips: [] }), /^perhaps later: .* \(none\)$/],
]
for (const [name, actual, expected] of table) {
  t.test(name, async t => {
    if (typeof expected === 'string') t.equal(actual, expected)
    else t.match(actual, expected)
  })
}
