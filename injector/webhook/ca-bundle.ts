// Keeps the API server trusting our webhook: the caBundle of our two webhook configurations equals the roots of the
// authority that issues the serving certificate. The leader runs it; a wrong bundle would stop opted-in pods.
import type {
  V1MutatingWebhookConfiguration,
  V1ObjectMeta,
  V1ValidatingWebhookConfiguration,
} from '@kubernetes/client-node'
import type { Clock } from '../../shared/clock.ts'
import { isKubeError, type Kube } from '../../shared/kube/rest.ts'
import type { Live } from '../../shared/live.ts'
import { failure, type Logger } from '../../shared/log.ts'
import { INJECTOR_NAME } from '../../shared/names.ts'
import { keep } from '../kube/keep.ts'

export type WebhookConfiguration = V1MutatingWebhookConfiguration | V1ValidatingWebhookConfiguration

/** A merge patch; the resource version makes it fail if somebody edited the webhooks in between. */
export type BundlePatch = {
  readonly metadata: Pick<V1ObjectMeta, 'resourceVersion'>
  readonly webhooks: readonly object[]
}

/** What makes every webhook of the configuration trust exactly `roots` (PEM), or undefined where it does already. */
export function bundlePatch(
  { metadata, webhooks = [] }: WebhookConfiguration,
  roots: readonly string[],
): BundlePatch | undefined {
  const caBundle = Buffer.from(roots.join('')).toString('base64')
  if (webhooks.every(({ clientConfig }) => clientConfig.caBundle === caBundle)) return undefined
  const { resourceVersion } = metadata ?? {}
  return {
    metadata: resourceVersion === undefined ? {} : { resourceVersion },
    webhooks: webhooks.map(webhook => ({ ...webhook, clientConfig: { ...webhook.clientConfig, caBundle } })),
  }
}

export type CaBundleKeeper = {
  readonly kube: Kube
  readonly roots: Live<readonly string[]>
  readonly clock: Clock
  readonly random: () => number
  readonly log: Logger
  readonly name?: string
}

const KINDS = ['mutatingwebhookconfigurations', 'validatingwebhookconfigurations'] as const

/** Runs until aborted, also against whoever applies the manifests again, which hold no bundle. */
export const keepCaBundle = (keeper: CaBundleKeeper, signal: AbortSignal): Promise<void> =>
  keep({ ...keeper, follows: keeper.roots }, () => updateAll(keeper, signal), signal)

async function updateAll({ kube, roots, log, name = INJECTOR_NAME }: CaBundleKeeper, signal: AbortSignal) {
  let done = true
  for (const kind of KINDS) {
    try {
      await update(kube, `/apis/admissionregistration.k8s.io/v1/${kind}/${name}`, roots.get(), signal)
    } catch (thrown) {
      if (signal.aborted) return done
      done = false
      log.warn({ kind, ...failure(thrown, 'PSTN_API_UNAVAILABLE') }, 'webhook caBundle not updated')
    }
  }
  return done
}

/** A configuration that is not installed needs no bundle. */
async function update(
  kube: Kube,
  path: string,
  roots: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const found = await kube.get<WebhookConfiguration>(path, signal).catch((thrown: unknown) => {
    if (isKubeError(thrown, 404)) return undefined
    throw thrown
  })
  const patch = found && bundlePatch(found, roots)
  if (patch) await kube.patch(path, 'application/merge-patch+json', patch, signal)
}
