// How the command line talks to the leader, through objects alone: a request is an annotation on the CA's Secret, the
// answer is in the ConfigMap that the leader keeps.
import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { CaAnswer } from '../../shared/ca/record.ts'
import { CA_REQUEST_PREFIX, type CaRequest } from '../../shared/ca/request.ts'
import { CA_STATUS_KEY, type CaStatus, decodeCaStatus } from '../../shared/ca/status.ts'
import { PosternError } from '../../shared/errors.ts'
import { isKubeError, type Kube } from '../../shared/kube/rest.ts'
import { CA_CONFIGMAP, CA_SECRET, SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { whoAmI } from '../caller.ts'

const NAMESPACE = `/api/v1/namespaces/${SYSTEM_NAMESPACE}`
const POLL_MS = 500
/** A leader answers within a second; another one leads within 20. */
const PATIENCE_MS = 60_000

/** @throws PosternError PSTN_API_UNAVAILABLE if no leader has written one yet, PSTN_CONFIG_INVALID. */
export async function readStatus(kube: Kube, signal: AbortSignal): Promise<CaStatus> {
  const path = `${NAMESPACE}/configmaps/${CA_CONFIGMAP}`
  const { data = {} } = await kube
    .get<{ data?: Record<string, string> }>(path, signal)
    .catch((thrown: unknown) => {
      if (!isKubeError(thrown, 404)) throw thrown
      const none = `there is no ConfigMap ${SYSTEM_NAMESPACE}/${CA_CONFIGMAP}: no injector of this version leads yet`
      throw new PosternError('PSTN_API_UNAVAILABLE', none, { cause: thrown })
    })
  return decodeCaStatus(json(data[CA_STATUS_KEY] ?? ''), `ConfigMap ${CA_CONFIGMAP}`)
}

function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

type Wish = CaRequest extends infer R ? (R extends CaRequest ? Omit<R, 'by' | 'at'> : never) : never

/** Writes the request and waits for the leader's answer. @throws PosternError PSTN_API_UNAVAILABLE if there is none. */
export async function request(kube: Kube, wish: Wish, signal: AbortSignal): Promise<CaAnswer> {
  const id = randomBytes(8).toString('hex')
  const asked = { ...wish, by: await whoAmI(kube, signal), at: new Date().toISOString() }
  const annotations = { [CA_REQUEST_PREFIX + id]: JSON.stringify(asked) }
  const path = `${NAMESPACE}/secrets/${CA_SECRET}`
  await kube.patch(path, 'application/merge-patch+json', { metadata: { annotations } }, signal)
  const deadline = performance.now() + PATIENCE_MS
  while (performance.now() < deadline) {
    const status = await readStatus(kube, signal).catch(absentYet)
    const answer = status?.answers.find(given => given.id === id)
    if (answer) return answer
    await delay(POLL_MS, undefined, { signal })
  }
  const silent = `no leader has answered within ${PATIENCE_MS / 1000} s. The request stays: whoever leads next does it`
  throw new PosternError('PSTN_API_UNAVAILABLE', silent)
}

function absentYet(thrown: unknown): undefined {
  if (!(thrown instanceof PosternError) || thrown.code !== 'PSTN_API_UNAVAILABLE') throw thrown
}
