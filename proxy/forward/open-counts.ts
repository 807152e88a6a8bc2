// How many connections this sidecar has open to each address: what the choice between a Service's endpoints weighs.

export type OpenCounts = {
  of(address: string): number
  /** Counts one more until it is disposed of. */
  count(address: string): Disposable
}

export function createOpenCounts(): OpenCounts {
  const counts = new Map<string, number>()
  const of = (address: string) => counts.get(address) ?? 0
  return {
    of,
    count: address => {
      counts.set(address, of(address) + 1)
      return {
        [Symbol.dispose]: () => {
          if (of(address) > 1) counts.set(address, of(address) - 1)
          else counts.delete(address)
        },
      }
    },
  }
}
