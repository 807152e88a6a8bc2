import { execFile } from 'node:child_process'
import { copyFile, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { NODE_FLAGS } from '../../../deploy/node-flags.ts'
import { injectInto, pod } from '../../support/pods.ts'
import { projectRoot } from '../../support/source-files.ts'

const run = promisify(execFile)

/** Runs the entrypoint around a program that prints its arguments and environment. */
async function start(t: Tap, env: Record<string, string>, ...args: string[]) {
  const directory = t.testdir({ 'main.mjs': MAIN })
  await copyFile(join(projectRoot, 'deploy/images/entrypoint.sh'), join(directory, 'entrypoint.sh'))
  await writeFile(join(directory, 'injected.cjs'), `console.log('code injected')`)
  const PATH = `${dirname(process.execPath)}:/usr/bin:/bin`
  const program = ['/bin/sh', join(directory, 'entrypoint.sh'), ...args]
  const { stdout } = await run(
    'env',
    [...Object.entries({ PATH, ...env }).map(pair => pair.join('=')), ...program],
    {
      env: {},
    },
  )
  return { stdout, directory, seen: () => JSON.parse(stdout) as Seen }
}

type Tap = Pick<typeof t, 'testdir'>
type Seen = { args: string[]; flags: string[]; env: Record<string, string> }

const MAIN = `console.log(JSON.stringify({ args: process.argv.slice(2), flags: process.execArgv, env: process.env }))`

t.test('arguments and the variables of Postern and Kubernetes reach the program', async t => {
  const env = {
    POSTERN_CONFIG: `{"a": "it's \\"quoted\\" $HOME \`id\`"}`,
    POSTERN_POD_IPS: '10.0.0.1,fd00::1',
    KUBERNETES_SERVICE_HOST: '10.96.0.1',
    KUBERNETES_SERVICE_PORT: '443',
  }
  const { seen } = await start(t, env, 'run', 'two words')
  t.same(seen().args, ['run', 'two words'])
  t.match(seen().env, env)
})

t.test('Node starts with the flags that tests and benchmarks give it', async t => {
  const { seen } = await start(t, {})
  t.same(seen().flags, NODE_FLAGS)
})

t.test('a value with a newline is passed whole and adds no variable', async t => {
  const { seen } = await start(t, { POSTERN_CONFIG: 'a\nNODE_OPTIONS=--inspect\nPOSTERN_OTHER=x' })
  t.equal(seen().env.POSTERN_CONFIG, 'a\nNODE_OPTIONS=--inspect\nPOSTERN_OTHER=x')
  t.notOk('NODE_OPTIONS' in seen().env)
  t.notOk('POSTERN_OTHER' in seen().env)
})

t.test('variables of Postern that only processes outside pods use are ignored', async t => {
  const env = {
    POSTERN_API_SERVER: 'https://elsewhere:443',
    POSTERN_TOKEN_DIR: '/tmp',
    POSTERN_STATE_DIR: '/tmp',
    POSTERN_OTHER: 'x',
  }
  const { seen } = await start(t, env)
  t.same(
    Object.keys(seen().env).filter(name => name in env),
    [],
  )
})

t.test('every variable that injection or the manifest sets passes', async t => {
  const { initContainers = [] } = injectInto(pod()).spec ?? {}
  const sidecars = initContainers.flatMap(({ env = [] }) => env.map(({ name }) => name))
  const manifest = await readFile(join(projectRoot, 'deploy/manifests/injector.yaml'), 'utf8')
  const names = new Set([...sidecars, ...(manifest.match(/\bPOSTERN_[A-Z_]+/g) ?? [])])
  t.ok(names.has('POSTERN_CONFIG') && names.has('POSTERN_SIDECAR_IMAGE'))
  const { seen } = await start(t, Object.fromEntries([...names].map(name => [name, 'x'])))
  t.same(
    [...names].filter(name => !(name in seen().env)),
    [],
  )
})

t.test('NODE_OPTIONS and its like are ignored', async t => {
  const { directory } = await start(t, {})
  const env = {
    NODE_OPTIONS: `--require=${directory}/injected.cjs`,
    NODE_EXTRA_CA_CERTS: '/ca.pem',
    SSL_CERT_FILE: '/ca.pem',
    HTTPS_PROXY: 'http://proxy',
  }
  const injected = await run(process.execPath, [join(directory, 'main.mjs')], { env })
  t.match(injected.stdout, 'code injected', 'the attack works on Node itself')
  const { stdout, seen } = await start(t, env)
  t.notMatch(stdout, 'code injected')
  t.same(
    Object.keys(seen().env).filter(name => name in env),
    [],
  )
})
