// A TLS client that says one name in its first hello and another in the second one, for which the server asks. RFC 8446, section
// 4.1.2, forbids that, and OpenSSL does not look. Node lets no client do it: this one drives the OpenSSL within Node itself.
import { once } from 'node:events'
import { dlopen } from 'node:ffi'
import { writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import type { Issued } from './certificates.ts'

const { functions: openssl } = dlopen(null, {
  TLS_client_method: { arguments: [], return: 'pointer' },
  SSL_CTX_new: { arguments: ['pointer'], return: 'pointer' },
  SSL_CTX_free: { arguments: ['pointer'], return: 'void' },
  SSL_CTX_ctrl: { arguments: ['pointer', 'int32', 'int64', 'buffer'], return: 'int64' },
  SSL_CTX_use_certificate_chain_file: { arguments: ['pointer', 'buffer'], return: 'int32' },
  SSL_CTX_use_PrivateKey_file: { arguments: ['pointer', 'buffer', 'int32'], return: 'int32' },
  SSL_CTX_set_alpn_protos: { arguments: ['pointer', 'buffer', 'uint32'], return: 'int32' },
  SSL_new: { arguments: ['pointer'], return: 'pointer' },
  SSL_free: { arguments: ['pointer'], return: 'void' },
  SSL_set_bio: { arguments: ['pointer', 'pointer', 'pointer'], return: 'void' },
  SSL_set_connect_state: { arguments: ['pointer'], return: 'void' },
  SSL_ctrl: { arguments: ['pointer', 'int32', 'int64', 'buffer'], return: 'int64' },
  SSL_do_handshake: { arguments: ['pointer'], return: 'int32' },
  SSL_write: { arguments: ['pointer', 'buffer', 'int32'], return: 'int32' },
  BIO_s_mem: { arguments: [], return: 'pointer' },
  BIO_new: { arguments: ['pointer'], return: 'pointer' },
  BIO_read: { arguments: ['pointer', 'buffer', 'int32'], return: 'int32' },
  BIO_write: { arguments: ['pointer', 'buffer', 'int32'], return: 'int32' },
})

// openssl/ssl.h, openssl/tls1.h
const SSL_CTRL_SET_TLSEXT_HOSTNAME = 55
const SSL_CTRL_SET_GROUPS_LIST = 92
const SSL_FILETYPE_PEM = 1
/** Its key is of the first one, which no server takes unless it is told to. */
const GROUPS = 'brainpoolP256r1tls13:P-256'
const ALPN = Buffer.from('\x02h2')

/** HTTP/2's preface, empty SETTINGS, and a CONNECT in HPACK's literals. */
const REQUEST = Buffer.concat([
  Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]),
  Buffer.from([0, 0, 25, 1, 4, 0, 0, 0, 1]),
  Buffer.from('\x02\x07CONNECT\x01\x0e127.0.0.1:8080'),
])

const cString = (value: string) => Buffer.from(`${value}\0`)

/**
 * Sends a request after the handshake, and resolves when the connection is closed, by the server or by `signal`: to how often
 * the client spoke. `directory` is for its certificate.
 */
export async function sayTwoNames(
  port: number,
  { key, chain }: Issued,
  [first, second]: readonly [string, string],
  { directory, signal }: { readonly directory: string; readonly signal: AbortSignal },
): Promise<number> {
  const [certFile, keyFile] = [join(directory, 'chain.pem'), join(directory, 'key.pem')]
  writeFileSync(certFile, chain)
  writeFileSync(keyFile, key)
  const context = openssl.SSL_CTX_new(openssl.TLS_client_method())
  openssl.SSL_CTX_use_certificate_chain_file(context, cString(certFile))
  openssl.SSL_CTX_use_PrivateKey_file(context, cString(keyFile), SSL_FILETYPE_PEM)
  openssl.SSL_CTX_ctrl(context, SSL_CTRL_SET_GROUPS_LIST, 0n, cString(GROUPS))
  openssl.SSL_CTX_set_alpn_protos(context, ALPN, ALPN.length)
  const ssl = openssl.SSL_new(context)
  const [incoming, outgoing] = [openssl.BIO_new(openssl.BIO_s_mem()), openssl.BIO_new(openssl.BIO_s_mem())]
  openssl.SSL_set_bio(ssl, incoming, outgoing)
  openssl.SSL_set_connect_state(ssl)
  const say = (name: string) => openssl.SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, 0n, cString(name))

  const socket = connect({ host: '127.0.0.1', port }).on('error', () => {})
  const buffer = Buffer.alloc(65_536)
  let flights = 0
  let isDone = false
  const proceed = () => {
    if (isDone) return
    isDone = openssl.SSL_do_handshake(ssl) === 1
    if (isDone) openssl.SSL_write(ssl, REQUEST, REQUEST.length)
    const length = openssl.BIO_read(outgoing, buffer, buffer.length)
    if (length <= 0) return
    socket.write(Buffer.from(buffer.subarray(0, length)))
    flights += 1
  }
  say(first)
  proceed()
  say(second)
  socket.on('data', chunk => {
    openssl.BIO_write(incoming, chunk, chunk.length)
    proceed()
  })
  signal.addEventListener('abort', () => socket.destroy(), { once: true })
  await once(socket, 'close')
  openssl.SSL_free(ssl)
  openssl.SSL_CTX_free(context)
  return flights
}
