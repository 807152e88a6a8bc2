// Who is asking, and may they: tokens as TokenRequest hands them out, and the least of RBAC that makes the embedded
// cluster refuse what a real one refuses to a pod. The injector and the administrator may do everything here.
import { randomBytes } from 'node:crypto'
import { CSR_SLOTS, csrName, SYSTEM_NAMESPACE, TRUST_CONFIGMAP, WORKLOAD_ROLE } from '../../shared/names.ts'
import type { Target } from './resources.ts'
import { type KubeObject, Refusal, type Store } from './store.ts'

export type User = {
  readonly username: string
  readonly uid?: string
  readonly groups: readonly string[]
  readonly extra: Readonly<Record<string, readonly string[]>>
}

const ANONYMOUS: User = { username: 'system:anonymous', groups: ['system:unauthenticated'], extra: {} }

export type Access = {
  readonly adminToken: string
  authenticate(authorization: string | undefined): User
  /** A token of the service account, bound to the pod when one is given (KEP-1205). */
  issueToken(namespace: string, serviceAccount: string, pod?: KubeObject): string
  /** @throws Refusal 403 */
  authorize(user: User, verb: string, target: Target): void
}

export function createAccess(store: Store, mayApprove: boolean): Access {
  const users = new Map<string, User>()
  const remember = (user: User): string => {
    const token = randomBytes(24).toString('base64url')
    users.set(token, user)
    return token
  }
  const adminToken = remember({ username: 'admin', groups: ['system:masters'], extra: {} })

  const boundToWorkloadRole = (user: User): boolean =>
    store.list('clusterrolebindings').some(binding => {
      const { roleRef, subjects = [] } = binding as {
        roleRef?: { name: string }
        subjects?: { kind: string; name: string }[]
      }
      return (
        roleRef?.name === WORKLOAD_ROLE &&
        subjects.some(s => s.kind === 'Group' && user.groups.includes(s.name))
      )
    })

  const allowed = (user: User, verb: string, { resource, namespace, name, subresource }: Target): boolean => {
    if (subresource === 'approval' && !mayApprove) return false
    if (user.groups.includes('system:masters')) return true
    if (!user.groups.includes('system:serviceaccounts')) return false
    if (user.username.startsWith(`system:serviceaccount:${SYSTEM_NAMESPACE}:`)) return true
    if (resource.plural === 'certificatesigningrequests')
      return ['create', 'get'].includes(verb) && boundToWorkloadRole(user)
    return (
      verb === 'get' &&
      resource.plural === 'configmaps' &&
      namespace === SYSTEM_NAMESPACE &&
      name === TRUST_CONFIGMAP
    )
  }

  return {
    adminToken,
    authenticate: authorization => {
      if (authorization === undefined) return ANONYMOUS
      const user = users.get(authorization.replace(/^Bearer /, ''))
      if (!user) throw new Refusal(401, 'Unauthorized', 'Unauthorized')
      return user
    },
    issueToken: (namespace, serviceAccount, pod) => {
      const extra = pod ? boundExtra(pod) : {}
      const groups = ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated']
      const username = `system:serviceaccount:${namespace}:${serviceAccount}`
      return remember({ username, uid: `${namespace}/${serviceAccount}`, groups, extra })
    },
    authorize: (user, verb, target) => {
      if (allowed(user, verb, target)) return
      const { resource, namespace } = target
      const where = namespace ? `in the namespace "${namespace}"` : 'at the cluster scope'
      const what = `cannot ${verb} resource "${resource.plural}" in API group "${resource.group}" ${where}`
      throw new Refusal(403, 'Forbidden', `User "${user.username}" ${what}`)
    },
  }
}

function boundExtra(pod: KubeObject): User['extra'] {
  const { nodeName = '' } = (pod.spec ?? {}) as { nodeName?: string }
  const key = (name: string) => `authentication.kubernetes.io/${name}`
  return {
    [key('pod-name')]: [pod.metadata.name ?? ''],
    [key('pod-uid')]: [pod.metadata.uid ?? ''],
    [key('node-name')]: [nodeName],
  }
}

/** What the ValidatingAdmissionPolicy on requests holds: the name fits the token's pod. @throws Refusal 422 */
export function checkRequestName(user: User, name: string): void {
  const uids = user.extra['authentication.kubernetes.io/pod-uid'] ?? []
  const names =
    uids.length === 1 ? Array.from({ length: CSR_SLOTS }, (_, slot) => csrName(uids[0] ?? '', slot)) : []
  if (!user.username.startsWith('system:serviceaccount:') || names.includes(name)) return
  throw new Refusal(
    422,
    'Invalid',
    `certificatesigningrequests "${name}" is forbidden: ValidatingAdmissionPolicy: the name must fit the token's pod`,
  )
}
