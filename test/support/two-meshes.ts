// What tests of two meshes of different trust domains say to them: who the partner is, whom a pod lets in, and what either
// shows of its roots.
import { isKubeError } from '../../shared/kube/rest.ts'
import { CA_CONFIGMAP, FEDERATION_LABEL, POLICY_LABEL, TRUST_CONFIGMAP } from '../../shared/names.ts'
import { splitPem } from '../../shared/trust-bundle.ts'
import { systemPath } from '../kube/support/installation.ts'
import type { LogLine } from './namespace-kubelet.ts'
import type { Script } from './netns-conversation.ts'
import type { Mesh } from './netns-mesh.ts'
import { CLOSE, PING, PONG } from './netns-pair.ts'

export const PORT = 7000
export const [EAST, WEST] = ['east.example', 'west.example']
export const ANSWER: Script = [...PONG, ...PONG, { do: 'receiveEnd' }, { do: 'end' }]
export const TALK: Script = [...PING, ...PING, ...CLOSE]

export const idIn = (trustDomain: string, account: string) => `${trustDomain}/ns/shop/sa/${account}`

export async function rootsOf({ kube }: Pick<Mesh, 'kube'>): Promise<string[]> {
  const path = systemPath(`configmaps/${TRUST_CONFIGMAP}`)
  const { data } = await kube.get<{ data: Record<string, string> }>(path)
  return splitPem(data['roots.pem'] ?? '')
}

export async function phaseOf({ kube }: Pick<Mesh, 'kube'>): Promise<string | undefined> {
  const path = systemPath(`configmaps/${CA_CONFIGMAP}`)
  const { data } = await kube.get<{ data: Record<string, string> }>(path)
  return data.phase
}

/** Tells a mesh of a partner, or of what has changed about it. `bundle` is as in its document. */
export async function introduce(
  { kube }: Pick<Mesh, 'kube'>,
  trustDomain: string,
  bundle: object,
  destinations: readonly object[],
): Promise<void> {
  const document = {
    apiVersion: 'federation.postern.dev/v1',
    kind: 'TrustDomain',
    metadata: { name: 'partner' },
    spec: { trustDomain, bundle, destinations },
  }
  const metadata = { name: 'partner', labels: { [FEDERATION_LABEL]: 'true' } }
  const configMap = { metadata, data: { 'partner.yaml': JSON.stringify(document) } }
  const create = () => kube.create(systemPath('configmaps'), configMap)
  await kube
    .patch(systemPath('configmaps/partner'), 'application/merge-patch+json', configMap)
    .catch(thrown => (isKubeError(thrown, 404) ? create() : Promise.reject(thrown)))
}

/** Whom a pod lets in. */
export const allow = ({ kube }: Pick<Mesh, 'kube'>, app: string, ...principals: readonly string[]) =>
  kube.create('/api/v1/namespaces/shop/configmaps', {
    metadata: { name: app, labels: { [POLICY_LABEL]: 'true' } },
    data: {
      'allow.yaml': JSON.stringify({
        apiVersion: 'policy.postern.dev/v1',
        kind: 'AuthorizationPolicy',
        metadata: { name: app },
        spec: { selector: { matchLabels: { app } }, rules: [{ from: [{ source: { principals } }] }] },
      }),
    },
  })

export const refused = (direction: string, code: string) => (line: LogLine) =>
  line.msg === 'decision' && line.direction === direction && line.code === code
