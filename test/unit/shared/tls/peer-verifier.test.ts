// Real handshakes on loopback: every wrong certificate has its own code, whichever side presents it.
import 'reflect-metadata'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { type ConnectionOptions, connect, createServer, type TlsOptions } from 'node:tls'
import { Extension } from '@peculiar/x509'
import t from 'tap'
import { clientTlsOptions, serverTlsOptions } from '../../../../shared/tls/contexts.ts'
import { der, TAG } from '../../../../shared/x509/der.ts'
import { type Issued, testAuthority } from '../../../support/certificates.ts'
import { meet as meeting } from '../../../support/tls-meeting.ts'
import { wrongCertificates } from '../../../support/wrong-certificates.ts'

const TRUST_DOMAIN = 'cluster.local'
const SERVER = 'spiffe://cluster.local/ns/shop/sa/web'
const CLIENT = 'spiffe://cluster.local/ns/shop/sa/cart'

const ours = await testAuthority(TRUST_DOMAIN)
const server = await ours.issue({ identity: SERVER })
const client = await ours.issue({ identity: CLIENT })

const meet = (serverOptions: TlsOptions, clientOptions: ConnectionOptions, expected?: string) =>
  meeting({
    server: serverOptions,
    client: clientOptions,
    bundle: ours.bundle,
    ...(expected && { expected }),
  })

const pemInside = (pem: string): Buffer => der(TAG.octetString, Buffer.from(`\n${pem}`))

const asServer = ({ key, chain }: Issued): TlsOptions => ({
  ...serverTlsOptions(server.credential(), ours.bundle),
  key,
  cert: chain,
})

const asClient = ({ key, chain }: Issued): ConnectionOptions => ({
  ...clientTlsOptions(client.credential(), ours.bundle),
  key,
  cert: chain,
})

t.test('two workloads of one trust domain know each other', async t => {
  const { byServer, byClient } = await meet(asServer(server), asClient(client), SERVER)
  t.match(byServer, {
    identity: CLIENT,
    trustDomain: TRUST_DOMAIN,
    address: '127.0.0.1',
    serial: client.serial,
  })
  t.match(byClient, { identity: SERVER, serial: server.serial, notAfter: server.notAfter })
})

t.test('a leaf that hides another certificate as PEM is known by its own name', async t => {
  const hidden = new Extension('1.3.6.1.4.1.99999.1', false, new Uint8Array(pemInside(server.leaf)))
  const leaf = await ours.issue({ identity: CLIENT, extensions: [hidden] })
  t.match((await meet(asServer(server), asClient(leaf))).byServer, { identity: CLIENT, serial: leaf.serial })
})

t.test('a leaf below a rotating issuer is accepted with its chain, and refused without', async t => {
  const leaf = await (await ours.intermediate()).issue({ identity: CLIENT })
  t.match((await meet(asServer(server), asClient(leaf))).byServer, { identity: CLIENT })
  const bare = { ...leaf, chain: leaf.leaf }
  t.equal((await meet(asServer(server), asClient(bare))).byServer, 'PSTN_PEER_UNTRUSTED')
})

t.test('each wrong certificate has its own code, from either side', async t => {
  for (const [name, code, leaf] of await wrongCertificates(ours, CLIENT)) {
    const { byServer } = await meet(asServer(server), asClient(leaf))
    t.equal(byServer, code, `client ${name}`)
    const { byClient } = await meet(asServer(leaf), asClient(client), SERVER)
    t.equal(byClient, code, `server ${name}`)
  }
})

t.test('a client without a certificate has its own code', async t => {
  const { key: _, cert: __, ...anonymous } = asClient(client)
  t.equal((await meet(asServer(server), anonymous)).byServer, 'PSTN_PEER_NO_CERTIFICATE')
})

t.test('a valid workload that is not the expected one is refused', async t => {
  const other = await ours.issue({ identity: 'spiffe://cluster.local/ns/shop/sa/other' })
  t.equal((await meet(asServer(other), asClient(client), SERVER)).byClient, 'PSTN_PEER_UNEXPECTED')
})

t.test('an empty bundle trusts nobody, not the public web', async t => {
  const nobody = serverTlsOptions(server.credential(), { trustDomain: TRUST_DOMAIN, roots: [] })
  t.equal((await meet(nobody, asClient(client))).byServer, 'PSTN_PEER_UNTRUSTED')
})

t.test('TLS 1.2 is not spoken', async t => {
  const old = { ...asClient(client), minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' } as const
  t.same(await meet(asServer(server), old), { byServer: undefined, byClient: undefined })
})

t.test('a peer without ALPN h2 is refused', async t => {
  const { ALPNProtocols: _, ...mute } = asClient(client)
  t.equal((await meet(asServer(server), mute)).byServer, 'PSTN_TLS_FAILED')
})

/** Whether a second handshake with the first one's session skips verification. */
async function resumes(serverOptions: TlsOptions): Promise<boolean> {
  const listener = createServer(serverOptions)
  listener.on('secureConnection', socket => {
    socket.on('error', () => {})
    socket.end('x')
  })
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const { port } = listener.address() as AddressInfo
  const handshake = async (session?: Buffer) => {
    const socket = connect({ ...asClient(client), host: '127.0.0.1', port, ...(session && { session }) })
    let offered: Buffer | undefined
    socket.on('session', ticket => {
      offered = ticket
    })
    await once(socket, 'secureConnect')
    const reused = socket.isSessionReused()
    socket.resume()
    await once(socket, 'close')
    return { offered, reused }
  }
  const { offered } = await handshake()
  const { reused } = await handshake(offered)
  listener.close()
  return reused
}

t.test('a session is never resumed, since that would outlive a removed root', async t => {
  t.equal(await resumes(asServer(server)), false)
  t.equal(await resumes({ ...asServer(server), secureOptions: 0 }), true, 'control: without the option it is')
})
