// A conversation that a seed makes: who sends how much in which pieces, with what pauses, and who ends it how. Both ends
// make the same one, each plays its part, and none can wait for the other for ever.
import type { End, Script, Step } from './netns-conversation.ts'
import { seededRandom } from './seeded-bytes.ts'

const ENDINGS = ['client first', 'server first', 'both', 'client resets', 'server resets'] as const

export function randomConversation(seed: number, id: number): Record<End, Script> {
  const random = seededRandom(seed * 1_000_003 + id)
  const below = (limit: number) => Math.floor(random() * limit)
  const size = (limit: number) => Math.floor(limit ** random())
  const client: Step[] = []
  const server: Step[] = []
  const parts = { client, server }
  const otherOf = { client: 'server', server: 'client' } as const

  const message = (): Step & { do: 'send' } => {
    const chunk = size(128 * 1024)
    return { do: 'send', bytes: Math.min(size(1_000_000), chunk * 200), chunk }
  }
  const pause = (end: End) => {
    if (below(4) === 0) parts[end].push({ do: 'wait', ms: below(20) })
  }
  const say = (end: End, sent = message()) => {
    pause(end)
    parts[end].push(sent)
    parts[otherOf[end]].push({ do: 'receive', bytes: sent.bytes })
  }
  const sayBoth = () => {
    const [forth, back] = [message(), message()]
    client.push(forth, { do: 'receive', bytes: back.bytes })
    server.push(back, { do: 'receive', bytes: forth.bytes })
  }
  /** The other end sends on after it has heard the end, and only then ends itself. */
  const endFirst = (end: End) => {
    const other = otherOf[end]
    const last = message()
    pause(end)
    parts[end].push({ do: 'end' }, { do: 'receive', bytes: last.bytes }, { do: 'receiveEnd' })
    parts[other].push({ do: 'receiveEnd' }, last, { do: 'end' })
  }
  const reset = (end: End) => {
    // So that nothing is under way: a reset may overtake it on any TCP connection.
    const other = otherOf[end]
    say(end, { do: 'send', bytes: 1 })
    say(other, { do: 'send', bytes: 1 })
    parts[end].push({ do: 'reset' })
    parts[other].push({ do: 'receiveReset' })
  }

  for (let turns = below(8); turns > 0; turns -= 1) {
    if (below(4) === 0) sayBoth()
    else say(below(2) === 0 ? 'client' : 'server')
  }
  const ending = ENDINGS[below(ENDINGS.length)] ?? 'both'
  switch (ending) {
    case 'client first':
    case 'server first':
      endFirst(ending === 'client first' ? 'client' : 'server')
      break
    case 'both':
      for (const end of ['client', 'server'] as const) parts[end].push({ do: 'end' }, { do: 'receiveEnd' })
      break
    case 'client resets':
    case 'server resets':
      reset(ending === 'client resets' ? 'client' : 'server')
  }
  return parts
}
