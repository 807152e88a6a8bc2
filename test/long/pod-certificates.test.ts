// Certificates in projected volumes (PodCertificateRequest) on a whole Kubernetes with the gate on: the kubelet makes the key
// and asks, our signer answers, the sidecar reads the file. Long for the one refresh that the kubelet makes by itself: the
// shortest certificate that the API takes lives for an hour.
import { setTimeout as delay } from 'node:timers/promises'
import type { V1CertificateSigningRequest } from '@kubernetes/client-node'
import t from 'tap'
import { podCertificateRequests } from '../../injector/podcertificates/objects.ts'
import { isAnswered, type PodCertificateRequest } from '../../injector/podcertificates/request.ts'
import { CSR_PATH } from '../../injector/signer/objects.ts'
import { INJECT_KEY, WORKLOAD_SIGNER } from '../../shared/names.ts'
import { http } from '../cluster/applications.ts'
import { type Cluster, useCluster } from '../cluster/cluster.ts'
import { operator as operatorOf } from '../cluster/operator.ts'
import {
  apply,
  appPod,
  appService,
  createNamespace,
  eventually,
  exec,
  INJECTED,
  logs,
  waitForPod,
  waitForService,
} from '../cluster/pods.ts'
import { installPostern } from '../cluster/postern.ts'
import { accessLog, crashes, podOf, serialsOf, sidecarLog } from '../cluster/sidecar.ts'
import { requireCluster } from '../support/requirements.ts'

const skip = requireCluster()
/** The tier's own cluster has no gates. */
const CLUSTER = process.env.POSTERN_CLUSTER ?? 'pod-certificates'
const NS = 'pod-certificates'
const PATIENCE_MS = 90_000
let cluster: Cluster

const podCertificate = (keyType: string) => ({
  signerName: WORKLOAD_SIGNER,
  keyType,
  maxExpirationSeconds: 3600,
  credentialBundlePath: 'bundle.pem',
})

/** A pod whose author writes the volume, as docs/certificates.md shows it. */
const written = (name: string, keyType = 'ECDSAP256') =>
  appPod(NS, name, 'http-server', {
    annotations: {
      [INJECT_KEY]: 'enabled',
      'postern.dev/certificate-source': 'files',
      'postern.dev/certificate-volume': 'spiffe',
      'postern.dev/certificate-files': 'bundle.pem',
    },
    spec: {
      volumes: [{ name: 'spiffe', projected: { sources: [{ podCertificate: podCertificate(keyType) }] } }],
    },
  })

const SERVERS = ['injected', 'written', 'asking']
/** A kubelet that is started again calls its pods not ready until it has asked them: a Service would have no endpoint. */
const ALWAYS = { publishNotReadyAddresses: true }

t.before(async () => {
  if (skip) return
  cluster = await useCluster(t, CLUSTER, ['PodCertificateRequest'])
  await installPostern(cluster)
  const namespace = await createNamespace(cluster, NS, { 'postern.dev/mode': 'strict' })
  t.teardown(() => namespace[Symbol.asyncDispose]())
  await apply(
    cluster,
    appPod(NS, 'injected', 'http-server', {
      annotations: {
        [INJECT_KEY]: 'enabled',
        'postern.dev/certificate-source': 'pod-certificate',
        'postern.dev/certificate-lifetime': '1h',
      },
    }),
    written('written'),
    appPod(NS, 'asking', 'http-server', INJECTED),
    ...SERVERS.map(name => appService(NS, name, 8080, ALWAYS)),
  )
  await Promise.all(SERVERS.map(pod => waitForPod(cluster, NS, pod, 'Ready', 180)))
  await Promise.all(SERVERS.map(name => waitForService(cluster, NS, name)))
})

const taken = (pod: string): Promise<string[]> => serialsOf(cluster, NS, pod, 'taken')

const uidOf = async (pod: string) => (await podOf(cluster, NS, pod)).metadata?.uid ?? ''

/** The newest of the pod. */
async function requestOf(pod: string): Promise<PodCertificateRequest | undefined> {
  type List = { readonly items: readonly PodCertificateRequest[] }
  const { items } = await cluster.kube.get<List>(podCertificateRequests('v1beta1'))
  const created = ({ metadata }: PodCertificateRequest) => String(metadata?.creationTimestamp)
  return items
    .filter(({ spec, metadata }) => metadata?.namespace === NS && spec.podName === pod)
    .toSorted((a, b) => created(a).localeCompare(created(b)))
    .at(-1)
}

const get = (from: string, to: string, ...options: string[]) =>
  http(cluster, NS, from, `http://${to}:8080/`, ...options)

t.test('the kubelet asks, the signer answers, and the sidecar has the pod’s SVID', { skip }, async t => {
  const { items } = await cluster.kube.get<{ items: V1CertificateSigningRequest[] }>(CSR_PATH)
  for (const pod of ['injected', 'written']) {
    t.equal((await taken(pod)).length, 1, `${pod} took one certificate`)
    const request = await requestOf(pod)
    t.match(request?.status?.conditions, [{ type: 'Issued', reason: 'PosternIssued' }])
    const uid = await uidOf(pod)
    t.notOk(
      items.some(({ metadata }) => metadata?.name?.includes(uid)),
      'it asked for none itself',
    )
  }
  const found = await exec(cluster, NS, 'injected', 'app', 'sh', '-c', 'ls /var/run/secrets')
  t.notMatch(found.stdout, /postern/, 'the application has not the volume')
})

t.test('mTLS both ways with a pod that asks for its certificate itself', { skip }, async t => {
  for (const [from = '', to = ''] of [
    ['asking', 'injected'],
    ['injected', 'asking'],
    ['asking', 'written'],
    ['written', 'injected'],
  ]) {
    t.match(await get(from, to, '--count=20', '--new-connections'), { statuses: { 200: 20 }, errors: {} })
    const serials = [...(await taken(from)), ...(await serialsOf(cluster, NS, from))]
    const entered = (await accessLog(cluster, NS, to)).filter(({ source }) =>
      serials.includes(source?.serial ?? ''),
    )
    t.ok(entered.length > 0, `${to} saw the certificate of ${from}`)
    t.match(entered[0], {
      direction: 'inbound',
      via: 'tunnel',
      source: { identity: `spiffe://cluster.local/ns/${NS}/sa/default` },
    })
  }
})

t.test('a key that no SVID has: denied, and the pod’s own event says which to ask for', { skip }, async t => {
  await apply(cluster, written('wrong-key', 'ECDSAP384'))
  const denied = async () =>
    (await cluster.kubectl(['get', 'events', `--namespace=${NS}`, '-o', 'json'])).stdout.includes(
      'UnsupportedKeyType',
    )
  await eventually(denied, 'the event', PATIENCE_MS)
  t.match((await requestOf('wrong-key'))?.status?.conditions, [
    { type: 'Denied', reason: 'UnsupportedKeyType', message: /keyType ECDSAP256/ },
  ])
  t.not((await podOf(cluster, NS, 'wrong-key')).status?.phase, 'Running')
  await cluster.kubectl(['delete', 'pod', 'wrong-key', `--namespace=${NS}`, '--wait=false'])
})

/** A pod that asks `to` again and again for so long, and ends: an exec would end with the kubelet. */
const caller = (name: string, to: string, seconds: number, annotations: Record<string, string>) =>
  appPod(NS, name, undefined, {
    annotations: { ...INJECTED.annotations, ...annotations },
    container: {
      command: [
        'node',
        '/apps/http-client.ts',
        `http://${to}:8080/`,
        `--seconds=${seconds}`,
        '--every=50',
        '--new-connections',
      ],
    },
    spec: { restartPolicy: 'Never' },
  })

const VOLUME = { 'postern.dev/certificate-source': 'pod-certificate' }
const CALLERS = { 'calls-with-volume': 'asking', 'calls-volume': 'injected' }

t.test(
  'a kubelet that is started again makes new keys and asks anew, and no request notices',
  {
    skip,
  },
  async t => {
    const before = await taken('injected')
    await apply(
      cluster,
      caller('calls-with-volume', 'asking', 60, VOLUME),
      caller('calls-volume', 'injected', 60, {}),
    )
    await Promise.all(Object.keys(CALLERS).map(pod => waitForPod(cluster, NS, pod, 'Ready', 120)))
    await cluster.restartKubelet()
    const anew = async () => (await taken('injected')).length > before.length
    await eventually(anew, 'another certificate', PATIENCE_MS)
    const after = await taken('injected')
    t.equal(new Set(after).size, after.length)
    for (const [pod, to] of Object.entries(CALLERS)) {
      const phase = async () => (await podOf(cluster, NS, pod)).status?.phase ?? ''
      await eventually(async () => /Succeeded|Failed/.test(await phase()), `the end of ${pod}`, PATIENCE_MS)
      const { statuses, errors } = JSON.parse((await logs(cluster, NS, pod, 'app')).trim())
      t.same(errors, {})
      t.same(Object.keys(statuses), ['200'])
      t.equal(await phase(), 'Succeeded')
      t.ok(statuses[200] > 300, `${statuses[200]} new connections to ${to}`)
    }
    t.ok((await taken('calls-with-volume')).length >= 2, 'one of the callers changed its own meanwhile')
    t.same(await crashes(cluster, NS, ...SERVERS), [])
  },
)

t.test(
  'one pod is revoked, refused at once, gets nothing new, and is healed by lifting it',
  { skip },
  async t => {
    const former = (await requestOf('written'))?.metadata?.name
    await using operator = await operatorOf(cluster)
    const revoke = (...words: string[]) => operator.postern('certs', 'revoke', `${NS}/written`, ...words)
    t.match(await revoke('--reason', 'test'), /^revoked: pod pod-certificates\/written/)
    // Where it has been before: of whom it does not know yet the injector tells it nothing any more.
    const refused = async () => (await get('written', 'injected')).statuses[200] === undefined
    await eventually(refused, 'it is refused')
    await eventually(
      async () =>
        (await sidecarLog(cluster, NS, 'injected')).some(({ code }) => code === 'PSTN_PEER_REVOKED'),
      'the other side says why',
    )
    t.match(await get('injected', 'asking'), { errors: {} }, 'its sister, of the same identity, is not')
    await cluster.restartKubelet()
    const another = async () => {
      const request = await requestOf('written')
      return request?.metadata?.name !== former ? request : undefined
    }
    await eventually(async () => Boolean(await another()), 'the kubelet asks anew', PATIENCE_MS)
    await delay(3_000)
    const waiting = await another()
    t.notOk(waiting && isAnswered(waiting), 'the request waits')
    const before = await taken('written')
    await revoke('--undo')
    await eventually(async () => (await taken('written')).length > before.length, 'it gets one', PATIENCE_MS)
    await eventually(async () => Boolean((await get('written', 'injected')).statuses[200]), 'and is let in')
  },
)

t.test('the kubelet refreshes by itself, before half of the hour is over', { skip }, async t => {
  const request = await requestOf('injected')
  const { beginRefreshAt = '', notAfter = '' } = request?.status ?? {}
  const begins = Date.parse(beginRefreshAt) - Date.now()
  t.ok(
    begins < 30 * 60_000 && Date.parse(notAfter) > Date.now(),
    `it is to begin in ${begins / 60_000} minutes`,
  )
  if (process.env.POSTERN_REFRESH === '0') {
    t.comment('POSTERN_REFRESH=0: not waited for')
    return
  }
  const before = await taken('injected')
  // The kubelet adds up to five minutes, looks each one to two, and brings volumes up to date in one.
  const patienceMs = Math.max(begins, 0) + 10 * 60_000
  await eventually(
    async () => {
      await delay(5_000)
      return (await taken('injected')).length > before.length
    },
    'another one',
    patienceMs,
  )
  const next = await requestOf('injected')
  t.not(next?.metadata?.name, request?.metadata?.name)
  t.ok(Date.now() < Date.parse(notAfter), 'the former one was still valid')
  t.match(await get('injected', 'asking'), { errors: {} })
  t.match(await get('asking', 'injected'), { errors: {} })
  t.same(await crashes(cluster, NS, ...SERVERS), [])
})
