import { readFile } from 'node:fs/promises'
import t from 'tap'
import { PosternError } from '../../../../shared/errors.ts'
import {
  INJECTED_ANNOTATION,
  NAMESPACE_LABELS,
  POD_ANNOTATIONS,
} from '../../../../shared/injection/annotations.ts'
import { parsePodOptions, readPodOptions } from '../../../../shared/injection/pod-options.ts'

const problemKeys = (annotations: Record<string, string>, injected = false) =>
  readPodOptions(annotations, injected).problems.map(problem => problem.key)

t.test('a pod that says nothing gets the defaults and leaves injection to its namespace', async t => {
  for (const nothing of [undefined, null, {}, { 'example.com/inject': 'yes' }])
    t.strictSame(parsePodOptions(nothing), {
      skipInboundPorts: [],
      skipOutboundPorts: [],
      skipOutboundCidrs: [],
      httpPorts: [],
      http2Ports: [],
      outbound: 'auto',
      udp: 'allow',
      logLevel: 'info',
      drainSeconds: 45,
      certificateLifetimeSeconds: 86_400,
      certificateSource: 'csr',
      certFiles: [],
      certFilesEnv: [],
      proxyCpuRequest: '50m',
      proxyMemoryRequest: '64Mi',
      proxyMemoryLimit: '256Mi',
    })
})

t.test('every annotation is read to its typed value', async t => {
  const options = parsePodOptions({
    'postern.dev/inject': 'enabled',
    'postern.dev/skip-inbound-ports': '9100, 9101,9100',
    'postern.dev/skip-outbound-ports': '3306',
    'postern.dev/skip-outbound-cidrs': '169.254.0.0/16, fd00::/8',
    'postern.dev/http-ports': '8080, 8081',
    'postern.dev/http2-ports': '50051',
    'postern.dev/outbound': 'require',
    'postern.dev/udp': 'block',
    'postern.dev/log-level': 'debug',
    'postern.dev/drain-seconds': '0',
    'postern.dev/certificate-lifetime': '1h30m',
    'postern.dev/certificate-source': 'files',
    'postern.dev/certificate-volume': 'spiffe',
    'postern.dev/certificate-files': 'now/tls.key, now/tls.crt',
    'postern.dev/cert-files': 'app, worker',
    'postern.dev/cert-files-env': 'NODE_EXTRA_CA_CERTS,SSL_CERT_FILE',
    'postern.dev/cert-files-hook': '8081/-/reload?now=1',
    'postern.dev/proxy-cpu-request': '0.5',
    'postern.dev/proxy-memory-request': '1Gi',
    'postern.dev/proxy-memory-limit': '2Gi',
  })
  t.strictSame(options, {
    inject: 'enabled',
    skipInboundPorts: [9100, 9101],
    skipOutboundPorts: [3306],
    skipOutboundCidrs: ['169.254.0.0/16', 'fd00::/8'],
    httpPorts: [8080, 8081],
    http2Ports: [50051],
    outbound: 'require',
    udp: 'block',
    logLevel: 'debug',
    drainSeconds: 0,
    certificateLifetimeSeconds: 5400,
    certificateSource: 'files',
    certificateVolume: 'spiffe',
    certificateFiles: { key: 'now/tls.key', chain: 'now/tls.crt' },
    certFiles: ['app', 'worker'],
    certFilesEnv: ['NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE'],
    certFilesHook: { port: 8081, path: '/-/reload?now=1' },
    proxyCpuRequest: '0.5',
    proxyMemoryRequest: '1Gi',
    proxyMemoryLimit: '2Gi',
  })
})

const REFUSED: readonly (readonly [key: string, ...values: string[]])[] = [
  ['inject', 'true', 'Enabled', ''],
  ['skip-inbound-ports', '0', '65536', '80,,81', '80-90', '1e3', '+80', '080', 'http', '15008'],
  ['skip-outbound-ports', '-1', '80;81', '15001'],
  ['skip-outbound-cidrs', '10.0.0.0', '10.0.0.0/33', 'fd00::/129', '10.0.0/8', 'example.com/8', ','],
  ['http-ports', 'http', '0', '15008', '8080-8090', '15020'],
  ['http2-ports', '65536', 'grpc', '15006'],
  ['outbound', 'strict', ''],
  ['udp', 'deny'],
  ['log-level', 'verbose', 'INFO'],
  ['drain-seconds', '45s', '-1', '3601', '1.5', ''],
  ['certificate-lifetime', '9m', '599s', '24', '1d', 'h', '', '1.5h', '10m1h', '99999h', '30m '.repeat(2)],
  ['certificate-source', 'spire', 'CSR', ''],
  ['certificate-volume', '', 'Spiffe', 'a/b', '-a', 'a.b'],
  [
    'certificate-files',
    '',
    'a,b,c',
    'a,',
    '/tls.key',
    '../tls.key',
    'a/../b',
    'a//b',
    './a',
    'a b',
    'x'.repeat(65),
  ],
  ['certificate-socket', '', '/run/agent.sock', '..', 'a/..', 'a,b', 'x'.repeat(65)],
  ['cert-files', 'App', 'app,', 'a b', 'app/main', '*', 'x'.repeat(64)],
  ['cert-files-env', 'PATH', 'ssl_cert_file', 'SSL_CERT_FILE,LD_PRELOAD', 'SSL_CERT_DIR'],
  [
    'cert-files-hook',
    '',
    '8081',
    '/reload',
    '0/reload',
    '65536/reload',
    '08081/reload',
    '15020/quit',
    '8081/a b',
    '8081/a#b',
    '8081//elsewhere/reload',
    '127.0.0.1:8081/reload',
    'http://127.0.0.1:8081/reload',
    '8081/\u00e4',
    `8081/${'x'.repeat(256)}`,
  ],
  ['proxy-cpu-request', '0', '0m', '50M', '1.2345', '-1'],
  ['proxy-memory-request', '64', '64m', '31Mi', '64mi', '1e9', '0.5Gi'],
  ['proxy-memory-limit', '0', 'unlimited'],
]

for (const [name, ...values] of REFUSED)
  t.test(`bad values of ${name} are refused with their key`, async t => {
    for (const value of values)
      t.same(problemKeys({ [`postern.dev/${name}`]: value }), [`postern.dev/${name}`], JSON.stringify(value))
  })

t.test('all problems are named at once, each with its reason and hint', async t => {
  try {
    parsePodOptions({
      'postern.dev/inject': 'yes',
      'postern.dev/udp': 'no',
      'postern.dev/drain-second': '5',
    })
    t.fail('accepted')
  } catch (thrown) {
    if (!(thrown instanceof PosternError)) throw thrown
    t.equal(thrown.code, 'PSTN_ANNOTATION_INVALID')
    t.match(thrown.message, 'postern.dev/inject: "yes" is not valid; write enabled, disabled')
    t.match(thrown.message, 'postern.dev/udp: "no" is not valid; write allow, block')
    t.match(
      thrown.message,
      'postern.dev/drain-second: unknown annotation; did you mean postern.dev/drain-seconds?',
    )
  }
})

t.test('a wrong value leaves the default in force', async t => {
  t.equal(readPodOptions({ 'postern.dev/drain-seconds': 'x' }, false).options.drainSeconds, 45)
})

t.test('one path of certificate-files is a file with the key and then the chain', async t => {
  const options = parsePodOptions({
    'postern.dev/certificate-source': 'files',
    'postern.dev/certificate-volume': 'spiffe',
    'postern.dev/certificate-files': 'bundle.pem',
  })
  t.match(options, { certificateFiles: { key: 'bundle.pem', chain: 'bundle.pem' } })
})

for (const [name, annotations, problems] of [
  ['a source other than the CSR API needs a volume', { source: 'files' }, ['volume']],
  ['the Workload API too', { source: 'workload-api' }, ['volume']],
  ['a volume means nothing to the CSR API', { volume: 'a' }, ['volume']],
  ['nor do files', { files: 'a' }, ['files']],
  ['files mean nothing to the Workload API', { source: 'workload-api', volume: 'a', files: 'a' }, ['files']],
  ['a volume of the kubelet’s needs no name', { source: 'pod-certificate' }, []],
  ['and takes none', { source: 'pod-certificate', volume: 'a', files: 'b' }, ['volume', 'files']],
  ['it lives an hour at least', { source: 'pod-certificate', lifetime: '59m59s' }, ['lifetime']],
  ['and 91 days at most', { source: 'pod-certificate', lifetime: '2184h1s' }, ['lifetime']],
  ['nor a socket to files', { source: 'files', volume: 'a', socket: 'a' }, ['socket']],
] as const)
  t.test(`certificate sources: ${name}`, async t => {
    const keys = Object.entries(annotations).map(([key, value]) => [`postern.dev/certificate-${key}`, value])
    const expected = problems.map(key => `postern.dev/certificate-${key}`)
    t.strictSame(problemKeys(Object.fromEntries(keys)), expected)
  })

for (const [name, annotations, problems] of [
  ['variables are for containers that get files', { env: 'SSL_CERT_FILE' }, ['-env']],
  ['so is a hook', { hook: '8081/' }, ['-hook']],
  ['with a container both mean something', { '': 'app', env: 'SSL_CERT_FILE', hook: '8081/' }, []],
] as const)
  t.test(`certificate files: ${name}`, async t => {
    const keyed = Object.entries(annotations).map(([key, value]) => [
      `postern.dev/cert-files${key && `-${key}`}`,
      value,
    ])
    const expected = problems.map(key => `postern.dev/cert-files${key}`)
    t.strictSame(problemKeys(Object.fromEntries(keyed)), expected)
  })

t.test('a memory limit below the request is refused, defaults included', async t => {
  t.same(problemKeys({ 'postern.dev/proxy-memory-limit': '32Mi' }), ['postern.dev/proxy-memory-limit'])
  t.same(problemKeys({ 'postern.dev/proxy-memory-request': '1Gi' }), ['postern.dev/proxy-memory-limit'])
})

t.test('a port is declared once, and not where its bytes pass the sidecar by', async t => {
  const { problems } = readPodOptions(
    {
      'postern.dev/http-ports': '80,81',
      'postern.dev/http2-ports': '81,82',
      'postern.dev/skip-inbound-ports': '80,82',
    },
    false,
  )
  t.same(
    problems.map(({ key, reason }) => `${key}: ${reason}`),
    [
      'postern.dev/http2-ports: 81 is in postern.dev/http-ports too',
      'postern.dev/http-ports: 80 is in postern.dev/skip-inbound-ports too',
      'postern.dev/http2-ports: 82 is in postern.dev/skip-inbound-ports too',
    ],
  )
})

t.test('an unknown key far from every other gets no suggestion', async t => {
  const [problem] = readPodOptions({ 'postern.dev/telemetry': 'x' }, false).problems
  t.equal(problem?.reason, 'unknown annotation')
})

t.test('the mark of injection is accepted on a pod that holds our sidecar, and only there', async t => {
  t.same(problemKeys({ [INJECTED_ANNOTATION]: '0.1.0' }, true), [])
  t.same(problemKeys({ [INJECTED_ANNOTATION]: '0.1.0' }, false), [INJECTED_ANNOTATION])
})

t.test('docs/annotations.md holds exactly the table', async t => {
  const docs = await readFile(new URL('../../../../docs/annotations.md', import.meta.url), 'utf8')
  const rows = docs.split('\n').filter(line => line.startsWith('| `postern.dev/'))
  const expected = [...Object.values(POD_ANNOTATIONS), ...Object.values(NAMESPACE_LABELS)].map(
    ({ key, values, fallback = '–', meaning }) =>
      `| \`${key}\` | ${values} | ${fallback || 'none'} | ${meaning} |`,
  )
  t.strictSame(rows, expected)
})
