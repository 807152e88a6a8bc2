// Holds the gate to other implementations: the bytes that it passes on are read by a peer, which must find in them the very
// requests that the gate authorized. Many inputs share a connection, so that one wrong boundary shifts all that follow.
import { gateInMemory } from './gate-in-memory.ts'
import { mutant } from './http-mutants.ts'
import type { Peer, Sight } from './http-peers.ts'
import { type Message, messagesIn, showMessage } from './http1-messages.ts'
import { seededRandom } from './seeded-bytes.ts'

export type Passed = {
  readonly input: string
  readonly messages: readonly Message[]
}

/** What the gate lets pass of the input. @throws Error where the order of arrival makes a difference. */
export function passedOf(input: string, splitAt: number): Passed {
  const bytes = Buffer.from(input, 'latin1')
  const whole = pass([bytes])
  const parts = pass([bytes.subarray(0, splitAt), bytes.subarray(splitAt)])
  const [one, other] = [whole, parts].map(({ messages }) =>
    complete(messages).map(({ raw }) => raw.toString('latin1')),
  )
  if (JSON.stringify(one) !== JSON.stringify(other))
    throw new Error(`cut at ${splitAt}, another result: ${JSON.stringify(input)}`)
  return { input, ...whole }
}

function pass(chunks: readonly Buffer[]): Omit<Passed, 'input'> {
  const over = new AbortController()
  const { caller, application, asked } = gateInMemory({ signal: over.signal })
  for (const chunk of chunks) caller.send(chunk)
  over.abort()
  const messages = messagesIn(Buffer.concat(application.written))
  // Some were asked about twice, for another reading of their path.
  const authorized = asked.values()
  for (const { method, target } of messages) {
    const path = target.replace(/\?.*$/s, '')
    if (!authorized.some(request => request.method === method && request.path === path))
      throw new Error(`${method} ${path} passed, and nobody was asked about it`)
  }
  return { messages }
}

const complete = (messages: readonly Message[]): readonly Message[] =>
  messages.filter(message => message.complete)

export type Tally = {
  compared: number
  readonly disagreements: string[]
}

export const tally = (): Tally => ({ compared: 0, disagreements: [] })

const canFollow = ({ complete, last, fields }: Message): boolean =>
  complete && !last && !fields.some(([name]) => name === 'upgrade')

/** Compares all of them, in connections shared as far as that can be. */
export async function compare(peer: Peer, all: readonly Passed[], counts: Tally): Promise<void> {
  const readable = all
    .map(({ input, messages }) => ({ input, messages: messages.filter(message => peer.reads(message)) }))
    .filter(({ messages }) => messages.length > 0)
  const shared = readable.filter(({ messages }) => messages.every(canFollow))
  const alone = readable.filter(({ messages }) => !messages.every(canFollow))
  await compareShared(peer, shared, counts)
  for (const one of alone) await compareShared(peer, [one], counts)
}

async function compareShared(peer: Peer, group: readonly Passed[], counts: Tally): Promise<void> {
  if (group.length === 0) return
  const messages = group.flatMap(one => one.messages)
  const sight = await peer.read(Buffer.concat(messages.map(({ raw }) => raw)))
  if (agree(peer, messages, sight)) {
    counts.compared += complete(messages).length
    return
  }
  const [only] = group
  if (group.length === 1 && only) {
    counts.disagreements.push(difference(peer, only, sight))
    return
  }
  const middle = group.length >> 1
  await compareShared(peer, group.slice(0, middle), counts)
  await compareShared(peer, group.slice(middle), counts)
}

function difference({ name }: Peer, { input, messages }: Passed, sight: Sight): string {
  const passed = messages.map(message => [showMessage(message), message.fields, message.complete])
  return [
    `${name} disagrees about ${JSON.stringify(input)}`,
    `  passed: ${JSON.stringify(passed)}`,
    `  seen:   ${JSON.stringify(sight)}`,
  ].join('\n')
}

/** A peer that refuses what passed does not agree. */
function agree(peer: Peer, messages: readonly Message[], { requests, refusal }: Sight): boolean {
  if (refusal !== undefined) return false
  const [whole, seen] = [complete(messages), requests.filter(request => request.complete)]
  return (
    whole.length === seen.length &&
    whole.every((message, i) => {
      const request = seen[i]
      return request !== undefined && peer.agrees(message, request)
    })
  )
}

export type Peers = readonly { readonly peer: Peer; readonly counts: Tally }[]

const BATCH = 200

/** Compares `count` mutants of the named inputs, and the inputs themselves. The number of those of which something passed. */
export async function compareMutants(
  peers: Peers,
  { inputs, count, seed }: { inputs: readonly string[]; count: number; seed: number },
): Promise<number> {
  const random = seededRandom(seed)
  const both = async (texts: readonly string[]) => {
    const passed = texts.map(text => passedOf(text, Math.floor(random() * text.length)))
    for (const { peer, counts } of peers) await compare(peer, passed, counts)
    return passed.filter(({ messages }) => messages.length > 0)
  }
  // What passes is changed more often than what does not: it takes less to be dangerous.
  const good = (await both(inputs)).map(({ input }) => input)
  const short = [...inputs, ...good, ...good, ...good].filter(({ length }) => length < 2_000)
  let passing = good.length
  for (let made = 0; made < count; made += BATCH)
    passing += (await both(Array.from({ length: BATCH }, () => mutant(short, random)))).length
  return passing
}
