// What of federation ConfigMaps is in force, and what is pushed of it.
import type { V1ConfigMap } from '@kubernetes/client-node'
import t from 'tap'
import {
  agreed,
  federationRecord,
  partnersOf,
  trustDomainsIn,
} from '../../../../injector/federation/documents.ts'
import { clientsOf } from '../../../../injector/federation/watch.ts'

const named = (domain: string, name = domain, more = '') => ({
  'a.yaml': `apiVersion: federation.postern.dev/v1\nkind: TrustDomain\nmetadata: {name: ${name}}\nspec:\n  trustDomain: ${domain}\n  bundle: {endpoint: {url: "https://${domain}/"}}\n${more}`,
})
const configMap = (name: string, day: number, data: Record<string, string>): V1ConfigMap => ({
  metadata: { name, creationTimestamp: new Date(Date.UTC(2026, 0, day)) },
  data,
})
const recordOf = (...[name, day, data]: Parameters<typeof configMap>) =>
  federationRecord(configMap(name, day, data), undefined, 'east.example')
const domains = (records: Parameters<typeof trustDomainsIn>[0]) =>
  trustDomainsIn(records).map(({ configMap: from, document }) => `${from}: ${document.trustDomain}`)

t.test('a version that cannot be read leaves the last good one, or nobody', async t => {
  const good = recordOf('west', 1, named('west.example'))
  const bad = configMap('west', 1, { 'a.yaml': 'kind: Nothing' })
  t.match(federationRecord(bad, good, 'east.example'), {
    documents: good.documents,
    inForce: 'last good',
    problems: [/a\.yaml:1/],
  })
  t.match(federationRecord(bad, undefined, 'east.example'), { documents: [], inForce: 'nothing' })
})

t.test('of two that contradict each other the older holds, whatever their order', async t => {
  const [older, younger] = [
    recordOf('z', 1, named('west.example', 'z')),
    recordOf('a', 2, named('west.example', 'a')),
  ]
  const third = recordOf('m', 3, named('north.example'))
  for (const records of [
    [older, younger, third],
    [third, younger, older],
  ]) {
    const held = agreed(records)
    t.same(domains(held), ['z: west.example', 'm: north.example'])
    t.match(
      held.find(({ name }) => name === 'a'),
      { inForce: 'nothing', problems: [/both about west\.example/] },
    )
  }
  t.same(
    domains(agreed([younger, third])),
    ['a: west.example', 'm: north.example'],
    'and the younger once it is alone',
  )
})

t.test('a partner without a bundle is pushed, and trusted in nobody', async t => {
  const documents = trustDomainsIn([
    recordOf('west', 1, named('west.example')),
    recordOf('b', 2, named('b.example')),
  ]).map(({ document }) => document)
  const fetched = new Map([
    ['west.example', { url: 'https://west.example/', roots: ['PEM'] }],
    ['gone.example', { url: 'https://gone.example/', roots: ['PEM'] }],
  ])
  t.strictSame(partnersOf(documents, fetched), [
    { trustDomain: 'b.example', roots: [], destinations: [] },
    { trustDomain: 'west.example', roots: ['PEM'], destinations: [] },
  ])
})

t.test('partner clients bind the pods of their namespace that their selector names', async t => {
  const clients = { name: 'batch', roots: ['PEM'], ports: [8443], principals: [] }
  const document = { kind: 'PartnerClients', namespace: 'shop', selector: { app: 'cart' }, clients } as const
  const bound = (namespace: string, labels: Record<string, string>) =>
    clientsOf([document], { namespace, labels }).length
  t.same(
    [bound('shop', { app: 'cart', a: 'b' }), bound('shop', { app: 'web' }), bound('bank', { app: 'cart' })],
    [1, 0, 0],
  )
})
