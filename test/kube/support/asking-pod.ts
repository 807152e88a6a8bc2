// A sidecar's way to its certificates, again and again, without the rest of the sidecar: a pod on a real API server, its
// token in a file as the kubelet has it, and its credential source, in the process of the test.
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { Credential } from '../../../proxy/credentials/credential.ts'
import { csrCredentialSource, type IssuanceEvent } from '../../../proxy/credentials/csr-source.ts'
import { openStateVolume } from '../../../proxy/credentials/state-volume.ts'
import { openTrustStore } from '../../../proxy/credentials/trust.ts'
import { systemClock } from '../../../shared/clock.ts'
import { clockSkew } from '../../../shared/clock-skew.ts'
import { connectKube, type Kube } from '../../../shared/kube/rest.ts'
import { SYSTEM_NAMESPACE, TRUST_CONFIGMAP, WORKLOAD_SIGNER } from '../../../shared/names.ts'
import { workloadSpiffeId } from '../../../shared/spiffe-id.ts'
import { scratchDirectory } from '../../support/scratch.ts'
import { createPod, eventually, type SignerCluster, TRUST_DOMAIN } from './signer-cluster.ts'

export type AskingPod = {
  readonly uid: string
  readonly credentials: readonly Credential[]
  readonly events: readonly IssuanceEvent[]
  /** When the next credential is there. */
  next(): Promise<Credential>
  /** Codes and messages of attempts that failed. */
  failures(): readonly string[]
  /** Milliseconds, in all, between the end of one certificate and the taking of the next. */
  without(): number
  writeToken(token: string): Promise<void>
  removeToken(): Promise<void>
  readonly token: string
  /** Ends the process; its volume stays. */
  stop(): Promise<void>
  /** Another process on the same volume. */
  restart(): Promise<void>
}

/** Lets every service account read the trust bundle, as the shipped role does. */
export const TRUST_READERS = `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: trust, namespace: ${SYSTEM_NAMESPACE}}
rules:
- {apiGroups: [""], resources: [configmaps], resourceNames: [${TRUST_CONFIGMAP}], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: trust, namespace: ${SYSTEM_NAMESPACE}}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: trust}
subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: "system:serviceaccounts"}]
`

/** What the injector does beside signing: every pod may read whom to trust. */
export async function publishRoots({ server, keeper }: SignerCluster): Promise<void> {
  await server.kube.create(`/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps`, {
    metadata: { name: TRUST_CONFIGMAP },
    data: { 'trust-domain': TRUST_DOMAIN, 'roots.pem': keeper.authority.get().roots.join('') },
  })
  const applied = await server.kubectl(['apply', '-f', '-'], TRUST_READERS)
  if (applied.code !== 0) throw new Error(applied.stderr)
}

export type AskingOptions = {
  readonly timeoutMs?: number
  readonly signerName?: string
  readonly lifetimeSeconds?: number
  /** Asks nothing before `restart`. */
  readonly idle?: boolean
  /** Between the sidecar and the API server. */
  readonly through?: (kube: Kube) => Kube
}

/** A pod whose sidecar runs until the test ends. */
export async function askingPod(
  t: Test,
  { server }: Pick<SignerCluster, 'server'>,
  name: string,
  options: AskingOptions = {},
): Promise<AskingPod> {
  const { timeoutMs = 10_000, idle = false, through = kube => kube } = options
  const { signerName = WORKLOAD_SIGNER, lifetimeSeconds = 86_400 } = options
  const pod = await createPod(server.kube, name)
  const uid = pod.metadata?.uid ?? ''
  const dir = scratchDirectory(t)
  const tokenFile = join(dir, 'token')
  const token = await server.tokenFor('shop', 'cart', { pod: { name, uid } })
  const writeToken = (text: string) => writeFile(tokenFile, text)
  await writeToken(token)
  const credentials: Credential[] = []
  const takenAt: number[] = []
  const events: IssuanceEvent[] = []

  const start = async (): Promise<() => Promise<void>> => {
    const stopping = new AbortController()
    const skew = clockSkew(systemClock)
    const client = connectKube({ server: server.serverUrl, ca: server.ca, tokenFile, onDate: skew.observe })
    const kube = through(client)
    const volume = openStateVolume(dir, error => t.fail(error.message))
    const source = csrCredentialSource({
      kube,
      clock: systemClock,
      random: Math.random,
      podUid: uid,
      username: 'system:serviceaccount:shop:cart',
      signerName,
      lifetimeSeconds,
      timeoutMs,
      identity: workloadSpiffeId({ trustDomain: TRUST_DOMAIN, namespace: 'shop', serviceAccount: 'cart' }),
      trust: await openTrustStore(kube, TRUST_DOMAIN, volume),
      volume,
      skew,
      observe: event => events.push(event),
    })
    const run = async () => {
      for await (const credential of source(stopping.signal)) {
        credentials.push(credential)
        takenAt.push(Date.now())
      }
    }
    const running = run()
    return async () => {
      stopping.abort()
      await running
      client[Symbol.dispose]()
    }
  }
  let stop = idle ? async () => {} : await start()
  t.teardown(() => stop())
  return {
    uid,
    token,
    credentials,
    events,
    next: async () => {
      const { length } = credentials
      return eventually(async () => credentials[length], `another certificate for ${name}`)
    },
    failures: () =>
      events.flatMap(event =>
        event.kind === 'failed' ? [`${event.error.code} ${event.error.message}`] : [],
      ),
    without: () =>
      takenAt.reduce((sum, at, index) => {
        const until = credentials[index - 1]?.notAfter.getTime() ?? at
        return sum + Math.max(at - until, 0)
      }, 0),
    writeToken,
    removeToken: () => rm(tokenFile),
    stop: () => stop(),
    restart: async () => {
      await stop()
      stop = await start()
    },
  }
}
