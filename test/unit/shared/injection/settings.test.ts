import t from 'tap'
import { PosternError } from '../../../../shared/errors.ts'
import { type ProxySettings, parseProxySettings } from '../../../../shared/injection/settings.ts'
import { injectInto, pod, settingsOf } from '../../../support/pods.ts'

const good: ProxySettings = settingsOf(
  injectInto(
    pod({
      annotations: { 'postern.dev/skip-outbound-cidrs': '10.0.0.0/8' },
      container: {
        livenessProbe: { httpGet: { port: 80, httpHeaders: [{ name: 'X-A', value: 'b' }] } },
        readinessProbe: { tcpSocket: { port: 81 } },
        startupProbe: { grpc: { port: 82, service: 's' } },
      },
    }),
  ),
)
const [http, tcp, grpc] = good.probes
const withTarget = (change: object) => ({ probes: [{ ...http, target: { ...http?.target, ...change } }] })

t.test('settings survive the way through text', async t => {
  t.strictSame(parseProxySettings(JSON.stringify(good)), good)
  t.strictSame(
    [http, tcp, grpc].map(probe => probe?.target.kind),
    ['http', 'tcp', 'grpc'],
  )
})

const refused: readonly { name: string; change: object; message: RegExp }[] = [
  { name: 'an unknown key', change: { extra: 1 }, message: /POSTERN_CONFIG\.extra: unknown key/ },
  {
    name: 'an unknown key in a probe',
    change: { probes: [{ ...tcp, x: 1 }] },
    message: /probes\[0\]\.x: unknown/,
  },
  { name: 'an unknown key in a target', change: withTarget({ x: 1 }), message: /target\.x: unknown key/ },
  { name: 'a missing key', change: { udp: undefined }, message: /POSTERN_CONFIG\.udp: is missing/ },
  {
    name: 'a trust domain in capitals',
    change: { trustDomain: 'A' },
    message: /trustDomain: must be a trust/,
  },
  { name: 'a signer without a domain', change: { signerName: 'x' }, message: /signerName: must be/ },
  { name: 'a control address without a port', change: { controlAddress: 'a' }, message: /<host>:<port>/ },
  { name: 'a control port of 0', change: { controlAddress: 'a:0' }, message: /<host>:<port>/ },
  {
    name: 'an injector that is no SPIFFE ID',
    change: { injectorIdentity: 'x' },
    message: /injectorIdentity: /,
  },
  { name: 'an unknown log level', change: { logLevel: 'loud' }, message: /one of trace, debug/ },
  { name: 'an unknown outbound mode', change: { outbound: 'maybe' }, message: /one of auto, require/ },
  {
    name: 'a fractional number',
    change: { drainSeconds: 1.5 },
    message: /drainSeconds: must be a whole number/,
  },
  { name: 'a number as text', change: { drainSeconds: '45' }, message: /drainSeconds/ },
  {
    name: 'a certificate source that nobody knows',
    change: { certificateSource: { kind: 'spire', socket: 'a' } },
    message: /certificateSource\.kind/,
  },
  {
    name: 'a socket outside its volume',
    change: { certificateSource: { kind: 'workload-api', socket: '../a' } },
    message: /certificateSource\.socket: must be a path within/,
  },
  {
    name: 'a key outside its volume',
    change: { certificateSource: { kind: 'files', key: '/etc/key', chain: 'a' } },
    message: /certificateSource\.key: must be a path within/,
  },
  {
    name: 'a hook on a port of ours',
    change: { certFiles: { hook: { port: 15020, path: '/quit' } } },
    message: /certFiles\.hook\.port: is one of Postern’s own/,
  },
  {
    name: 'a hook elsewhere',
    change: { certFiles: { hook: { port: 80, path: '//elsewhere' } } },
    message: /certFiles\.hook\.path: must be a path/,
  },
  {
    name: 'a hook with a host',
    change: { certFiles: { hook: { host: 'elsewhere', port: 80, path: '/' } } },
    message: /certFiles\.hook\.host: unknown key/,
  },
  { name: 'a lifetime under ten minutes', change: { certificateLifetimeSeconds: 599 }, message: /600/ },
  { name: 'a protocol that nobody speaks', change: { protocols: { 80: 'http3' } }, message: /protocols\.80/ },
  { name: 'a protocol of no port', change: { protocols: { 65536: 'http1' } }, message: /protocols: key/ },
  { name: 'a port over 65535', change: { skipInboundPorts: [1, 65_536] }, message: /skipInboundPorts\[1\]/ },
  { name: 'a list that is none', change: { skipOutboundPorts: 1 }, message: /must be a list/ },
  { name: 'a CIDR with too many bits', change: { skipOutboundCidrs: ['10.0.0.0/33'] }, message: /a CIDR/ },
  { name: 'a start-up path with a query', change: { startupPath: '/a?b' }, message: /startupPath/ },
  {
    name: 'a probe path outside its prefix',
    change: { probes: [{ ...tcp, path: '/metrics' }] },
    message: /app-health/,
  },
  {
    name: 'a probe of an unknown kind',
    change: withTarget({ kind: 'udp' }),
    message: /one of http, tcp, grpc/,
  },
  {
    name: 'a probe path with a line break',
    change: withTarget({ path: '/a\r\nb' }),
    message: /target\.path/,
  },
  {
    name: 'a header value with a line break',
    change: withTarget({ headers: [{ name: 'a', value: 'b\r\nc: d' }] }),
    message: /headers\[0\]\.value/,
  },
  {
    name: 'a header name with a colon',
    change: withTarget({ headers: [{ name: 'a:', value: 'b' }] }),
    message: /headers\[0\]\.name/,
  },
  {
    name: 'a probe that is no object',
    change: { probes: [null] },
    message: /probes\[0\]: must be an object/,
  },
]

for (const { name, change, message } of refused)
  t.test(`${name} is refused`, async t => {
    const error = t.throws(() => parseProxySettings(JSON.stringify({ ...good, ...change })))
    t.ok(error instanceof PosternError && error.code === 'PSTN_CONFIG_INVALID')
    t.match(error instanceof Error && error.message, message)
  })

for (const text of ['', '{', 'null', '[]', '"x"'])
  t.test(`${JSON.stringify(text)} is refused`, async t => {
    t.throws(() => parseProxySettings(text), { code: 'PSTN_CONFIG_INVALID' })
  })
