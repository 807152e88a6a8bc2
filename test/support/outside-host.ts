// Hosts outside the mesh for tests: real TLS servers with certificates of an authority of their own, and the documents that
// declare them.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createPlainServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { createServer, type TLSSocket, type TlsOptions } from 'node:tls'
import type { OutsideHost } from '../../shared/policy/outside-host.ts'
import { type IssueOptions, type TestAuthority, testAuthority } from './certificates.ts'

export const OUTSIDE_NAME = 'api.partner.example'

export const outsideAuthority = (): Promise<TestAuthority> => testAuthority('outside.example')

/** The options of a server that proves to be OUTSIDE_NAME. */
export async function outsideTls(
  authority: TestAuthority,
  { issue = {}, ...options }: TlsOptions & { readonly issue?: IssueOptions } = {},
): Promise<TlsOptions> {
  const { key, chain } = await authority.issue({ dns: [OUTSIDE_NAME], ...issue })
  return { key, cert: chain, allowHalfOpen: true, ...options }
}

export type Listening = AsyncDisposable & { readonly port: number }

export type At = { readonly host: string; readonly port: number }
const ANYWHERE: At = { host: '127.0.0.1', port: 0 }

export async function listenTls(
  options: TlsOptions,
  onConnection: (socket: TLSSocket) => void,
  /** What carries them, in order. */
  raw: Socket[] = [],
  at: At = ANYWHERE,
): Promise<Listening> {
  const server = createServer(options, socket => onConnection(socket.on('error', () => {})))
  server.on('connection', socket => raw.push(socket))
  return listening(
    server.on('tlsClientError', () => {}),
    at,
  )
}

export const listenPlain = (onConnection: (socket: Socket) => void, at: At = ANYWHERE): Promise<Listening> =>
  listening(
    createPlainServer({ allowHalfOpen: true }, socket => onConnection(socket.on('error', () => {}))),
    at,
  )

async function listening(
  server: ReturnType<typeof createPlainServer>,
  { host, port }: At,
): Promise<Listening> {
  const sockets = new Set<Socket>()
  server.on('connection', socket => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  await once(server.listen(port, host), 'listening')
  const bound = server.address()
  if (bound === null || typeof bound === 'string') throw new Error('a TCP server has an address')
  return {
    port: bound.port,
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

export const outsideHost = (
  { bundle }: TestAuthority,
  { tls, ...rest }: Partial<OutsideHost> = {},
): OutsideHost => ({
  name: 'shop/partner',
  host: OUTSIDE_NAME,
  addresses: ['127.0.0.1/32'],
  ports: [443],
  tls: { mode: 'SIMPLE', roots: bundle.roots, ...tls },
  features: [],
  ...rest,
})

export type OpensslServer = {
  readonly key: string
  readonly chain: string
  /** Whose certificates it demands of clients: PEM. */
  readonly roots: string
  readonly version: 'tls1_2' | 'tls1_3'
  readonly accept?: string
  /** Answers each line backwards. */
  readonly reverses?: boolean
}

/** OpenSSL's own server, which says by an alert what it holds against a client. */
export async function opensslServer({
  key,
  chain,
  roots,
  version,
  accept = '127.0.0.1:0',
  reverses = false,
}: OpensslServer): Promise<Listening> {
  const directory = mkdtempSync(join(tmpdir(), 'postern-outside-'))
  const file = (name: string, text: string) => {
    writeFileSync(join(directory, name), text, { mode: 0o600 })
    return join(directory, name)
  }
  const files = [
    '-key',
    file('key.pem', key),
    '-cert',
    file('chain.pem', chain),
    '-CAfile',
    file('roots.pem', roots),
  ]
  const demands = ['-Verify', '3', '-verify_return_error', `-${version}`]
  const child = spawn('openssl', [
    's_server',
    '-accept',
    accept,
    '-naccept',
    '99',
    ...(reverses ? ['-rev'] : []),
    ...files,
    ...demands,
  ])
  const { promise: port, resolve, reject } = Promise.withResolvers<number>()
  child.once('exit', status => reject(new Error(`openssl s_server ended with ${status}`)))
  createInterface(child.stdout).on('line', line => {
    // It names the port where it has chosen one.
    const [, found] = /^ACCEPT(?: .*:(\d+))?$/.exec(line) ?? []
    if (line.startsWith('ACCEPT')) resolve(Number(found ?? accept.split(':').at(-1)))
  })
  return {
    port: await port,
    [Symbol.asyncDispose]: async () => {
      const exited = once(child, 'exit')
      child.kill('SIGKILL')
      await exited
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

export type DocumentOptions = {
  readonly host: string
  readonly addresses: readonly string[]
  readonly ports: readonly number[]
  readonly mode: 'MUTUAL' | 'SIMPLE'
}

/** In YAML; JSON is. */
export const outsideDocument = (
  name: string,
  { root }: TestAuthority,
  { host, addresses, ports, mode }: DocumentOptions,
): string =>
  JSON.stringify({
    apiVersion: 'policy.postern.dev/v1',
    kind: 'OutsideHost',
    metadata: { name },
    spec: { host, addresses, ports, tls: { mode, caBundle: root } },
  })
