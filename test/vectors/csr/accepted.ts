// Odd requests that the approver must let through, and requests that are not its to decide.
import { twinOf } from '../../support/forged-keys.ts'
import { uri } from '../../support/forged-requests.ts'
import { ADMIN, type Case, extra, metadata, named, POD_UID, paddedTo, spec } from './cases.ts'

export const approved: readonly Case[] = [
  { name: 'an honest request' },
  { name: 'the last of the eight names', object: named(`postern-${POD_UID}-7`) },
  {
    name: 'usages in another order',
    object: spec({ usages: ['client auth', 'digital signature', 'server auth'] }),
  },
  { name: 'a lifetime asked for', object: spec({ expirationSeconds: 600 }) },
  {
    name: 'a lifetime of 68 years asked for, which the signer shortens',
    object: spec({ expirationSeconds: 2_147_483_647 }),
  },
  { name: 'a pod that has not started yet', pod: { status: { phase: 'Pending' } } },
  { name: 'a pod whose node is silent', pod: { status: { phase: 'Unknown' } } },
  {
    name: 'a pod that shuts down, within its grace period',
    pod: { metadata: { deletionTimestamp: '2026-11-21T12:00:30Z' } },
  },
  {
    name: 'a pod on its node’s network: its identity is its service account’s like any other’s',
    pod: { spec: { hostNetwork: true } },
  },
  {
    name: 'a pod without a sidecar: who makes pods chooses their service account',
    pod: { metadata: { labels: { plain: 'yes' } } },
  },
  { name: 'PEM without a last newline', pem: pem => pem.trimEnd() },
  { name: 'just 4 KiB', pem: pem => paddedTo(4096, pem) },
  { name: 'PEM in one long line', pem: pem => pem.replaceAll(/(?<=[^-])\n(?=[^-])/g, '') },
  { name: 'empty maps of labels and annotations', object: metadata({ labels: {}, annotations: {} }) },
  { name: 'fields of the token that nobody asks for', object: extra('anything', ['a', 'b']) },
  {
    name: 'groups beyond those of a service account',
    object: spec({
      groups: ['system:serviceaccounts', 'system:serviceaccounts:shop', 'system:authenticated', 'wheel'],
    }),
  },
  { name: 'the twin of its signature, (r, n − s)', csr: { signature: twinOf } },
  {
    name: 'another’s user name written into the request, which the API server overwrites',
    sent: spec({ username: 'system:serviceaccount:shop:admin', groups: ['system:masters'] }),
  },
  {
    name: 'a status with a denial sent along, which the API server drops',
    sent: { status: { conditions: [{ type: 'Denied', status: 'True' }] } },
  },
]

const DECIDED = 'the API server takes no status with a request'

/** Neither approved nor denied. */
export const ignored: readonly Case[] = [
  { name: 'a request of a person', object: spec({ username: 'alice', groups: ['people'], extra: null }) },
  {
    name: 'a request of a person under a pod’s name, with a pod’s fields',
    object: spec({ username: 'alice', groups: ['people'] }),
  },
  {
    name: 'a request of a person for another’s identity',
    csr: { names: [uri(ADMIN)] },
    object: spec({ username: 'alice', groups: ['people'], extra: null }),
  },
  {
    name: 'a request of a node',
    object: spec({ username: 'system:node:node-1', groups: ['system:nodes'], extra: null }),
  },
  {
    name: 'a name that only looks like a service account’s',
    object: spec({ username: 'system:serviceaccount:shop', groups: ['people'] }),
  },
  {
    name: 'a name of one part too many',
    object: spec({ username: 'system:serviceaccount:shop:cart:x', groups: ['people'] }),
  },
  {
    name: 'a service account’s name in capitals',
    object: spec({ username: 'system:serviceaccount:shop:CART', groups: ['people'] }),
  },
  {
    name: 'a person’s request to another signer',
    object: spec({
      username: 'alice',
      groups: ['people'],
      extra: null,
      signerName: 'kubernetes.io/kube-apiserver-client',
    }),
  },
  {
    name: 'a person’s request to another signer of our domain',
    object: spec({ username: 'alice', groups: ['people'], extra: null, signerName: 'postern.dev/serving' }),
  },
  {
    name: 'an approved request',
    object: { status: { conditions: [{ type: 'Approved', status: 'True' }] } },
    unreal: DECIDED,
  },
  {
    name: 'a denied request',
    object: { status: { conditions: [{ type: 'Denied', status: 'True' }] } },
    unreal: DECIDED,
  },
]
