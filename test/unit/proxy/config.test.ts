import t from 'tap'
import { describeConfig, readConfig } from '../../../proxy/config.ts'

const settings = {
  trustDomain: 'cluster.local',
  signerName: 'postern.dev/workload',
  controlAddress: 'postern-injector.postern-system.svc:15012',
  injectorIdentity: 'spiffe://cluster.local/ns/postern-system/sa/postern-injector',
  logLevel: 'info',
  outbound: 'auto',
  certificateLifetimeSeconds: 86_400,
  drainSeconds: 45,
  skipInboundPorts: [],
  skipOutboundPorts: [],
  skipOutboundCidrs: [],
  udp: 'allow',
  startupPath: '/startup/7f3a',
  probes: [],
}

const env = {
  POSTERN_CONFIG: JSON.stringify(settings),
  POSTERN_POD_NAME: 'web-5d9c7b-x2x4q',
  POSTERN_POD_NAMESPACE: 'shop',
  POSTERN_POD_UID: '0f7b0c1e-9d5c-4a53-8a53-6f4a9a1b2c3d',
  POSTERN_POD_IPS: '10.244.0.7,FD00:0::7',
  POSTERN_NODE_IP: '192.168.1.5',
  POSTERN_SERVICE_ACCOUNT: 'web',
  KUBERNETES_SERVICE_HOST: '10.96.0.1',
  KUBERNETES_SERVICE_PORT: '443',
}

t.test('a pod’s environment becomes one frozen value with canonical addresses and its identity', async t => {
  const config = readConfig(env)
  t.same(config.pod.ips, ['10.244.0.7', 'fd00::7'])
  t.equal(config.identity, 'spiffe://cluster.local/ns/shop/sa/web')
  t.same(config.api, {
    server: 'https://10.96.0.1:443',
    caFile: '/var/run/secrets/postern/ca.crt',
    tokenFile: '/var/run/secrets/postern/token',
  })
  t.ok(Object.isFrozen(config) && Object.isFrozen(config.pod) && Object.isFrozen(config.settings))
})

t.test('the roots of an API server stay in their file, and plain HTTP on loopback has none', async t => {
  t.notOk('ca' in readConfig(env).api, 'read once they would not survive a rotation')
  const outside = readConfig({ ...env, POSTERN_API_SERVER: 'http://127.0.0.1:8001' }).api
  t.same(outside, { server: 'http://127.0.0.1:8001', tokenFile: '/var/run/secrets/postern/token' })
})

t.test('an IPv6 API server is bracketed', async t => {
  t.equal(readConfig({ ...env, KUBERNETES_SERVICE_HOST: 'fd00::1' }).api.server, 'https://[fd00::1]:443')
})

t.test('the log sees the configuration without the random paths', async t => {
  const text = JSON.stringify(describeConfig(readConfig(env)))
  t.match(text, 'spiffe://cluster.local/ns/shop/sa/web')
  t.notMatch(text, '7f3a')
})

t.test('each wrong variable is named with the reason', async t => {
  const cases = [
    [{ POSTERN_CONFIG: undefined }, /^POSTERN_CONFIG: is missing/],
    [{ POSTERN_CONFIG: '{' }, /^POSTERN_CONFIG: is not JSON/],
    [{ POSTERN_CONFIG: JSON.stringify({ ...settings, udq: 'allow' }) }, /^POSTERN_CONFIG\.udq: unknown key/],
    [{ POSTERN_POD_NAME: '../x' }, /^POSTERN_POD_NAME: /],
    [{ POSTERN_POD_NAMESPACE: 'Shop' }, /^POSTERN_POD_NAMESPACE: /],
    [{ POSTERN_POD_UID: '' }, /^POSTERN_POD_UID: is missing/],
    [{ POSTERN_POD_IPS: '10.244.0.7,' }, /^POSTERN_POD_IPS: "" is no IP address/],
    [{ POSTERN_NODE_IP: 'node-1' }, /^POSTERN_NODE_IP: "node-1" is no IP address/],
    [{ POSTERN_SERVICE_ACCOUNT: 'a/b' }, /^POSTERN_SERVICE_ACCOUNT: /],
    [{ KUBERNETES_SERVICE_PORT: 'https' }, /^KUBERNETES_SERVICE_PORT: /],
    [{ POSTERN_API_SERVER: 'http://10.0.0.1:80' }, /^POSTERN_API_SERVER: /],
  ] as const
  for (const [change, message] of cases) {
    t.throws(
      () => readConfig({ ...env, ...change }),
      { code: 'PSTN_CONFIG_INVALID', message },
      String(message),
    )
  }
})
