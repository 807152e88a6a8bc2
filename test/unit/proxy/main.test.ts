// The sidecar's process with a wrong environment, as a kubelet would start it: it says what is wrong in one line of its
// log and ends with 1, before it listens or touches anything.
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { readConfig } from '../../../proxy/config.ts'
import { injectInto, pod, settingsOf } from '../../support/pods.ts'

const MAIN = fileURLToPath(new URL('../../../proxy/main.ts', import.meta.url))
const settings = settingsOf(injectInto(pod()))

const GOOD = {
  POSTERN_CONFIG: JSON.stringify(settings),
  POSTERN_POD_NAME: 'web-0',
  POSTERN_POD_NAMESPACE: 'shop',
  POSTERN_POD_UID: '0f7b0c1e-9d5c-4a53-8a53-6f4a9a1b2c3d',
  POSTERN_POD_IPS: '10.244.0.7',
  POSTERN_NODE_IP: '192.168.1.5',
  POSTERN_SERVICE_ACCOUNT: 'web',
  KUBERNETES_SERVICE_HOST: '127.0.0.1',
  KUBERNETES_SERVICE_PORT: '443',
}

const run = (command: string, env: Record<string, string>) => {
  const { promise, resolve } = Promise.withResolvers<{ code: unknown; lines: string[] }>()
  execFile(process.execPath, [MAIN, command], { env }, (error, stdout) =>
    resolve({ code: error?.code ?? 0, lines: stdout.trim().split('\n') }),
  )
  return promise
}

const without = (name: keyof typeof GOOD): Record<string, string> => {
  const { [name]: _, ...rest } = GOOD
  return rest
}
const withSettings = (change: object) => ({
  ...GOOD,
  POSTERN_CONFIG: JSON.stringify({ ...settings, ...change }),
})

const CASES: readonly [name: string, command: string, env: Record<string, string>, error: RegExp][] = [
  ['no environment at all', 'run', {}, /^POSTERN_CONFIG: is missing/],
  ['no environment at all, as the init container', 'init', {}, /^POSTERN_CONFIG: is missing/],
  ['no pod uid', 'run', without('POSTERN_POD_UID'), /^POSTERN_POD_UID: is missing/],
  [
    'a pod address that is none',
    'run',
    { ...GOOD, POSTERN_POD_IPS: 'pod' },
    /^POSTERN_POD_IPS: "pod" is no IP/,
  ],
  ['settings that are no JSON', 'run', { ...GOOD, POSTERN_CONFIG: '{' }, /^POSTERN_CONFIG: is not JSON/],
  [
    'an unknown key in the settings',
    'run',
    withSettings({ udq: 'block' }),
    /^POSTERN_CONFIG\.udq: unknown key/,
  ],
  [
    'a port that is none',
    'init',
    withSettings({ skipInboundPorts: [0] }),
    /^POSTERN_CONFIG\.skipInboundPorts/,
  ],
  ['an unknown command', 'exec', GOOD, /^unknown command exec: one of run, init/],
]

for (const [name, command, env, error] of CASES) {
  t.test(`${name}: refused with place and reason`, async t => {
    const { code, lines } = await run(command, env)
    t.equal(code, 1)
    t.equal(lines.length, 1)
    t.match(JSON.parse(lines[0] ?? ''), {
      level: 'fatal',
      code: 'PSTN_CONFIG_INVALID',
      msg: 'giving up',
      error,
    })
  })
}

t.test('the environment that the cases spoil is a right one', async t => {
  t.equal(readConfig(GOOD).pod.name, 'web-0')
})
