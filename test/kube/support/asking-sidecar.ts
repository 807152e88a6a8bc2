// A sidecar's own way to its certificate, as far as its first answer.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { V1Pod } from '@kubernetes/client-node'
import { csrCredentialSource } from '../../../proxy/credentials/csr-source.ts'
import { openStateVolume } from '../../../proxy/credentials/state-volume.ts'
import { systemClock } from '../../../shared/clock.ts'
import { clockSkew } from '../../../shared/clock-skew.ts'
import type { PosternError } from '../../../shared/errors.ts'
import type { Kube } from '../../../shared/kube/rest.ts'
import { live } from '../../../shared/live.ts'
import { WORKLOAD_SIGNER } from '../../../shared/names.ts'
import { parseSpiffeId } from '../../../shared/spiffe-id.ts'
import type { TrustBundle } from '../../../shared/trust-bundle.ts'
import { IDENTITY } from '../../vectors/csr/cases.ts'

/** Asks in the pod's name; why it does not take what it was given, or undefined if it does. */
export async function firstRefusal(
  kube: Kube,
  pod: V1Pod,
  bundle: TrustBundle,
): Promise<PosternError | undefined> {
  const dir = await mkdtemp(join(tmpdir(), 'postern-asks-'))
  const stop = new AbortController()
  let refused: PosternError | undefined
  const source = csrCredentialSource({
    kube,
    clock: systemClock,
    random: Math.random,
    podUid: pod.metadata?.uid ?? '',
    username: 'system:serviceaccount:shop:cart',
    signerName: WORKLOAD_SIGNER,
    lifetimeSeconds: 3_600,
    timeoutMs: 20_000,
    identity: parseSpiffeId(IDENTITY).id,
    trust: {
      bundle: live(bundle),
      vouching: live([]),
      refresh: async () => undefined,
      adopt: () => undefined,
    },
    volume: openStateVolume(dir, error => {
      throw error
    }),
    skew: clockSkew(systemClock),
    observe: event => {
      if (event.kind === 'failed') refused = event.error
      stop.abort()
    },
  })
  try {
    for await (const _ of source(stop.signal)) break
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
  return refused
}
