// What is known of addresses outside the mesh: hosts that are declared to be dialled with TLS, and partners. Whatever would
// be dialled in plaintext is asked for here, and asked again when what is declared changes: a connection that would be made
// in another way now is ended.
import { authorityOf } from '../../shared/addresses.ts'
import { ChurnSet } from '../../shared/churn.ts'
import type { State } from '../../shared/control/messages.ts'
import { Ending, type EndSignal } from '../../shared/ending.ts'
import { PosternError } from '../../shared/errors.ts'
import type { Partners } from '../../shared/federation/partners.ts'
import type { Live } from '../../shared/live.ts'
import {
  matchOutside,
  type OutsideHost,
  outsideObstacle,
  type Place,
} from '../../shared/policy/outside-host.ts'
import { type Beyond, type Refusal, refuse } from './route.ts'

export type Outside = {
  /** Grows with each change of what is known. */
  readonly generation: number
  /** Of what the application dialled: for each address at which that is reached, the one host that is declared for either. */
  beyond(dialled: Place): Beyond
  /** The connection from `dialled` to `reached` was made as declared for `host`, or in plaintext without one. */
  hold(dialled: Place, reached: Place, host: OutsideHost | undefined): Held
}

/** Until disposed of. Ends with PSTN_OUTSIDE_CHANGED. */
export type Held = Disposable & { readonly signal: EndSignal }

type Connection = {
  readonly places: readonly Place[]
  readonly made: string
  readonly ending: Ending
}

export function createOutside(
  state: Live<State | undefined>,
  outbound: Beyond['outbound'],
  partners: Live<Pick<Partners, 'placeOf'>>,
): Outside {
  let declared = state.get()?.outside
  let match = matchOutside(declared ?? [])
  let generation = 0
  const connections = new ChurnSet<Connection>()

  const find = (places: readonly Place[]): OutsideHost | Refusal | undefined => judge(match(places), places)

  const check = ({ places, made, ending }: Connection): void => {
    const [dialled] = places
    const reached = places.at(-1)
    const partner = reached && partners.get().placeOf(reached.address)
    if (!partner && made === wayOf(find(places))) return
    const where = dialled ? authorityOf(dialled.address, dialled.port) : 'it'
    ending.abort(new PosternError('PSTN_OUTSIDE_CHANGED', `what is declared for ${where} has changed`))
  }

  const changed = () => {
    generation += 1
    for (const connection of connections) check(connection)
  }
  state.subscribe(next => {
    if (next?.outside === declared) return
    declared = next?.outside
    match = matchOutside(declared ?? [])
    changed()
  })
  partners.subscribe(changed)

  return {
    get generation() {
      return generation
    },
    beyond: dialled => ({
      outbound,
      declared: reached => find(placesOf(dialled, reached)),
      partner: address => partners.get().placeOf(address),
    }),
    hold: (dialled, reached, host) => {
      const connection = { places: placesOf(dialled, reached), made: wayOf(host), ending: new Ending() }
      connections.add(connection)
      check(connection)
      return { signal: connection.ending, [Symbol.dispose]: () => void connections.delete(connection) }
    },
  }
}

const placesOf = (dialled: Place, reached: Place): readonly Place[] =>
  dialled.address === reached.address && dialled.port === reached.port ? [dialled] : [dialled, reached]

/** Two for one place is no choice of ours, and one that is not understood is no reason for plaintext. */
function judge(
  found: readonly OutsideHost[],
  [dialled]: readonly Place[],
): OutsideHost | Refusal | undefined {
  const [host] = found
  if (!host) return undefined
  for (const each of found) {
    const obstacle = outsideObstacle(each)
    if (obstacle !== undefined)
      return refuse(
        'PSTN_POLICY_UNSUPPORTED',
        `${each.name} needs ${obstacle}, which this sidecar does not know`,
      )
  }
  if (found.length === 1) return host
  const where = dialled ? authorityOf(dialled.address, dialled.port) : 'it'
  return refuse('PSTN_OUTSIDE_AMBIGUOUS', `${found.map(({ name }) => name).join(', ')} all declare ${where}`)
}

/** States are decoded anew each time: what is the same is so by its text. */
const wayOf = (host: OutsideHost | Refusal | undefined): string => JSON.stringify(host ?? null)
