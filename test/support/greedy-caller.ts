// A neighbour that opens many connections at once and says nothing on them.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import type { Test } from 'tap'

export type GreedyCaller = {
  /** Those that the listener has left open, after a moment. */
  open(): readonly Socket[]
  /** Milliseconds until the listener has ended the last. */
  allClosed(): Promise<number>
}

/** Opens them from 127.0.0.1; they end with the test. */
export async function greedyCaller(t: Test, port: number, connections: number): Promise<GreedyCaller> {
  const sockets = Array.from({ length: connections }, () =>
    connect({ host: '127.0.0.1', port })
      .on('error', () => {})
      .resume(),
  )
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
  })
  await Promise.all(sockets.map(socket => once(socket, 'connect')))
  return {
    open: () => sockets.filter(socket => !socket.closed && !socket.readableEnded),
    allClosed: async () => {
      const began = performance.now()
      await Promise.all(sockets.map(socket => socket.closed || once(socket, 'close')))
      return performance.now() - began
    },
  }
}
