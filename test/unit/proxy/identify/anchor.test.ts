// How much work a change of roots is for connections that live: what is counted are the certificates that are looked at.
import { X509Certificate } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import t from 'tap'
import { createAnchorage } from '../../../../proxy/identify/anchor.ts'
import type { Peer } from '../../../../proxy/tunnel/interface.ts'
import { splitPem } from '../../../../shared/trust-bundle.ts'
import { type TestAuthority, testAuthority } from '../../../support/certificates.ts'

const TRUST_DOMAIN = 'cluster.local'
const [old, next] = [
  await testAuthority(TRUST_DOMAIN, 'CN=old'),
  await testAuthority(TRUST_DOMAIN, 'CN=next'),
]
const MANY = 200
const peer = { trustDomain: TRUST_DOMAIN } as Peer

/** Sockets whose peer has shown a certificate of the authority, and how often that was asked for. */
async function connected(authority: TestAuthority) {
  const { chain } = await authority.issue({ identity: `spiffe://${TRUST_DOMAIN}/ns/shop/sa/web` })
  const [leaf] = splitPem(chain).map(pem => new X509Certificate(pem))
  let asked = 0
  const sockets = Array.from({ length: MANY }, () => {
    const getPeerX509Certificate = () => {
      asked += 1
      return leaf
    }
    return { getPeerX509Certificate } as unknown as TLSSocket
  })
  return { sockets, asked: () => asked }
}

t.test('connections are looked at again where the root that let them in is gone, and only then', async t => {
  const { sockets, asked } = await connected(old)
  const anchoredIn = createAnchorage()
  const kept = (...roots: string[]) => {
    const keep = anchoredIn(trustDomain => ({ trustDomain, roots }))
    return sockets.filter(socket => keep(peer, socket)).length
  }
  t.equal(kept(old.root), MANY)
  t.equal(asked(), MANY, 'each once, as it came in')
  t.equal(kept(old.root, next.root), MANY, 'a root is published')
  t.equal(kept(next.root, old.root), MANY, 'the new one signs')
  t.equal(asked(), MANY, 'and nobody is looked at')
  t.equal(kept(next.root), 0, 'the root is gone')
  t.equal(asked(), 2 * MANY)
  t.equal(kept(next.root), 0, 'nor are they forgotten to be strangers')
})

t.test('what a root vouched for in one trust domain says nothing in another', async t => {
  const { sockets } = await connected(old)
  const anchoredIn = createAnchorage()
  const [socket] = sockets
  if (!socket) throw new Error('no socket')
  t.ok(anchoredIn(trustDomain => ({ trustDomain, roots: [old.root] }))(peer, socket))
  const foreign = { ...peer, trustDomain: 'west.example' }
  const elsewhere = anchoredIn(trustDomain => ({ trustDomain, roots: [next.root] }))
  t.notOk(elsewhere(foreign, socket))
})
