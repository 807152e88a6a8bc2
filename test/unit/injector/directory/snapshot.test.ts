import type { V1ConfigMap } from '@kubernetes/client-node'
import t from 'tap'
import { reduce } from '../../../../injector/directory/reduce.ts'
import { servicesSelecting, snapshotFor } from '../../../../injector/directory/snapshot.ts'
import { createWorld, type World } from '../../../../injector/directory/world.ts'
import { namespace, pod, policies, service } from '../../../support/cluster-objects.ts'
import { WORLD_SETTINGS } from '../../../support/directory.ts'

const settings = { ...WORLD_SETTINGS, prefixes: ['10.0.0.0/8'] }

const policy = (name: string, spec = 'rules: [{to: [{operation: {ports: ["80"]}}]}]') =>
  `apiVersion: policy.postern.dev/v1\nkind: AuthorizationPolicy\nmetadata: {name: ${name}}\nspec: {${spec}}`
const broken = 'apiVersion: policy.postern.dev/v1\nkind: AuthorizationPolice\n'

const given = (): World => {
  const world = createWorld(settings)
  const items = [
    pod('web', { labels: { app: 'web' } }),
    pod('db', { labels: { app: 'db' } }),
    pod('bank', { namespace: 'bank' }),
  ]
  reduce(world, { kind: 'list', resource: 'pods', items })
  return world
}
const set = (world: World, object: V1ConfigMap) =>
  reduce(world, { kind: 'set', resource: 'configmaps', object })
const names = (world: World, uid: string) =>
  snapshotFor(world, uid)?.policy.policies.map(({ name, action }) => `${action} ${name}`)

t.test('a pod is bound by what its namespace and the injector’s say, and selects it', async t => {
  const world = given()
  const selecting = policy('only-db', 'selector: {matchLabels: {app: db}}, rules: [{}]')
  t.same([...set(world, policies('a', policy('all'))).namespaces], ['shop'])
  set(world, policies('b', selecting))
  set(world, policies('c', policy('others'), 'bank'))
  t.equal(set(world, policies('mesh', policy('mesh'), 'postern-system')).everything, true)
  t.same(names(world, 'uid-web'), ['ALLOW postern-system/mesh', 'ALLOW shop/all'])
  t.same(names(world, 'uid-db'), ['ALLOW postern-system/mesh', 'ALLOW shop/all', 'ALLOW shop/only-db'])
  t.same(names(world, 'uid-bank'), ['ALLOW bank/others', 'ALLOW postern-system/mesh'])
  t.same(snapshotFor(world, 'uid-web')?.prefixes, ['10.0.0.0/8'])
})

t.test('an invalid version leaves the last good one in force and says what is wrong', async t => {
  const world = given()
  set(world, policies('a', policy('good')))
  const [, record] = set(world, policies('a', broken)).policies
  t.equal(record?.inForce, 'last good')
  t.match(record?.problems[0], /policy.yaml:2:1: kind/)
  t.same(names(world, 'uid-web'), ['ALLOW shop/good'])
  set(world, policies('a', `${broken}# edited again`))
  t.same(names(world, 'uid-web'), ['ALLOW shop/good'])
  set(world, policies('a', policy('better')))
  t.same(names(world, 'uid-web'), ['ALLOW shop/better'])
})

t.test('a ConfigMap that never was valid denies all that it could cover, and nothing else', async t => {
  const world = given()
  const [record] = set(world, policies('a', broken)).policies
  t.equal(record?.inForce, 'deny all')
  t.same(names(world, 'uid-web'), ['DENY shop/a'])
  t.same(names(world, 'uid-bank'), [])
  const everywhere = { name: 'shop/a', addresses: ['0.0.0.0/0', '::/0'], features: ['a valid document'] }
  t.match(snapshotFor(world, 'uid-web')?.outside, [everywhere], 'and nothing leaves it in plaintext')
  t.same(snapshotFor(world, 'uid-bank')?.outside, [])
  reduce(world, { kind: 'gone', resource: 'configmaps', object: policies('a', broken) })
  t.same(names(world, 'uid-web'), [])
})

t.test('the namespace’s label sets its mode, a label that does not parse does not', async t => {
  const world = given()
  const mode = (labels: Record<string, string>) => {
    reduce(world, { kind: 'set', resource: 'namespaces', object: namespace('shop', { labels }) })
    return snapshotFor(world, 'uid-web')?.policy.mode.inbound
  }
  t.equal(mode({ 'postern.dev/mode': 'strict' }), 'strict')
  t.equal(mode({ 'postern.dev/mode': 'Strict!' }), 'permissive')
  t.equal(mode({}), 'permissive')
})

t.test('a namespace that is being deleted keeps its policies as long as its pods', async t => {
  const world = given()
  const object = policies('a', policy('guard'))
  set(world, object)
  reduce(world, { kind: 'set', resource: 'namespaces', object: namespace('shop', { terminating: true }) })
  reduce(world, { kind: 'gone', resource: 'configmaps', object })
  t.same(names(world, 'uid-web'), ['ALLOW shop/guard'])
  reduce(world, { kind: 'list', resource: 'configmaps', items: [] })
  t.same(names(world, 'uid-web'), ['ALLOW shop/guard'])
  reduce(world, { kind: 'gone', resource: 'namespaces', object: namespace('shop') })
  t.same(names(world, 'uid-web'), [], 'a later namespace of that name starts anew')
})

t.test('a policy written anew before the old namespace is seen to go is not lost with it', async t => {
  const world = given()
  const object = policies('a', policy('guard'))
  set(world, object)
  reduce(world, { kind: 'set', resource: 'namespaces', object: namespace('shop', { terminating: true }) })
  reduce(world, { kind: 'gone', resource: 'configmaps', object })
  set(world, object)
  reduce(world, { kind: 'gone', resource: 'namespaces', object: namespace('shop') })
  reduce(world, { kind: 'set', resource: 'namespaces', object: namespace('shop') })
  t.same(names(world, 'uid-web'), ['ALLOW shop/guard'])
})

t.test('an ended or unknown pod is bound by nothing', async t => {
  const world = given()
  reduce(world, { kind: 'set', resource: 'pods', object: pod('web', { phase: 'Failed' }) })
  t.equal(snapshotFor(world, 'uid-web'), undefined)
  t.equal(snapshotFor(world, 'nobody'), undefined)
})

t.test('Services that select a pod are named; one that selects nothing is not', async t => {
  const world = given()
  const items = [
    service('web', ['10.0.0.1'], { selector: { app: 'web' } }),
    service('front', ['10.0.0.2'], { selector: { app: 'web' } }),
    service('db', ['10.0.0.3'], { selector: { app: 'db' } }),
    service('outside', ['10.0.0.4']),
    service('empty', ['10.0.0.5'], { selector: {} }),
    service('bank', ['10.0.0.6'], { namespace: 'bank', selector: { app: 'web' } }),
  ]
  reduce(world, { kind: 'list', resource: 'services', items })
  t.same(servicesSelecting(world, 'shop', { app: 'web' }), ['front', 'web'])
})
