import type { V1Container, V1Pod } from '@kubernetes/client-node'
import fc from 'fast-check'
import t from 'tap'
import { jsonPatch } from '../../../../embedded/cluster/patch.ts'
import { inject } from '../../../../shared/injection/inject.ts'
import { diff } from '../../../../shared/injection/json-patch.ts'
import { parseProxySettings } from '../../../../shared/injection/settings.ts'
import { CONTEXT, patched, settingsOf } from '../../../support/pods.ts'

const port = fc.integer({ min: 1, max: 14_999 })
const handler = fc.oneof(
  fc.record({
    httpGet: fc.record(
      { port, path: fc.webPath(), scheme: fc.constantFrom('HTTP', 'HTTPS') },
      { requiredKeys: ['port'] },
    ),
  }),
  fc.record({ tcpSocket: fc.record({ port }) }),
  fc.record({ grpc: fc.record({ port, service: fc.string() }, { requiredKeys: ['port'] }) }),
  fc.record({ exec: fc.record({ command: fc.array(fc.string()) }) }),
)
const hook = fc.oneof(
  fc.record({ httpGet: fc.record({ port, path: fc.webPath() }, { requiredKeys: ['port'] }) }),
  fc.record({ exec: fc.record({ command: fc.array(fc.string()) }) }),
)

const container = fc.record(
  {
    name: fc.stringMatching(/^[a-z][a-z0-9-]{0,8}[a-z0-9]$/),
    image: fc.string(),
    restartPolicy: fc.constant('Always'),
    command: fc.array(fc.string()),
    env: fc.array(fc.record({ name: fc.string(), value: fc.string() })),
    livenessProbe: handler,
    readinessProbe: handler,
    startupProbe: handler,
    lifecycle: fc.record({ postStart: hook, preStop: hook }, { requiredKeys: [] }),
  },
  { requiredKeys: ['name', 'image'] },
)
const annotations = fc.dictionary(fc.stringMatching(/^[a-z~]{1,5}\/[a-z~]{1,5}$/), fc.string())
const pods: fc.Arbitrary<V1Pod> = fc
  .record({
    annotations: fc.option(annotations, { nil: undefined }),
    containers: fc.uniqueArray(container, { minLength: 2, maxLength: 6, selector: ({ name }) => name }),
    inits: fc.option(fc.nat({ max: 2 }), { nil: undefined }),
    volumes: fc.option(fc.constant({ name: 'data', emptyDir: {} }), { nil: undefined }),
    hostname: fc.string(),
  })
  .map(({ annotations, containers, inits, volumes, hostname }) => ({
    metadata: { ...(annotations && { annotations }) },
    spec: {
      hostname,
      ...(volumes && { volumes: [volumes] }),
      ...(inits !== undefined && { initContainers: containers.slice(0, inits) }),
      containers: containers.slice(inits ?? 0),
    },
  }))

const context = { ...CONTEXT, optIn: 'namespace' } as const
const asJson = (value: unknown) => JSON.parse(JSON.stringify(value))
/** A container without what injection may change. */
const bare = ({
  livenessProbe: _l,
  readinessProbe: _r,
  startupProbe: _s,
  lifecycle: _h,
  ...rest
}: V1Container) => rest
const isOurs = ({ name }: { name: string }) => name.startsWith('postern-')

t.test('the patch keeps every application container, volume and annotation; only probes differ', async () => {
  fc.assert(
    fc.property(pods, pod => {
      const before: V1Pod = asJson(pod)
      const after = patched(before, inject(before, 'shop', context))
      const kept = (pod: V1Pod) => ({
        annotations: { ...pod.metadata?.annotations, 'postern.dev/injected': undefined },
        containers: pod.spec?.containers.map(bare),
        initContainers: (pod.spec?.initContainers ?? []).filter(each => !isOurs(each)).map(bare),
        volumes: (pod.spec?.volumes ?? []).filter(each => !isOurs(each)),
        hostname: pod.spec?.hostname,
      })
      t.strictSame(asJson(kept(after)), asJson(kept(before)))
    }),
    { numRuns: 200 },
  )
})

t.test('each probe that was rewritten can be found in settings that the sidecar accepts', async () => {
  fc.assert(
    fc.property(pods, pod => {
      const before: V1Pod = asJson(pod)
      const after = patched(before, inject(before, 'shop', context))
      const text = JSON.stringify(after.spec?.containers) + JSON.stringify(after.spec?.initContainers)
      const { probes } = parseProxySettings(JSON.stringify(settingsOf(after)))
      for (const { path } of probes) if (!text.includes(JSON.stringify(path))) throw new Error(path)
      const asked = text.match(/"path":"\/app-health[^"]*"/g) ?? []
      if (asked.length !== probes.length) throw new Error(`${asked.length} asked, ${probes.length} recorded`)
    }),
    { numRuns: 200 },
  )
})

t.test('injection of an injected pod changes nothing', async () => {
  fc.assert(
    fc.property(pods, pod => {
      const before: V1Pod = asJson(pod)
      const after = patched(before, inject(before, 'shop', context))
      t.strictSame(inject(after, 'shop', { ...context, random: 'other' }), { kind: 'patch', patch: [] })
    }),
    { numRuns: 200 },
  )
})

t.test('a computed patch turns any JSON document into any other', async () => {
  const json = fc.jsonValue().filter(value => !JSON.stringify(value).includes('__proto__'))
  fc.assert(
    fc.property(json, json, (before, after) => {
      const a = asJson(before)
      const b = asJson(after)
      if (a === null || typeof a !== 'object' || b === null || typeof b !== 'object') return
      if (Array.isArray(a) !== Array.isArray(b)) return
      if (JSON.stringify(sorted(jsonPatch(a, asJson(diff(a, b))))) !== JSON.stringify(sorted(b)))
        throw new Error()
    }),
    { numRuns: 500 },
  )
})

/** With the keys in order, for a comparison that ignores it. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return entries.map(([key, each]) => [key, sorted(each)])
}
