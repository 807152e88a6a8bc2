import type { V1Container } from '@kubernetes/client-node'
import t from 'tap'
import { inject } from '../../../../shared/injection/inject.ts'
import type { ProbeTarget } from '../../../../shared/injection/settings.ts'
import { CONTEXT, containerOf, injectInto, pod, settingsOf } from '../../../support/pods.ts'

const http = (more: Partial<Extract<ProbeTarget, { kind: 'http' }>>): ProbeTarget => ({
  kind: 'http',
  port: 8080,
  path: '/',
  scheme: 'HTTP',
  headers: [],
  ...more,
})

const rewritten: readonly { name: string; container: Partial<V1Container>; target: ProbeTarget }[] = [
  {
    name: 'an HTTP probe keeps path, query and scheme',
    container: { livenessProbe: { httpGet: { port: 8080, path: '/a?b=c', scheme: 'HTTPS' } } },
    target: http({ path: '/a?b=c', scheme: 'HTTPS' }),
  },
  {
    name: 'an HTTP probe without a path asks for the root',
    container: { livenessProbe: { httpGet: { port: 8080 } } },
    target: http({}),
  },
  {
    name: 'a path without its slash gets one, and loses its fragment',
    container: { livenessProbe: { httpGet: { port: 8080, path: 'healthz#top' } } },
    target: http({ path: '/healthz' }),
  },
  {
    name: 'blanks and letters outside ASCII are percent-encoded',
    container: { livenessProbe: { httpGet: { port: 8080, path: '/a b/ä' } } },
    target: http({ path: '/a%20b/%C3%A4' }),
  },
  {
    name: 'headers move to the settings, Host among them',
    container: {
      livenessProbe: { httpGet: { port: 8080, httpHeaders: [{ name: 'Host', value: 'app.local' }] } },
    },
    target: http({ headers: [{ name: 'Host', value: 'app.local' }] }),
  },
  {
    name: 'a dollar sign that the kubelet would expand survives',
    container: {
      livenessProbe: { httpGet: { port: 8080, httpHeaders: [{ name: 'A', value: '$(HOME) $$ $' }] } },
    },
    target: http({ headers: [{ name: 'A', value: '$(HOME) $$ $' }] }),
  },
  {
    name: 'a named port is resolved',
    container: {
      ports: [{ name: 'web', containerPort: 8080 }],
      livenessProbe: { httpGet: { port: 'web' } },
    },
    target: http({}),
  },
  {
    name: 'a number written as a string is a number, as for the kubelet',
    container: { livenessProbe: { tcpSocket: { port: '8080' } } },
    target: { kind: 'tcp', port: 8080 },
  },
  {
    name: 'a TCP probe becomes a request to the status port',
    container: { readinessProbe: { tcpSocket: { port: 5432 } } },
    target: { kind: 'tcp', port: 5432 },
  },
  {
    name: 'a gRPC probe keeps its service',
    container: { startupProbe: { grpc: { port: 9090, service: 'db' } } },
    target: { kind: 'grpc', port: 9090, service: 'db' },
  },
  {
    name: 'a gRPC probe without a service asks for the whole server',
    container: { startupProbe: { grpc: { port: 9090 } } },
    target: { kind: 'grpc', port: 9090, service: '' },
  },
  {
    name: 'a postStart hook by HTTP is rewritten',
    container: { lifecycle: { postStart: { httpGet: { port: 8080, path: '/up' } } } },
    target: http({ path: '/up' }),
  },
  {
    name: 'a preStop hook by HTTP is rewritten',
    container: { lifecycle: { preStop: { httpGet: { port: 8080, path: '/down' } } } },
    target: http({ path: '/down' }),
  },
]

for (const { name, container, target } of rewritten)
  t.test(name, async t => {
    const after = injectInto(pod({ container }))
    const [probe, ...rest] = settingsOf(after).probes
    t.strictSame(probe?.target, target)
    t.strictSame(rest, [])
    const app = containerOf(after, 'app')
    const handlers = [
      app.livenessProbe,
      app.readinessProbe,
      app.startupProbe,
      app.lifecycle?.postStart,
      app.lifecycle?.preStop,
    ].filter(handler => handler !== undefined)
    t.strictSame(handlers, [{ httpGet: { port: 15020, path: probe?.path, scheme: 'HTTP' } }])
  })

const untouched: readonly { name: string; container: Partial<V1Container> }[] = [
  { name: 'an exec probe', container: { livenessProbe: { exec: { command: ['true'] } } } },
  {
    name: 'a probe of another host',
    container: { livenessProbe: { httpGet: { port: 80, host: '10.0.0.1' } } },
  },
  {
    name: 'a TCP probe of another host',
    container: { livenessProbe: { tcpSocket: { port: 80, host: 'db' } } },
  },
  { name: 'an exec hook', container: { lifecycle: { preStop: { exec: { command: ['true'] } } } } },
  { name: 'a sleep hook', container: { lifecycle: { preStop: { sleep: { seconds: 5 } } } } },
  {
    name: 'a TCP hook, which no kubelet runs',
    container: { lifecycle: { preStop: { tcpSocket: { port: 80 } } } },
  },
]

for (const { name, container } of untouched)
  t.test(`${name} stays as it is`, async t => {
    const before = pod({ container })
    const after = injectInto(before)
    t.strictSame(after.spec?.containers, before.spec?.containers)
    t.strictSame(settingsOf(after).probes, [])
  })

t.test('a probe keeps its timing', async t => {
  const timing = { periodSeconds: 7, timeoutSeconds: 4, failureThreshold: 2, initialDelaySeconds: 9 }
  const after = injectInto(pod({ container: { livenessProbe: { tcpSocket: { port: 80 }, ...timing } } }))
  t.match(containerOf(after, 'app').livenessProbe, timing)
  t.equal(settingsOf(after).probes[0]?.timeoutSeconds, 4)
})

t.test('a hook may take as long as the kubelet waits for it', async t => {
  const hook = { httpGet: { port: 80 } }
  const container = { lifecycle: { postStart: hook, preStop: hook } }
  const [postStart, preStop] = settingsOf(
    injectInto(pod({ container, spec: { terminationGracePeriodSeconds: 90 } })),
  ).probes
  t.equal(postStart?.timeoutSeconds, 3600)
  t.equal(preStop?.timeoutSeconds, 90)
})

t.test('paths are random, and name container and kind', async t => {
  const probe = { tcpSocket: { port: 80 } }
  const container = { livenessProbe: probe, readinessProbe: probe, startupProbe: probe }
  const paths = settingsOf(injectInto(pod({ container }))).probes.map(({ path }) => path)
  t.strictSame(paths, [
    '/app-health/Zm9vYmFy/app/livez',
    '/app-health/Zm9vYmFy/app/readyz',
    '/app-health/Zm9vYmFy/app/startupz',
  ])
})

t.test('the native sidecars of others are rewritten too', async t => {
  const other = {
    name: 'logs',
    image: 'logs:1',
    restartPolicy: 'Always',
    livenessProbe: { httpGet: { port: 2020 } },
  }
  const after = injectInto(pod({ spec: { initContainers: [other] } }))
  t.equal(containerOf(after, 'logs').livenessProbe?.httpGet?.port, 15020)
  t.strictSame(
    settingsOf(after).probes.map(({ container }) => container),
    ['logs'],
  )
})

const refused: readonly { name: string; container: Partial<V1Container>; message: RegExp }[] = [
  {
    name: 'a port name that the container does not have',
    container: { livenessProbe: { httpGet: { port: 'web' } } },
    message: /container app: livenessProbe: port "web" is neither/,
  },
  {
    name: 'one of our ports',
    container: { readinessProbe: { tcpSocket: { port: 15_008 } } },
    message: /readinessProbe: port 15008 is one of Postern's own/,
  },
  {
    name: 'a path of ours that no earlier injection recorded',
    container: { livenessProbe: { httpGet: { port: 15_020, path: '/app-health/x/app/livez' } } },
    message: /livenessProbe: port 15020/,
  },
  {
    name: 'one of our ports in a hook',
    container: { lifecycle: { preStop: { httpGet: { port: 15_001 } } } },
    message: /lifecycle\.preStop: port 15001/,
  },
  {
    name: 'a header value that no request could carry',
    container: { livenessProbe: { httpGet: { port: 80, httpHeaders: [{ name: 'a', value: 'b\nc' }] } } },
    message: /headers\[0\]\.value/,
  },
  {
    name: 'more probe settings than an environment variable holds',
    container: {
      livenessProbe: { httpGet: { port: 80, httpHeaders: [{ name: 'a', value: 'x'.repeat(130_000) }] } },
    },
    message: /more than 122880 bytes/,
  },
]

for (const { name, container, message } of refused)
  t.test(`a probe with ${name} is refused`, async t => {
    const result = inject(pod({ container }), 'shop', CONTEXT)
    t.match(result, { kind: 'refuse', code: 'PSTN_INJECT_REFUSED', message })
  })
