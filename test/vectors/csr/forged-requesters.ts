// Who asks: tokens that say too little or too much, and pods that are not the one, not there, or no longer running.
import { uri } from '../../support/forged-requests.ts'
import {
  type Case,
  extra,
  type Forgery,
  named,
  OTHER_UID,
  POD_NAME,
  POD_UID,
  REVOKED_IDENTITY,
  REVOKED_UID,
  spec,
} from './cases.ts'

type Requester = Omit<Case, 'name'> & Pick<Forgery, 'layer'>
type Named = Readonly<Record<string, Requester>>

const refused = (rule: string, because: RegExp, cases: Named): Forgery[] =>
  Object.entries(cases).map(([name, one]) => ({ name, rule, because, ...one }))

const POLICY = 'admission policy'
/** The admission policy looks at the uid alone: the rest is the approver's. */
const tokens: readonly Forgery[] = [
  ...refused('pod-bound-token', /not bound to one pod/, {
    'a token bound to no pod': { object: spec({ extra: null }), layer: POLICY },
    'a token without pod name': { object: extra('pod-name', null) },
    'a token without pod uid': { object: extra('pod-uid', null), layer: POLICY },
    'a list of no pod uids': {
      object: extra('pod-uid', []),
      unreal: 'a field without values does not reach the API server',
    },
    'a token without node': { object: extra('node-name', null) },
    'two pod names': { object: extra('pod-name', [POD_NAME, 'other']) },
    'two pod uids': { object: extra('pod-uid', [POD_UID, OTHER_UID]), layer: POLICY },
    'two pod uids, its own behind another’s': {
      object: extra('pod-uid', [OTHER_UID, POD_UID]),
      layer: POLICY,
    },
    'one pod uid twice': { object: extra('pod-uid', [POD_UID, POD_UID]), layer: POLICY },
    'one pod name twice': { object: extra('pod-name', [POD_NAME, POD_NAME]) },
    'two nodes': { object: extra('node-name', ['node-1', 'node-2']) },
    'one node twice': { object: extra('node-name', ['node-1', 'node-1']) },
    'an empty pod name': { object: extra('pod-name', ['']) },
    'an empty pod uid': { object: extra('pod-uid', ['']), layer: POLICY },
    'an empty node name': { object: extra('node-name', ['']) },
    'the fields under another prefix': {
      object: spec({
        extra: {
          'authentication.kubernetes.io/pod-uid': null,
          'authentication.example.com/pod-uid': [POD_UID],
        },
      }),
      layer: POLICY,
    },
  }),
  ...refused('identity', /does not fit into a SPIFFE ID/, {
    'a service account that is a dot segment': {
      object: spec({ username: 'system:serviceaccount:shop:..' }),
    },
    'a service account that is the segment itself': {
      object: spec({ username: 'system:serviceaccount:shop:.' }),
    },
    'a service account too long for a SPIFFE ID': {
      object: spec({ username: `system:serviceaccount:shop:${'x'.repeat(2048)}` }),
    },
  }),
]

const pods: readonly Forgery[] = [
  ...refused('pod-exists', /there is no pod/, {
    'no such pod': { pod: null },
    'a pod name that leads out of the path, ..': { object: extra('pod-name', ['..']), pod: null },
    'a pod name that leads into a subresource': {
      object: extra('pod-name', [`${POD_NAME}/status`]),
      pod: null,
    },
  }),
  ...refused('pod-uid', /another uid/, {
    'a pod recreated under the same name': { pod: { metadata: { uid: OTHER_UID } } },
    'the uid of another pod': {
      object: { ...extra('pod-uid', [OTHER_UID]), ...named(`postern-${OTHER_UID}-0`) },
    },
    'the uid in capitals': {
      object: {
        ...extra('pod-uid', [POD_UID.toUpperCase()]),
        ...named(`postern-${POD_UID.toUpperCase()}-0`),
      },
    },
    'the uid with a space behind it': {
      object: { ...extra('pod-uid', [`${POD_UID} x`]), ...named(`postern-${POD_UID} x-0`) },
    },
    'a pod of another name': {
      pod: { metadata: { name: 'other' } },
      unreal: 'it gives the pod that is asked for',
    },
    'a pod of another namespace': {
      pod: { metadata: { namespace: 'other' } },
      unreal: 'it gives the pod that is asked for',
    },
  }),
  ...refused('pod-service-account', /does not run as service account/, {
    'another service account than the pod’s': {
      object: spec({ username: 'system:serviceaccount:shop:admin' }),
    },
    'a pod that runs as another service account now': { pod: { spec: { serviceAccountName: 'admin' } } },
    'a pod without service account': {
      pod: { spec: { serviceAccountName: null } },
      unreal: 'it gives every pod a service account',
    },
  }),
  ...refused('pod-node', /the pod is not on node/, {
    'a token from another node than the pod’s': { object: extra('node-name', ['node-2']) },
    'a pod on another node now': { pod: { spec: { nodeName: 'node-2' } } },
    'a pod on no node': { pod: { spec: { nodeName: null } } },
    'a node whose name begins with the pod’s': { object: extra('node-name', ['node-10']) },
  }),
  ...refused('pod-live', /has ended|shut down is over/, {
    'a pod that succeeded': { pod: { status: { phase: 'Succeeded' } } },
    'a pod that failed': { pod: { status: { phase: 'Failed' } } },
    'a pod that ended and is being deleted': {
      pod: { metadata: { deletionTimestamp: '2026-11-21T12:00:30Z' }, status: { phase: 'Succeeded' } },
    },
    'a pod whose grace period is over': { pod: { metadata: { deletionTimestamp: '2026-11-21T11:59:59Z' } } },
  }),
  ...refused('revoked', /is revoked/, {
    'an honest request of a revoked identity': {
      csr: { names: [uri(REVOKED_IDENTITY)] },
      object: spec({ username: 'system:serviceaccount:shop:revoked' }),
      pod: { spec: { serviceAccountName: 'revoked' } },
    },
    'an honest request of a revoked pod': {
      object: { ...named(`postern-${REVOKED_UID}-0`), ...extra('pod-uid', [REVOKED_UID]) },
      pod: { metadata: { uid: REVOKED_UID } },
      unreal: 'it chooses the uids of pods itself: test/kube/revocation.test.ts revokes one',
    },
  }),
]

export const forgedRequesters: readonly Forgery[] = [...tokens, ...pods]
