import t from 'tap'
import { type BindContext, bind } from '../../../../shared/policy/bind.ts'
import { compile } from '../../../../shared/policy/compile.ts'
import {
  type PeerAuthenticationDocument,
  type PolicyDocument,
  unreadable,
} from '../../../../shared/policy/document.ts'
import { evaluate, refusedByMode } from '../../../../shared/policy/evaluate.ts'
import { type Caller, type InboundMode, withoutTlsPorts } from '../../../../shared/policy/model.ts'

const POD = { namespace: 'shop', labels: { app: 'orders', tier: 'back' } }
const CONTEXT: BindContext = { systemNamespace: 'postern-system' }

const authorization = (
  namespace: string,
  name: string,
  selector?: Record<string, string>,
): PolicyDocument => ({
  kind: 'AuthorizationPolicy',
  namespace,
  ...(selector && { selector }),
  policy: {
    kind: 'AuthorizationPolicy',
    name: `${namespace}/${name}`,
    action: 'ALLOW',
    rules: [],
    features: ['l4'],
  },
})

const peer = (
  namespace: string,
  mode: InboundMode | undefined,
  rest: Partial<PeerAuthenticationDocument> = {},
): PeerAuthenticationDocument => ({
  kind: 'PeerAuthentication',
  namespace,
  name: `${namespace}/mode`,
  ...(mode && { mode }),
  ports: {},
  ...rest,
})

const WORKLOAD = { selector: { app: 'orders' } }

t.test('without documents a pod is permissive and allows', async t => {
  t.strictSame(bind([], POD, CONTEXT), {
    mode: { inbound: 'permissive', ports: {} },
    policies: [],
    defaultAction: 'allow',
  })
  t.match(bind([], POD, { ...CONTEXT, defaultAction: 'deny', meshMode: 'strict' }), {
    mode: { inbound: 'strict' },
    defaultAction: 'deny',
  })
})

t.test(
  'a pod gets the policies of its namespace that select it and the mesh-wide ones, in a stable order',
  async t => {
    const documents = [
      authorization('shop', 'z'),
      authorization('bank', 'a'),
      authorization('shop', 'mine', { app: 'orders' }),
      authorization('shop', 'both', { app: 'orders', tier: 'back' }),
      authorization('shop', 'other', { app: 'orders', tier: 'front' }),
      authorization('postern-system', 'mesh'),
      authorization('postern-system', 'mesh-web', { app: 'web' }),
    ]
    const names = (list: PolicyDocument[]) => bind(list, POD, CONTEXT).policies.map(policy => policy.name)
    const expected = ['postern-system/mesh', 'shop/both', 'shop/mine', 'shop/z']
    t.same(names(documents), expected)
    t.same(names([...documents].reverse()), expected)
  },
)

const MODES: readonly {
  readonly it: string
  readonly documents: readonly PolicyDocument[]
  readonly label?: InboundMode
  readonly inbound: InboundMode
}[] = [
  { it: 'the mesh', documents: [peer('postern-system', 'strict')], inbound: 'strict' },
  {
    it: 'the namespace’s label before the mesh',
    documents: [peer('postern-system', 'strict')],
    label: 'permissive',
    inbound: 'permissive',
  },
  {
    it: 'the namespace before its label',
    documents: [peer('shop', 'permissive')],
    label: 'strict',
    inbound: 'permissive',
  },
  {
    it: 'the workload before the namespace',
    documents: [peer('shop', 'permissive'), peer('shop', 'strict', WORKLOAD)],
    label: 'permissive',
    inbound: 'strict',
  },
  {
    it: 'the stricter among equals',
    documents: [peer('shop', 'permissive'), peer('shop', 'strict')],
    inbound: 'strict',
  },
  {
    it: 'the default where another namespace is meant',
    documents: [peer('bank', 'strict')],
    inbound: 'permissive',
  },
  {
    it: 'the default where another workload is meant',
    documents: [peer('shop', 'strict', { selector: { app: 'web' } })],
    inbound: 'permissive',
  },
  {
    it: 'the namespace where the workload sets ports alone',
    documents: [
      peer('shop', 'strict'),
      peer('shop', undefined, { ...WORKLOAD, ports: { 80: 'permissive' } }),
    ],
    inbound: 'strict',
  },
]

for (const { it, documents, label, inbound } of MODES)
  t.test(`the mode is that of ${it}`, async t => {
    t.equal(bind(documents, POD, { ...CONTEXT, namespaceMode: label }).mode.inbound, inbound)
  })

t.test('ports are listed where they differ, the stricter document winning', async t => {
  const documents = [
    peer('shop', 'strict', { ...WORKLOAD, ports: { 80: 'permissive', 81: 'strict', 82: 'permissive' } }),
    peer('shop', undefined, { ...WORKLOAD, ports: { 82: 'strict' } }),
  ]
  t.strictSame(bind(documents, POD, CONTEXT).mode, { inbound: 'strict', ports: { 80: 'permissive' } })
})

t.test('ports with TLS are strict as well: who does not know them refuses what has no tunnel', async t => {
  const documents = [
    peer('shop', undefined, {
      ...WORKLOAD,
      ports: { 80: 'permissive' },
      tls: { 8443: 'mutual', 8444: 'server' },
    }),
    peer('shop', undefined, { ...WORKLOAD, ports: { 8445: 'permissive' }, tls: { 8444: 'server' } }),
    peer('shop', undefined, { ...WORKLOAD, tls: { 8445: 'server' } }),
  ]
  const set = bind(documents, POD, CONTEXT)
  t.strictSame(set.mode, {
    inbound: 'permissive',
    ports: { 8443: 'strict', 8444: 'strict', 8445: 'strict' },
    tls: { 8443: 'mutual', 8444: 'server', 8445: 'server' },
  })
  t.strictSame(withoutTlsPorts(set).mode, {
    inbound: 'permissive',
    ports: { 8443: 'strict', 8444: 'strict', 8445: 'strict' },
  })
})

t.test('where one document takes a certificate, another cannot do without', async t => {
  for (const stricter of [{ tls: { 8443: 'mutual' } }, { ports: { 8443: 'strict' } }] as const) {
    const documents = [
      peer('shop', undefined, { ...WORKLOAD, tls: { 8443: 'server' } }),
      peer('shop', undefined, { ...WORKLOAD, ...stricter }),
    ]
    t.strictSame(bind(documents, POD, CONTEXT).mode.tls, { 8443: 'mutual' })
  }
})

t.test('what a port with TLS asks of who comes without a tunnel', async t => {
  const documents = [peer('shop', undefined, { ...WORKLOAD, tls: { 8443: 'mutual', 8444: 'server' } })]
  const compiled = compile(bind(documents, POD, CONTEXT), { trustDomain: 'td' })
  const codeOf = (port: number, caller: Partial<Caller>) =>
    refusedByMode(compiled, { caller: { address: '10.0.0.1', ...caller }, port })
  const known = { identity: 'spiffe://td/ns/shop/sa/web' }
  for (const port of [8443, 8444]) {
    t.match(codeOf(port, {}), { code: 'PSTN_PLAINTEXT_REFUSED' })
    t.equal(codeOf(port, known), undefined)
    t.equal(codeOf(port, { ...known, isEncrypted: true }), undefined)
  }
  t.equal(codeOf(8444, { isEncrypted: true }), undefined)
  t.match(codeOf(8443, { isEncrypted: true }), { code: 'PSTN_PEER_NO_CERTIFICATE' })
  t.equal(codeOf(80, {}), undefined, 'other ports are as they were')
})

t.test('a ConfigMap that never was valid refuses all of its namespace, and nothing elsewhere', async t => {
  const documents = [unreadable('shop', 'policies')]
  const decide = (namespace: string) => {
    const set = bind(documents, { namespace, labels: {} }, CONTEXT)
    return evaluate(compile(set, { trustDomain: 'td' }), { caller: { address: '10.0.0.1' }, port: 80 })
  }
  t.match(decide('shop'), { allow: false, code: 'PSTN_POLICY_UNSUPPORTED', policy: 'shop/policies' })
  t.strictSame(decide('bank'), { allow: true })
})
