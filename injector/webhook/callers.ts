// Who calls the webhook. API servers show no certificate, so nobody is refused for who he is; but where their addresses are those
// that they publish themselves (Service kubernetes), what others hold of the webhook is counted apart from what they hold, and
// their reviews come first. Where they call from elsewhere (a tunnel, a load balancer) they are strangers like all others.
import type { Server, Socket } from 'node:net'
import { canonicalAddress } from '../../shared/addresses.ts'
import { createShares, limitCallers } from '../../shared/shares.ts'
import type { World } from '../directory/world.ts'
import { createMemory, HttpRefusal, type Memory } from './body.ts'

export type Caller = { readonly address: string; readonly kind: CallerKind }

export type CallerKind = 'api-server' | 'other'

const KUBERNETES = 'default/kubernetes'

/** Whether API servers say that this is an address of theirs. */
export const isApiServer =
  ({ slices, slicesByService }: Pick<World, 'slices' | 'slicesByService'>) =>
  (address: string): boolean => {
    for (const key of slicesByService.get(KUBERNETES))
      if (slices.get(key)?.endpoints.some(endpoint => endpoint.address === address)) return true
    return false
  }

export function callerOf(
  { remoteAddress = '' }: { readonly remoteAddress?: string | undefined },
  known: (address: string) => boolean,
): Caller {
  const address = canonicalAddress(remoteAddress) ?? ''
  return { address, kind: known(address) ? 'api-server' : 'other' }
}

export type ConnectionLimits = {
  /** Of all strangers together. */
  readonly connections: number
  readonly connectionsPerAddress: number
}

export function limitConnections(
  server: Server,
  { connections, connectionsPerAddress }: ConnectionLimits,
  known: (address: string) => boolean,
  onRefused: (why: string, address: string | undefined) => void,
): void {
  limitCallers(server, connectionsPerAddress, address =>
    onRefused('too many connections of this address', address),
  )
  const strangers = createShares(connections)
  server.on('connection', (socket: Socket) => {
    if (socket.destroyed || callerOf(socket, known).kind === 'api-server') return
    const release = strangers.take('')
    if (release) {
      socket.once('close', release)
      return
    }
    onRefused('too many connections', socket.remoteAddress)
    socket.destroy()
  })
}

/** Of all strangers together, and again of all known API servers; and one address's share, since API servers are few. */
export type ReviewLimits = {
  readonly concurrent: number
  readonly concurrentPerAddress: number
  /** However many the others have under way, an address may have these. */
  readonly concurrentReserved: number
  /** Of bodies. */
  readonly heldBytes: number
  readonly heldBytesPerAddress: number
}

/** What callers of one kind have under way. */
export type Allowance = {
  /** A place among the reviews. @throws HttpRefusal where there is none. */
  takePlace(address: string): Disposable
  readonly memory: Memory
}

export const allowances = (limits: ReviewLimits): { readonly [K in CallerKind]: Allowance } => ({
  'api-server': allowance(limits),
  other: allowance(limits),
})

const allowance = (limits: ReviewLimits): Allowance => ({
  takePlace: places(limits),
  memory: createMemory(limits.heldBytes, limits.heldBytesPerAddress),
})

function places(limits: ReviewLimits): Allowance['takePlace'] {
  const shares = createShares(limits.concurrentPerAddress)
  const reserved = createShares(limits.concurrentReserved)
  let underWay = 0
  return caller => {
    const own = reserved.take(caller)
    const release = own || underWay < limits.concurrent ? shares.take(caller) : undefined
    if (!release) own?.()
    const place = placeOf(release)
    underWay += 1
    return {
      [Symbol.dispose]: () => {
        underWay -= 1
        own?.()
        place[Symbol.dispose]()
      },
    }
  }
}

export function placeOf(release: (() => void) | undefined): Disposable {
  if (!release) throw new HttpRefusal(503, 'too many reviews at once', 'PSTN_LIMIT')
  return { [Symbol.dispose]: release }
}
