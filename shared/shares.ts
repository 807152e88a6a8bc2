// One address's share of what a listener holds at a time: any pod may dial our ports, and none may keep the others out.
import type { Server, Socket } from 'node:net'

export type Shares = {
  /** How to give back what was taken; undefined if the address holds its share already. */
  take(address: string | undefined): (() => void) | undefined
}

export function createShares(most: number): Shares {
  const held = new Map<string, number>()
  return {
    take: (address = '') => {
      const count = (held.get(address) ?? 0) + 1
      if (count > most) return undefined
      held.set(address, count)
      let given = false
      return () => {
        if (given) return
        given = true
        const left = (held.get(address) ?? 1) - 1
        if (left > 0) held.set(address, left)
        else held.delete(address)
      }
    },
  }
}

/** Ends at once what an address opens beyond its share of a server's connections. */
export function limitCallers(
  server: Server,
  most: number,
  onRefused: (address: string | undefined) => void = () => {},
): void {
  const shares = createShares(most)
  server.on('connection', (socket: Socket) => {
    const { remoteAddress } = socket
    const release = shares.take(remoteAddress)
    if (release) {
      socket.once('close', release)
      return
    }
    socket.destroy()
    onRefused(remoteAddress)
  })
}
