// Callers without SPIFFE on a port with TLS: known by their own CA and a table, and by nothing else, whatever they show.
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { type ConnectionOptions, connect } from 'node:tls'
import t, { type Test } from 'tap'
import type { PartnerClients } from '../../shared/federation/model.ts'
import { compile } from '../../shared/policy/compile.ts'
import { revocationCheck } from '../../shared/revocation.ts'
import { type Issued, type IssueOptions, type TestAuthority, testAuthority } from '../support/certificates.ts'
import { applicationServer, dataPath, policySet } from '../support/data-path.ts'
import { CLIENT_ID, TRUST_DOMAIN } from '../support/tunnel-pair.ts'

const PRINCIPAL = 'spiffe://partner-clients.example/batch'
const BATCH = 'CN=batch'

async function start(t: Test) {
  const application = applicationServer(socket => socket.pipe(socket))
  const path = await dataPath(application)
  t.teardown(() => path[Symbol.asyncDispose]())
  const bound = application.address()
  const port = typeof bound === 'object' && bound ? bound.port : 0
  const set = policySet([
    {
      kind: 'AuthorizationPolicy',
      name: 'shop/both',
      action: 'ALLOW',
      rules: [
        { from: [{ principals: ['partner-clients.example/batch', `${TRUST_DOMAIN}/ns/shop/sa/client`] }] },
      ],
      features: ['l4'],
    },
  ])
  const mode = { ...set.mode, tls: { [port]: 'mutual' as const } }
  path.policy.set(compile({ ...set, mode }, { trustDomain: TRUST_DOMAIN }))
  const partner = await testAuthority('partner CA')
  const known = (more: Partial<PartnerClients> = {}): readonly PartnerClients[] => [
    {
      name: 'partner',
      roots: [partner.root],
      ports: [port],
      principals: [{ subject: BATCH, principal: PRINCIPAL }],
      ...more,
    },
  ]
  path.clients.set(known())
  const dial = ({ key, chain }: Pick<Issued, 'key' | 'chain'>, options: ConnectionOptions = {}) =>
    connect({
      socket: path.dialPlain(),
      ca: [path.pair.authority.root],
      checkServerIdentity: () => undefined,
      key,
      cert: chain,
      ...options,
    }).on('error', () => {})
  const passes = async (leaf: Issued) => {
    const socket = dial(leaf)
    socket.write('x')
    await once(socket, 'data')
    return socket
  }
  const code = async () => (await path.server.next('decision')).code
  return { path, port, partner, known, dial, passes, code, own: path.pair.authority }
}

const batch = (authority: TestAuthority, more: IssueOptions = {}) =>
  authority.issue({ uris: [], subject: BATCH, ...more })

t.test('whoever is in the table is its principal, in policy and in the log', async t => {
  const { path, partner, passes } = await start(t)
  const leaf = await batch(partner)
  const socket = await passes(leaf)
  socket.end()
  t.match(await path.server.next('connection'), {
    via: 'tls',
    source: { identity: PRINCIPAL, serial: leaf.serial },
    outcome: 'ok',
  })
})

t.test('a workload of ours goes by its SPIFFE ID beside them', async t => {
  const { path, own, passes } = await start(t)
  const socket = await passes(await own.issue({ identity: CLIENT_ID, subject: BATCH }))
  socket.end()
  t.match(await path.server.next('connection'), { source: { identity: CLIENT_ID }, outcome: 'ok' })
})

t.test('a stranger does not choose how many signatures are checked', async t => {
  const { partner, dial, passes, code, own } = await start(t)
  const keys = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, [
    'sign',
    'verify',
  ])
  // Each may have issued each.
  const maze = await Promise.all(Array.from({ length: 9 }, () => testAuthority('maze', 'CN=maze', keys)))
  const [first] = maze
  if (!first) throw new Error('nine')
  const leaf = await batch(first)
  const chain = [leaf.leaf, ...maze.map(({ root }) => root)].join('')
  const checks = t.capture(X509Certificate.prototype, 'verify', X509Certificate.prototype.verify)
  dial({ ...leaf, chain })
  t.equal(await code(), 'PSTN_PEER_UNTRUSTED')
  t.ok(checks().length <= 10, 'no more than there are certificates')
  for (const known of [await batch(partner), await own.issue({ identity: CLIENT_ID })]) await passes(known)
  t.ok(checks().length > 0, 'control: they are counted')
})

t.test('attacks and mistakes', async t => {
  const { path, partner, own, dial, passes, code, known, port } = await start(t)
  const stranger = await testAuthority('partner CA')
  const with_ = (leaf: Issued, ...more: string[]): Issued => ({
    ...leaf,
    chain: [leaf.chain, ...more].join(''),
  })
  const spiffe = await batch(partner, { uris: [CLIENT_ID] })
  const below = await partner.intermediate()
  const ofTwo = await (await testAuthority('two')).intermediate()
  const crossed = await batch(ofTwo)
  const table: readonly (readonly [string, string, Issued])[] = [
    ['not in the table', 'PSTN_PEER_UNEXPECTED', await batch(partner, { subject: 'CN=other' })],
    ['without a subject', 'PSTN_PEER_UNEXPECTED', await batch(partner, { subject: '' })],
    [
      'in the table but for another case',
      'PSTN_PEER_UNEXPECTED',
      await batch(partner, { subject: 'CN=Batch' }),
    ],
    ['their CA, with a SPIFFE ID of ours', 'PSTN_PEER_TRUST_DOMAIN', spiffe],
    ['the same with our root sent along', 'PSTN_PEER_TRUST_DOMAIN', with_(spiffe, own.root)],
    [
      'the same with a certificate of ours between',
      'PSTN_PEER_TRUST_DOMAIN',
      with_(spiffe, (await own.issue({ identity: CLIENT_ID })).leaf, own.root),
    ],
    [
      'their CA, with its principal as SPIFFE ID',
      'PSTN_PEER_TRUST_DOMAIN',
      await batch(partner, { uris: [PRINCIPAL] }),
    ],
    [
      'their intermediate, with a SPIFFE ID of ours',
      'PSTN_PEER_TRUST_DOMAIN',
      await batch(below, { uris: [CLIENT_ID] }),
    ],
    ['our CA, with their subject and no SPIFFE ID', 'PSTN_PEER_ID_INVALID', await batch(own)],
    ['our CA, with their root sent along', 'PSTN_PEER_ID_INVALID', with_(await batch(own), partner.root)],
    ['a CA of their name', 'PSTN_PEER_UNTRUSTED', await batch(stranger)],
    [
      'the same with their root sent along',
      'PSTN_PEER_UNTRUSTED',
      with_(await batch(stranger), partner.root),
    ],
    [
      'an issuer that we and they have signed',
      'PSTN_PEER_UNTRUSTED',
      with_({ ...crossed, chain: crossed.leaf }, await own.crossSign(ofTwo), await partner.crossSign(ofTwo)),
    ],
    [
      'expired',
      'PSTN_PEER_EXPIRED',
      await batch(partner, {
        notBefore: new Date(Date.now() - 7_200_000),
        notAfter: new Date(Date.now() - 3_600_000),
      }),
    ],
    ['that is a CA', 'PSTN_PEER_USAGE', await batch(partner, { isCa: true })],
  ]
  for (const [name, wanted, leaf] of table) {
    dial(leaf)
    t.equal(await code(), wanted, name)
  }
  await passes(await batch(partner))
  await passes(await batch(below))

  const overtaken = dial(spiffe)
  overtaken.once('secureConnect', () => path.clients.set([]))
  t.equal(await code(), 'PSTN_PEER_UNTRUSTED', 'verified with their root, identified without it')
  await code()
  await code()
  path.clients.set(known())
  await passes(await batch(partner))

  path.clients.set(known({ ports: [port === 1 ? 2 : 1] }))
  t.equal(await code(), 'PSTN_PEER_UNTRUSTED', 'who lives when the port is no longer named')
  dial(await batch(partner))
  t.equal(await code(), 'PSTN_PEER_UNTRUSTED', 'on a port that they do not name')
})

t.test(
  'live connections end with their entry, their root or their certificate, and with nothing of ours',
  async t => {
    const { path, partner, known, passes, code } = await start(t)
    const leaf = await batch(partner)
    await passes(leaf)
    path.terminator.closePeers(() => false, 'PSTN_PEER_UNTRUSTED')
    path.clients.set(known({ principals: [{ subject: 'CN=other', principal: PRINCIPAL }] }))
    t.equal(await code(), 'PSTN_PEER_UNEXPECTED', 'our own roots are not asked')
    path.clients.set(known())
    await passes(leaf)
    path.clients.set(known({ roots: [(await testAuthority('next')).root] }))
    t.equal(await code(), 'PSTN_PEER_UNTRUSTED')
    path.clients.set(known())
    await passes(leaf)
    const check = revocationCheck({ serials: [], identities: [PRINCIPAL], pods: [] })
    path.revoked.set(check)
    path.terminator.sweepPeers(peer => check(peer) === undefined, 'PSTN_PEER_REVOKED')
    t.equal(await code(), 'PSTN_PEER_REVOKED')
  },
)
