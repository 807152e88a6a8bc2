// Two injectors of two trust domains on API servers of their own, each with its bundle endpoint, fetch each other; then a third
// partner whose endpoint goes wrong in every way. Documents through the real webhook and admission policies.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { V1ConfigMap } from '@kubernetes/client-node'
import t from 'tap'
import { partners } from '../../cli/partners/list.ts'
import { run } from '../../cli/run.ts'
import { type FetchedBundle, parseFetched } from '../../shared/federation/fetched.ts'
import { connectKube, isKubeError, type Kube } from '../../shared/kube/rest.ts'
import { FEDERATION_LABEL, PARTNERS_CONFIGMAP, TRUST_CONFIGMAP } from '../../shared/names.ts'
import { readSpiffeBundle, writeSpiffeBundle } from '../../shared/spiffe-bundle.ts'
import { splitPem } from '../../shared/trust-bundle.ts'
import { type ApiServer, startApiServer } from '../support/api-server.ts'
import { createAuthority } from '../support/authority.ts'
import { testAuthority } from '../support/certificates.ts'
import { freePorts } from '../support/processes.ts'
import { requireApiServer } from '../support/requirements.ts'
import { jsonAnswer, startWebServer } from '../support/web-server.ts'
import { type InjectorProcess, startInjectorProcess } from './support/injector-process.ts'
import {
  createNamespace,
  createServiceAccount,
  install,
  outcome,
  systemPath,
  until,
} from './support/installation.ts'
import { pointWebhooksAt } from './support/webhook-configurations.ts'

const skip = requireApiServer()
const MERGE = 'application/merge-patch+json'
const CONFIGMAPS = systemPath('configmaps')

type Mesh = {
  readonly server: ApiServer
  readonly kube: Kube
  readonly injector: InjectorProcess
  readonly url: string
  start(name: string): Promise<InjectorProcess>
}

const indented = (text: string, by: number) => text.trimEnd().replace(/^/gm, ' '.repeat(by))
const documentOf = (trustDomain: string, url: string, ca: string) => ({
  'partner.yaml': `apiVersion: federation.postern.dev/v1
kind: TrustDomain
metadata: {name: ${trustDomain}}
spec:
  trustDomain: ${trustDomain}
  bundle:
    endpoint:
      url: ${url}
      caBundle: |
${indented(ca, 8)}
  destinations: [{cidr: 10.200.0.0/16, identities: [spiffe://${trustDomain}/*]}]
`,
})
const labelled = (name: string, data: Record<string, string>) => ({
  metadata: { name, labels: { [FEDERATION_LABEL]: 'true' } },
  data,
})

const fetchedBy = async (kube: Kube, trustDomain: string): Promise<FetchedBundle | undefined> => {
  const { data = {} } = await kube.get<V1ConfigMap>(`${CONFIGMAPS}/${PARTNERS_CONFIGMAP}`).catch(thrown => {
    if (isKubeError(thrown, 404)) return { data: {} as Record<string, string> }
    throw thrown
  })
  const json = data[trustDomain]
  return json === undefined ? undefined : parseFetched(trustDomain, json)
}
const rootsOf = async (kube: Kube) => {
  const { data = {} } = await kube.get<V1ConfigMap>(`${CONFIGMAPS}/${TRUST_CONFIGMAP}`)
  return splitPem(data['roots.pem'] ?? '')
}

t.test('partners on real API servers', { skip }, async t => {
  await using undo = new AsyncDisposableStack()
  const web = await createAuthority('web')
  const scratch = t.testdir()
  const startMesh = async (trustDomain: string): Promise<Mesh> => {
    const server = undo.use(await startApiServer())
    await install(server)
    const directory = join(scratch, trustDomain)
    const certificates = join(directory, 'web')
    await mkdir(certificates, { recursive: true })
    const { cert, key } = await web.issue({ commonName: 'bundle', dns: ['localhost'] })
    await writeFile(join(certificates, 'tls.crt'), cert)
    await writeFile(join(certificates, 'tls.key'), key)
    const [bundlePort = 0] = await freePorts(1)
    const settings = {
      trustDomain,
      bundlePort,
      bundleCertificateDir: certificates,
      listenAddress: '127.0.0.1',
    }
    const start = async (name: string) => {
      const injector = await startInjectorProcess(server, { name, directory, settings })
      undo.defer(() => injector.running.stop('SIGKILL'))
      await injector.ready()
      return injector
    }
    const injector = await start('injector-0')
    await pointWebhooksAt(server, injector)
    return { server, kube: server.kube, injector, url: `https://localhost:${bundlePort}/bundle.json`, start }
  }
  const east = await startMesh('east.example')
  const west = await startMesh('west.example')
  /** The caBundle takes a moment to be written, and to be read. */
  const write = (kube: Kube, object: ReturnType<typeof labelled>) =>
    until(() =>
      kube.create(CONFIGMAPS, object).then(
        () => true,
        thrown => {
          if (isKubeError(thrown, 500)) return false
          throw thrown
        },
      ),
    )
  const typed = async () => {
    let out = ''
    const sink = { out: (text: string) => (out += text), err: (text: string) => (out += text) }
    const connect = async () =>
      connectKube(east.server.endpointFor(await east.server.tokenFor('kube-system', 'admin')))
    const environment = {
      commands: [partners],
      sink,
      connect,
      signal: new AbortController().signal,
      version: 'test',
    }
    const code = await run(['partners'], environment)
    return { code, out }
  }
  await createServiceAccount(east.kube, 'kube-system', 'admin')
  await east.kube.create('/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
    metadata: { name: 'admin' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
    subjects: [{ kind: 'ServiceAccount', name: 'admin', namespace: 'kube-system' }],
  })

  await t.test(
    'each fetches the other’s roots, which the endpoint serves with sequence and hint',
    async t => {
      await write(east.kube, labelled('west', documentOf('west.example', west.url, web.cert)))
      await write(west.kube, labelled('east', documentOf('east.example', east.url, web.cert)))
      for (const [own, other, domain] of [
        [east, west, 'west.example'],
        [west, east, 'east.example'],
      ] as const) {
        await until(async () => (await fetchedBy(own.kube, domain))?.fetchedAt !== undefined)
        const known = await fetchedBy(own.kube, domain)
        t.same(known?.roots, await rootsOf(other.kube))
        t.match(known, { refreshHintSeconds: 300, sequence: /^\d{13}$/ })
        t.notOk(known?.failure)
      }
      t.match(await typed(), { code: 0, out: /west\.example +\d+ s +\d{13} +1 .*fresh/ })
    },
  )

  const injectors = [east.injector]
  const north = await testAuthority('north.example')
  const endpoint = undo.use(await startWebServer(jsonAnswer(writeSpiffeBundle(north.bundle))))
  let asked = 0
  /** Another query is another URL: it is asked at once. */
  const ask = async (url = endpoint.url, ca = endpoint.authority.cert) => {
    asked += 1
    const data = documentOf('north.example', `${url}?${asked}`, ca)
    data['partner.yaml'] = data['partner.yaml'].replace('10.200.', '10.201.')
    if (asked === 1) await write(east.kube, labelled('north', data))
    else await east.kube.patch(`${CONFIGMAPS}/north`, MERGE, { data })
    await until(async () => (await fetchedBy(east.kube, 'north.example'))?.url === `${url}?${asked}`)
    return fetchedBy(east.kube, 'north.example')
  }
  await t.test('whatever goes wrong, the last good bundle stays', async t => {
    t.match(await ask(), { roots: north.bundle.roots })
    const wrong = await createAuthority('wrong')
    const failing = async (code: string, reason: RegExp, ...how: Parameters<typeof ask>) =>
      t.match(await ask(...how), { roots: north.bundle.roots, failure: { code, reason } }, String(reason))
    await failing('PSTN_PARTNER_UNREACHABLE', /ECONNREFUSED/, 'https://127.0.0.1:1/')
    await failing('PSTN_PARTNER_UNREACHABLE', /verif|signature|self/, endpoint.url, wrong.cert)
    endpoint.answer = (_, response) => response.writeHead(302, { location: 'http://localhost/' }).end()
    await failing('PSTN_PARTNER_UNREACHABLE', /redirects \(302\)/)
    endpoint.answer = jsonAnswer('<html>')
    await failing('PSTN_PARTNER_INVALID', /not JSON/)
    endpoint.answer = jsonAnswer(' '.repeat(300_000))
    await failing('PSTN_PARTNER_UNREACHABLE', /more than 262144 bytes/)
    endpoint.answer = jsonAnswer('{"keys": []}')
    await failing('PSTN_PARTNER_INVALID', /holds no root/)
    endpoint.answer = jsonAnswer(writeSpiffeBundle({ trustDomain: 'x', roots: await rootsOf(west.kube) }))
    await failing('PSTN_PARTNER_INVALID', /of the trust domain west\.example, not north\.example/)
    endpoint.answer = jsonAnswer(writeSpiffeBundle({ trustDomain: 'x', roots: await rootsOf(east.kube) }))
    await failing('PSTN_PARTNER_INVALID', /east\.example|this mesh itself/)
    endpoint.answer = () => undefined
    await failing('PSTN_PARTNER_UNREACHABLE', /no whole answer within 10 s/)
    t.match(await typed(), { code: 1, out: /north\.example: PSTN_PARTNER_UNREACHABLE, 1 in a row/ })
  })

  await t.test('and over a restart, under another leader, while nobody answers', async t => {
    await east.injector.running.stop('SIGKILL')
    const next = await east.start('injector-1')
    injectors.push(next)
    await until(async () => (await next.metric('postern_leader')) === 1)
    await pointWebhooksAt(east.server, next).catch(() => undefined)
    await until(async () => ((await fetchedBy(east.kube, 'north.example'))?.failure?.failures ?? 0) > 1)
    t.match(await fetchedBy(east.kube, 'north.example'), { roots: north.bundle.roots })
    t.match(
      await next.log(),
      /"partners":\[\{"trustDomain":"north\.example","roots":1\},\{"trustDomain":"west\.example","roots":1\}\]/,
    )
    endpoint.answer = jsonAnswer(writeSpiffeBundle({ ...north.bundle, sequence: 9n }))
    t.match(await ask(), { sequence: '9' }, 'and it heals')
    t.notOk((await fetchedBy(east.kube, 'north.example'))?.failure)
  })

  await t.test(
    'the ConfigMap of bundles is deleted: one partner’s answer does not cost the others theirs',
    async t => {
      const west = await fetchedBy(east.kube, 'west.example')
      t.ok(west, 'control')
      await east.kube.delete(`${CONFIGMAPS}/${PARTNERS_CONFIGMAP}`)
      t.match(await ask(), { roots: north.bundle.roots })
      t.same((await fetchedBy(east.kube, 'west.example'))?.roots, west?.roots)
    },
  )

  await t.test('an entry that somebody broke ends neither the metrics nor the injector', async t => {
    const leader = injectors.at(-1)
    const before = await east.kube.get<V1ConfigMap>(`${CONFIGMAPS}/${PARTNERS_CONFIGMAP}`)
    const broken = JSON.stringify({ url: west.url, roots: ['x'] })
    await east.kube.patch(`${CONFIGMAPS}/${PARTNERS_CONFIGMAP}`, MERGE, { data: { 'west.example': broken } })
    await until(async () => (await leader?.log())?.includes('partner bundle cannot be read') ?? false)
    t.equal(await leader?.metric('postern_leader'), 1)
    await east.kube.patch(`${CONFIGMAPS}/${PARTNERS_CONFIGMAP}`, MERGE, { data: before.data })
  })

  await t.test('a document that is wrong, or contradicts, never gets in', async t => {
    const refused = (object: ReturnType<typeof labelled>, path = CONFIGMAPS) =>
      outcome(() => east.kube.create<object>(`${path}?dryRun=All`, object))
    const again = documentOf('west.example', west.url, web.cert)
    t.match(
      await refused(labelled('again', again)),
      /PSTN_FEDERATION_INVALID: TrustDomain west\.example is written twice/,
    )
    const own = documentOf('east.example', east.url, web.cert)
    t.match(
      await refused(labelled('own', own)),
      /partner\.yaml:5:3: spec\.trustDomain: east\.example is this mesh’s own/,
    )
    const http = { 'a.yaml': again['partner.yaml'].replace('https', 'http') }
    t.match(await refused(labelled('http', http)), /spec\.bundle\.endpoint\.url/)
    await createNamespace(east.kube, 'shop')
    t.match(
      await refused(labelled('elsewhere', again), '/api/v1/namespaces/shop/configmaps'),
      /federation is for the whole mesh: write it in postern-system/,
    )
    const other = documentOf('south.example', west.url, web.cert)
    other['partner.yaml'] = other['partner.yaml'].replace('10.200.', '10.202.')
    t.equal(await refused(labelled('south', other)), 'allowed', 'control')
  })

  await t.test('only who may write federation may, and only the injector what was fetched', async t => {
    const grant = async (name: string, rules: object[] | undefined, role = name) => {
      await createServiceAccount(east.kube, 'shop', name)
      const roles = '/apis/rbac.authorization.k8s.io/v1/namespaces/postern-system'
      if (rules) await east.kube.create(`${roles}/roles`, { metadata: { name }, rules })
      await east.kube.create(`${roles}/rolebindings`, {
        metadata: { name },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: rules ? 'Role' : 'ClusterRole', name: role },
        subjects: [{ kind: 'ServiceAccount', name, namespace: 'shop' }],
      })
      return connectKube(east.server.endpointFor(await east.server.tokenFor('shop', name)))
    }
    using federator = await grant('federator', undefined, 'postern-federation-editor')
    using policyEditor = await grant('policy-editor', undefined, 'postern-policy-editor')
    using editor = await grant('editor', [{ apiGroups: [''], resources: ['configmaps'], verbs: ['*'] }])
    const document = documentOf('south.example', west.url, web.cert)
    document['partner.yaml'] = document['partner.yaml'].replace('10.200.', '10.202.')
    const attempts: Record<string, (kube: Kube) => Promise<unknown>> = {
      create: kube => kube.create<object>(`${CONFIGMAPS}?dryRun=All`, labelled('south', document)),
      change: kube =>
        kube.patch(`${CONFIGMAPS}/west?dryRun=All`, MERGE, { metadata: { annotations: { a: 'b' } } }),
      unlabel: kube =>
        kube.patch(`${CONFIGMAPS}/west?dryRun=All`, MERGE, {
          metadata: { labels: { [FEDERATION_LABEL]: null } },
        }),
      remove: kube => kube.delete(`${CONFIGMAPS}/west?dryRun=All`),
    }
    const change = { data: { 'north.example': '{}' } }
    const forge = (kube: Kube) => kube.patch(`${CONFIGMAPS}/${PARTNERS_CONFIGMAP}?dryRun=All`, MERGE, change)
    for (const [act, attempt] of Object.entries(attempts)) {
      await until(async () => (await outcome(() => attempt(federator))) === 'allowed')
      for (const kube of [policyEditor, editor])
        t.match(await outcome(() => attempt(kube)), /on federations\.policy\.postern\.dev/, act)
    }
    for (const kube of [federator, policyEditor, editor])
      t.match(await outcome(() => forge(kube)), /this needs update on the Secret postern-ca/)
    const value = { metadata: { name: 'x', labels: { [FEDERATION_LABEL]: 'yes' } } }
    t.match(
      await outcome(() => federator.create<object>(`${CONFIGMAPS}?dryRun=All`, value)),
      /the only value/,
    )
  })

  await t.test('what is removed is gone, and a served bundle reads back as the roots in force', async t => {
    await east.kube.delete(`${CONFIGMAPS}/north`)
    await until(async () => (await fetchedBy(east.kube, 'north.example')) === undefined)
    t.ok(await fetchedBy(east.kube, 'west.example'), 'control: the other stays')
    const { get } = await import('node:https')
    const text = await new Promise<string>((resolve, reject) => {
      get(west.url, { ca: web.cert }, response => {
        response.setEncoding('utf8')
        let body = ''
        response.on('data', chunk => (body += chunk)).on('end', () => resolve(body))
      }).on('error', reject)
    })
    t.same(readSpiffeBundle(text, 'west.example').bundle.roots, await rootsOf(west.kube))
  })
})
