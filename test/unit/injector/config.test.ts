import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { describeConfig, parseSettings, readConfig } from '../../../injector/config.ts'
import { PosternError } from '../../../shared/errors.ts'

const DEPLOYED = new URL('../../../deploy/config.yaml', import.meta.url)
const env = {
  KUBERNETES_SERVICE_HOST: '10.96.0.1',
  KUBERNETES_SERVICE_PORT: '443',
  POSTERN_SIDECAR_IMAGE: 'postern/proxy:1',
  POSTERN_POD_NAME: 'postern-injector-abc',
}
const refusal = (act: () => unknown): string => {
  try {
    act()
    return 'accepted'
  } catch (thrown) {
    return thrown instanceof PosternError ? `${thrown.code} ${thrown.message}` : String(thrown)
  }
}

t.test('an empty file gives the defaults, which are those that the installed file shows', async t => {
  const defaults = parseSettings('', 'empty')
  t.same(parseSettings(readFileSync(DEPLOYED, 'utf8'), 'config.yaml'), defaults)
  t.match(defaults, {
    trustDomain: 'cluster.local',
    clusterDomain: 'cluster.local',
    controlAddress: 'postern-injector.postern-system.svc:15012',
  })
})

t.test('another’s signer with its roots', async t => {
  const yaml = 'signerName: example.com/mesh\ntrustRootsFile: /etc/postern-roots/roots.pem'
  const { signerName, trustRootsFile } = parseSettings(yaml, 'x')
  t.same([signerName, trustRootsFile], ['example.com/mesh', '/etc/postern-roots/roots.pem'])
})

t.test('YAML and JSON mean the same', async t => {
  t.same(parseSettings('prefixes: [10.0.0.0/8]', 'x'), parseSettings('{"prefixes": ["10.0.0.0/8"]}', 'x'))
})

const wrong: [string, string, string | RegExp][] = [
  [
    'an unknown key',
    'trustDomian: x',
    'PSTN_CONFIG_INVALID f: trustDomian: unknown key; did you mean trustDomain?',
  ],
  [
    'a cluster domain that ends with a dot',
    'clusterDomain: cluster.local.',
    /f\.clusterDomain: must be a DNS/,
  ],
  ['a trust domain with capitals', 'trustDomain: Example.org', /f\.trustDomain: must be a trust domain/],
  ['a signer without a domain', 'signerName: workload', /f\.signerName: must be <domain>\/<name>/],
  [
    'another’s signer without its roots',
    'signerName: clusterissuers.cert-manager.io/postern',
    /f\.trustRootsFile: is missing: clusterissuers\.cert-manager\.io\/postern is another’s/,
  ],
  [
    'a signer of our domain that signs for no workload',
    'signerName: postern.dev/serving\ntrustRootsFile: /roots.pem',
    /f\.signerName: of postern\.dev only postern\.dev\/workload signs/,
  ],
  [
    'roots in a file whose place depends',
    'signerName: example.com/mesh\ntrustRootsFile: roots.pem',
    /f\.trustRootsFile: must be an absolute path/,
  ],
  [
    'another’s signer with less life than the API server lets anybody ask for',
    'signerName: example.com/mesh\ntrustRootsFile: /roots.pem\nmaxLeafLifetimeSeconds: 599',
    /f\.maxLeafLifetimeSeconds: must be at least 600/,
  ],
  [
    'a lifetime in which nothing can be renewed',
    'maxLeafLifetimeSeconds: 9',
    /f\.maxLeafLifetimeSeconds: must be a whole number from 10/,
  ],
  [
    'a lifetime that is no number',
    'maxLeafLifetimeSeconds: 1h',
    /f\.maxLeafLifetimeSeconds: must be a whole number/,
  ],
  ['an unknown mode', 'defaultInboundMode: lax', /f\.defaultInboundMode: must be one of strict, permissive/],
  ['an address that is no CIDR', 'prefixes: [10.0.0.0]', /f\.prefixes\[0\]: must be a CIDR/],
  [
    'a control address without a port',
    'controlAddress: injector',
    /f\.controlAddress: must be <host>:<port>/,
  ],
  [
    'a key that is written twice',
    'logLevel: info\nlogLevel: debug',
    /PSTN_CONFIG_INVALID f:2:1: Map keys must be unique/,
  ],
  ['what is not YAML', 'a: [', /PSTN_CONFIG_INVALID f:1:5/],
  ['a list', '- a', /PSTN_CONFIG_INVALID f/],
  ['aliases', 'prefixes: &a [10.0.0.0/8]\nlogLevel: *a', /PSTN_CONFIG_INVALID f/],
]
for (const [name, yaml, message] of wrong) {
  t.test(`refused: ${name}`, async t => {
    const actual = refusal(() => parseSettings(yaml, 'f'))
    if (typeof message === 'string') t.equal(actual, message)
    else t.match(actual, message)
  })
}

t.test('in a pod the API server is found as every client finds it', async t => {
  const { api, replica, sidecarImage } = readConfig(env)
  t.same(api, {
    server: 'https://10.96.0.1:443',
    caFile: '/var/run/secrets/kubernetes.io/serviceaccount/ca.crt',
    tokenFile: '/var/run/secrets/kubernetes.io/serviceaccount/token',
  })
  t.equal(readConfig({ ...env, KUBERNETES_SERVICE_HOST: 'fd00::1' }).api.server, 'https://[fd00::1]:443')
  t.same([replica, sidecarImage], ['postern-injector-abc', 'postern/proxy:1'])
})

t.test('outside a pod it is named; plain HTTP only on this machine', async t => {
  const at = (server: string) => readConfig({ ...env, POSTERN_API_SERVER: server }).api
  t.same(at('http://127.0.0.1:8080'), {
    server: 'http://127.0.0.1:8080',
    tokenFile: '/var/run/secrets/kubernetes.io/serviceaccount/token',
  })
  t.equal(at('https://api.example:6443').server, 'https://api.example:6443')
  t.match(
    refusal(() => at('http://api.example')),
    /PSTN_CONFIG_INVALID POSTERN_API_SERVER/,
  )
})

t.test('the file is named by the environment', async t => {
  const dir = t.testdir({ 'config.yaml': 'logLevel: debug', 'bad.yaml': 'logLevel: loud' })
  const config = readConfig({ ...env, POSTERN_CONFIG_FILE: join(dir, 'config.yaml') })
  t.equal(config.logLevel, 'debug')
  t.ok(Object.isFrozen(config))
  t.match(describeConfig(config), { api: 'https://10.96.0.1:443', logLevel: 'debug' })
  t.match(
    refusal(() => readConfig({ ...env, POSTERN_CONFIG_FILE: join(dir, 'bad.yaml') })),
    /bad\.yaml\.logLevel: must be one of/,
  )
  t.match(
    refusal(() => readConfig({ ...env, POSTERN_CONFIG_FILE: join(dir, 'none') })),
    /PSTN_CONFIG_INVALID .*none cannot be read/,
  )
})

for (const name of [
  'POSTERN_SIDECAR_IMAGE',
  'POSTERN_POD_NAME',
  'KUBERNETES_SERVICE_HOST',
  'KUBERNETES_SERVICE_PORT',
]) {
  t.test(`refused: no ${name}`, async t => {
    t.match(
      refusal(() => readConfig({ ...env, [name]: undefined })),
      new RegExp(`PSTN_CONFIG_INVALID ${name}`),
    )
  })
}
