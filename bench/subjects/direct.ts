// No proxy at all: what the machine itself can do, and the load generators with it.
import { BACKENDS } from '../stage.ts'
import type { Subject } from '../subject.ts'

export const direct: Subject = {
  name: 'direct',
  describe: () => 'the client dials the backend',
  start: async ({ place }) => ({
    place,
    address: backend => ({ host: place.server.ipv4 ?? '', port: BACKENDS[backend] }),
    proxies: [],
    filesPerStream: 1,
    readyMs: 0,
    [Symbol.asyncDispose]: async () => {},
  }),
}
