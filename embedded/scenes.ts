// What the demo shows, a scene each. A scene returns its evidence or throws what is wrong with it.
import { setTimeout as delay } from 'node:timers/promises'
import { call, openStream } from './calls.ts'
import type { KubeObject } from './cluster/store.ts'
import type { LogLine } from './log-lines.ts'
import type { Stage } from './stage.ts'

export type Scene = { readonly title: string; play(stage: Stage): Promise<string> }

type Connection = {
  source: { identity?: string; serial?: string }
  code?: string
  policy?: string
  direction?: string
  via?: string
}

const MAX_POLICY_MS = 1_000
const ROTATIONS = 3

const fromTunnel = (identity: string) => (line: LogLine) =>
  line.msg === 'connection' && sourceOf(line).identity === identity && line.outcome === 'ok'
const refusedWith = (code: string) => (line: LogLine) => line.msg === 'decision' && line.code === code
const sourceOf = (line: LogLine) => (line as unknown as Connection).source ?? {}

const isIssued = ({ status }: KubeObject) => Boolean((status as { certificate?: string })?.certificate)

function expect(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(what)
}

export const SCENES: readonly Scene[] = [
  {
    title: 'issued',
    play: async ({ cluster, web, orders, stranger }) => {
      const pods = [web, orders, stranger]
      await Promise.all(pods.map(pod => pod.ready()))
      const issued = cluster.store.list('certificatesigningrequests').filter(isIssued)
      const without = pods.filter(({ uid }) => !issued.some(({ metadata }) => metadata.name?.includes(uid)))
      expect(without.length === 0, `no certificate for ${without.map(({ name }) => name)}`)
      return `${issued.length} certificates for ${pods.map(({ name }) => name).join(', ')}, keys made in their sidecars`
    },
  },
  {
    title: 'allowed',
    play: async ({ orders, urls }) => {
      const answer = await call(`${urls.web}/hello`)
      expect(answer.status === 200, `the caller got ${JSON.stringify(answer)}`)
      const { identity, serial } = sourceOf(
        await orders.line(fromTunnel('spiffe://cluster.local/ns/shop/sa/web')),
      )
      return `${answer.status} to ${identity}, serial ${serial}`
    },
  },
  {
    title: 'denied',
    play: async ({ orders, urls }) => {
      const answer = await call(`${urls.stranger}/hello`)
      expect(answer.status === 0, `a caller that no policy allows got ${answer.status}`)
      const { code, policy, source } = (await orders.line(
        refusedWith('PSTN_POLICY_DENIED'),
      )) as unknown as Connection
      return `${code} for ${source.identity}${policy ? ` by ${policy}` : ': no ALLOW policy matches'}`
    },
  },
  {
    title: 'plaintext refused',
    play: async ({ orders, urls, setMode }) => {
      await setMode('PERMISSIVE')
      const before = await untilAnswered(
        () => call(`${urls.plaintext}/hello`),
        status => status === 200,
      )
      expect(before.status === 200, `permissive: plaintext got ${JSON.stringify(before)}`)
      await setMode('STRICT')
      const after = await untilAnswered(
        () => call(`${urls.plaintext}/hello`),
        status => status === 0,
      )
      expect(after.status === 0, `strict: plaintext got ${after.status}`)
      const { code } = await orders.line(refusedWith('PSTN_PLAINTEXT_REFUSED'))
      return `200 while permissive, then ${code} under STRICT`
    },
  },
  {
    title: 'rotated',
    play: async ({ orders, urls }) => {
      const from = orders.lines.length
      const serials = new Set<string>()
      let requests = 0
      const deadline = Date.now() + 30_000
      while (serials.size <= ROTATIONS && Date.now() < deadline) {
        const answer = await call(`${urls.web}/rotating`)
        requests += 1
        expect(answer.status === 200, `request ${requests} got ${JSON.stringify(answer)}`)
        for (const line of orders.lines
          .slice(from)
          .filter(fromTunnel('spiffe://cluster.local/ns/shop/sa/web')))
          serials.add(sourceOf(line).serial ?? '')
        await delay(20)
      }
      expect(serials.size > ROTATIONS, `only ${serials.size - 1} rotations in 30 s`)
      return `${serials.size - 1} rotations under ${requests} requests, 0 failed; serials ${[...serials].map(s => s.slice(0, 8)).join(' → ')}`
    },
  },
  {
    title: 'policy changed live',
    play: async ({ orders, urls, setAllowed }) => {
      const { ended } = await openStream(`${urls.web}/stream`)
      const changed = Date.now()
      await setAllowed([])
      const closed = await Promise.race([ended.then(() => true), delay(5_000, false, { ref: false })])
      const ms = Date.now() - changed
      expect(closed, 'the live connection is still open 5 s after its permission was taken back')
      expect(ms <= MAX_POLICY_MS, `the live connection closed only after ${ms} ms`)
      const next = await call(`${urls.web}/hello`)
      expect(next.status === 0, `the next connection got ${next.status}`)
      await setAllowed(['web'])
      const again = await untilAnswered(
        () => call(`${urls.web}/hello`),
        status => status === 200,
      )
      expect(again.status === 200, `allowed again, but the caller got ${JSON.stringify(again)}`)
      const { code } = await orders.line(line => line.msg === 'connection' && line.outcome === 'closed')
      return `live connection closed ${ms} ms after the edit (${code}), the next one refused, both allowed again`
    },
  },
]

/** A policy takes up to a second to arrive: asks again until `wanted`, at most so long, and gives the last answer. */
async function untilAnswered(ask: () => ReturnType<typeof call>, wanted: (status: number) => boolean) {
  const deadline = Date.now() + 2 * MAX_POLICY_MS
  let answer = await ask()
  while (!wanted(answer.status) && Date.now() < deadline) {
    await delay(25)
    answer = await ask()
  }
  return answer
}
