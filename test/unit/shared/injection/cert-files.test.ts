import { readFileSync } from 'node:fs'
import type { V1Container, V1Pod, V1PodSpec } from '@kubernetes/client-node'
import t from 'tap'
import { TRUST_VARIABLES } from '../../../../shared/cert-files.ts'
import { inject } from '../../../../shared/injection/inject.ts'
import {
  CONTEXT,
  containerOf,
  injectInto,
  type PodParts,
  patched,
  pod,
  settingsOf,
} from '../../../support/pods.ts'

const NAME = 'postern-cert-files'
const PATH = '/var/run/secrets/postern.dev'
const BUNDLE = `${PATH}/ca.crt`
const READ_ONLY = { name: NAME, mountPath: PATH, readOnly: true }

const chosen = (
  containers: string,
  { env, hook, ...parts }: PodParts & { env?: string; hook?: string } = {},
): PodParts => ({
  ...parts,
  annotations: {
    'postern.dev/cert-files': containers,
    ...(env !== undefined && { 'postern.dev/cert-files-env': env }),
    ...(hook !== undefined && { 'postern.dev/cert-files-hook': hook }),
  },
})

const two: Partial<V1PodSpec> = {
  initContainers: [{ name: 'migrate', image: 'm:1' }],
  containers: [
    { name: 'app', image: 'a:1' },
    { name: 'logs', image: 'l:1' },
  ],
}

const mountsOf = (pod: V1Pod, container: string) =>
  containerOf(pod, container).volumeMounts?.filter(({ name }) => name === NAME) ?? []

t.test('the sidecar writes the volume, the chosen containers read it, and nobody else has it', async t => {
  const after = injectInto(pod(chosen('app', { spec: two })))
  t.strictSame(mountsOf(after, 'app'), [READ_ONLY])
  t.strictSame(mountsOf(after, 'postern-proxy'), [{ name: NAME, mountPath: PATH }])
  for (const other of ['postern-init', 'migrate', 'logs']) t.strictSame(mountsOf(after, other), [], other)
  const volume = after.spec?.volumes?.find(({ name }) => name === NAME)
  t.strictSame(volume, { name: NAME, emptyDir: { medium: 'Memory', sizeLimit: '4Mi' } })
  t.strictSame(settingsOf(after).certFiles, {})
})

t.test('a pod that chooses nobody has no such volume', async t => {
  const after = injectInto(pod({ annotations: { 'postern.dev/cert-files': '' } }))
  t.notOk(after.spec?.volumes?.some(({ name }) => name === NAME))
  t.strictSame(mountsOf(after, 'postern-proxy'), [])
  t.equal(settingsOf(after).certFiles, undefined)
})

t.test('init containers and native sidecars may be chosen: ours are up before them', async t => {
  const initContainers = [
    { name: 'migrate', image: 'm:1' },
    { name: 'agent', image: 'a:1', restartPolicy: 'Always' },
  ]
  const after = injectInto(pod(chosen('migrate,agent', { spec: { initContainers } })))
  t.strictSame(
    after.spec?.initContainers?.map(({ name }) => name),
    ['postern-init', 'postern-proxy', 'migrate', 'agent'],
  )
  for (const name of ['migrate', 'agent']) t.strictSame(mountsOf(after, name), [READ_ONLY], name)
})

t.test('variables go to the chosen containers alone, after those that they have', async t => {
  const containers = [
    { name: 'app', image: 'a:1', env: [{ name: 'MODE', value: 'prod' }] },
    { name: 'logs', image: 'l:1' },
  ]
  const env = 'SSL_CERT_FILE,NODE_EXTRA_CA_CERTS'
  const after = injectInto(pod(chosen('app', { env, spec: { containers } })))
  t.strictSame(containerOf(after, 'app').env, [
    { name: 'MODE', value: 'prod' },
    { name: 'SSL_CERT_FILE', value: BUNDLE },
    { name: 'NODE_EXTRA_CA_CERTS', value: BUNDLE },
  ])
  t.equal(containerOf(after, 'logs').env, undefined)
  t.notOk(containerOf(after, 'postern-proxy').env?.some(({ name }) => name === 'SSL_CERT_FILE'))
})

t.test('a variable that is set to the bundle already stays', async t => {
  const env = [{ name: 'SSL_CERT_FILE', value: BUNDLE }]
  const after = injectInto(pod(chosen('app', { env: 'SSL_CERT_FILE', container: { env } })))
  t.strictSame(containerOf(after, 'app').env, env)
})

t.test('the hook reaches the settings', async t => {
  const after = injectInto(pod(chosen('app', { hook: '8081/-/reload' })))
  t.strictSame(settingsOf(after).certFiles, { hook: { port: 8081, path: '/-/reload' } })
})

const mounting = (...volumeMounts: V1Container['volumeMounts'] & object): Partial<V1Container> => ({
  volumeMounts,
})
const refused: readonly { name: string; parts: PodParts; message: RegExp }[] = [
  {
    name: 'a container that the pod does not have',
    parts: chosen('ap', { spec: two }),
    message: /cert-files: the pod has no container ap of its own; it has migrate, app, logs/,
  },
  {
    name: 'a container of ours',
    parts: chosen('postern-proxy'),
    message: /cert-files: the pod has no container postern-proxy of its own; it has app/,
  },
  {
    name: 'an ephemeral container, which is not there yet',
    parts: chosen('debugger'),
    message: /no container debugger/,
  },
  {
    name: 'a volume of our name',
    parts: { spec: { volumes: [{ name: NAME, emptyDir: {} }] } },
    message: /volume postern-cert-files: the name is reserved/,
  },
  {
    name: 'a mount of the files by a container that was not chosen',
    parts: chosen('app', {
      spec: { containers: [{ name: 'app' }, { name: 'logs', ...mounting({ name: NAME, mountPath: '/x' }) }] },
    }),
    message:
      /container logs: volume postern-cert-files holds the pod’s key; name the container in postern\.dev/,
  },
  {
    name: 'a mount of the files by a chosen container itself',
    parts: chosen('app', { container: mounting(READ_ONLY) }),
    message: /container app: volume postern-cert-files holds/,
  },
  {
    name: 'another volume where the files go',
    parts: chosen('app', { container: mounting({ name: 'own', mountPath: `${PATH}/` }) }),
    message: /container app: volume own is mounted at .*postern\.dev\/, where the certificate files go/,
  },
  {
    name: 'another volume among the files',
    parts: chosen('app', {
      container: mounting({ name: 'own', mountPath: `${PATH}/tls.key`, subPath: 'k' }),
    }),
    message: /volume own is mounted at .*tls\.key/,
  },
  {
    name: 'a variable that the container sets',
    parts: chosen('app', {
      env: 'SSL_CERT_FILE',
      container: { env: [{ name: 'SSL_CERT_FILE', value: '/etc/ca.pem' }] },
    }),
    message:
      /container app: it sets SSL_CERT_FILE itself; remove it there, or from postern\.dev\/cert-files-env/,
  },
  {
    name: 'a variable that the container takes from elsewhere',
    parts: chosen('app', {
      env: 'SSL_CERT_FILE',
      container: { env: [{ name: 'SSL_CERT_FILE', valueFrom: { configMapKeyRef: { key: 'a' } } }] },
    }),
    message: /it sets SSL_CERT_FILE itself/,
  },
]
for (const { name, parts, message } of refused)
  t.test(`refused: ${name}`, async t => {
    t.match(inject(pod(parts), 'shop', CONTEXT), { kind: 'refuse', code: 'PSTN_INJECT_REFUSED', message })
  })

for (const mountPath of ['/var/run/secrets', '/var/run/secrets/postern.dev-own', '/var/run/secrets/postern'])
  t.test(`a mount at ${mountPath} is in nobody’s way`, async t => {
    const own = { name: 'own', mountPath }
    const after = injectInto(pod(chosen('app', { container: mounting(own) })))
    t.strictSame(containerOf(after, 'app').volumeMounts, [own, READ_ONLY])
  })

t.test('a container that sets a variable nobody asked for, or was not chosen, keeps it', async t => {
  const env = [{ name: 'SSL_CERT_FILE', value: '/etc/ca.pem' }]
  const containers = [
    { name: 'app', image: 'a:1' },
    { name: 'logs', image: 'l:1', env },
  ]
  const after = injectInto(pod(chosen('app', { env: 'SSL_CERT_FILE', spec: { containers } })))
  t.strictSame(containerOf(after, 'logs').env, env)
})

const full = chosen('app', { env: 'SSL_CERT_FILE', hook: '8081/', spec: two })
const again = (pod: V1Pod) => inject(pod, 'shop', { ...CONTEXT, random: 'another' })
const edited = (pod: V1Pod, name: string, edit: (container: V1Container) => Partial<V1Container>): V1Pod => ({
  ...pod,
  spec: {
    ...pod.spec,
    containers: (pod.spec?.containers ?? []).map(each =>
      each.name === name ? { ...each, ...edit(each) } : each,
    ),
  },
})

t.test('called again, the patch is empty', async t => {
  t.strictSame(again(injectInto(pod(full))), { kind: 'patch', patch: [] })
})

t.test('called again, a mount that was made writable is read-only again', async t => {
  const bent = edited(injectInto(pod(full)), 'app', () => ({
    volumeMounts: [{ name: NAME, mountPath: PATH }],
  }))
  t.strictSame(patched(bent, again(bent)), injectInto(pod(full)))
})

t.test('called again, a container that was given the files by somebody else is refused', async t => {
  const bent = edited(injectInto(pod(full)), 'logs', () => ({ volumeMounts: [READ_ONLY] }))
  t.match(again(bent), { kind: 'refuse', message: /container logs: volume postern-cert-files/ })
})

t.test('called again, a variable that somebody bent is refused', async t => {
  const bent = edited(injectInto(pod(full)), 'app', () => ({
    env: [{ name: 'SSL_CERT_FILE', value: '/etc/other.pem' }],
  }))
  t.match(again(bent), { kind: 'refuse', message: /it sets SSL_CERT_FILE itself/ })
})

t.test('docs/cert-files.md says of every variable whether it adds or replaces', async t => {
  const page = readFileSync(new URL('../../../../docs/cert-files.md', import.meta.url), 'utf8')
  const said = [...page.matchAll(/^\| `([A-Z_]+)` \|[^|]*\| (adds|replaces)/gm)].map(([, name, effect]) => [
    name,
    effect,
  ])
  t.strictSame(Object.fromEntries(said), { ...TRUST_VARIABLES })
})
