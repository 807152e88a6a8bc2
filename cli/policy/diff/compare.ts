// Two versions of what binds a pod, asked for each combination of the representatives: what is decided otherwise, gathered
// into as few boxes as say the same.
import { type CompiledPolicy, compile } from '../../../shared/policy/compile.ts'
import type { EndUser } from '../../../shared/policy/end-user.ts'
import { evaluate, refusedByMode } from '../../../shared/policy/evaluate.ts'
import type { Caller, PolicyRequest, PolicySet } from '../../../shared/policy/model.ts'
import { type Axis, addresses, callers, header, hosts, methods, paths, ports } from './axes.ts'
import { type Box, boxesOf, type Point } from './boxes.ts'
import { users } from './users.ts'
import { writtenIn } from './written.ts'

export type Change = 'newly allowed' | 'newly denied'

export type Difference = {
  readonly change: Change
  /** Opaque bytes, of which nothing is known but the connection. */
  readonly opaque: boolean
  /** By axis; one that makes no difference is left out. */
  readonly where: { readonly [axis: string]: readonly string[] }
  /** How many representatives it stands for. */
  readonly requests: number
}

export type Comparison = {
  readonly differences: readonly Difference[]
  /** Of representative requests that were asked. */
  readonly requests: number
  /** Not all classes or combinations were asked. */
  readonly sampled: boolean
}

/** For one kind of pods. */
const MOST_REQUESTS = 300_000

type Part = { readonly name: string; readonly axis: Axis<unknown> }

export function compare(
  before: PolicySet,
  after: PolicySet,
  { trustDomain }: { readonly trustDomain: string },
  most = MOST_REQUESTS,
): Comparison {
  const versions = [compile(before, { trustDomain }), compile(after, { trustDomain })] as const
  const written = writtenIn([before, after])
  const connection: readonly Part[] = [
    { name: 'caller', axis: callers(written, trustDomain) },
    { name: 'port', axis: ports(written.ports) },
    { name: 'from address', axis: addresses(written.ipBlocks) },
    { name: 'to address', axis: addresses(written.destinations) },
  ]
  const path = paths(written.paths)
  const request: readonly Part[] = [
    { name: 'method', axis: methods(written.methods) },
    { name: 'path', axis: path },
    { name: 'host', axis: hosts(written.hosts) },
    {
      name: 'user',
      axis: users(
        written,
        path.values.map(({ value }) => value),
      ),
    },
    ...[...written.headers].map(([name, values]) => ({ name: HEADER + name, axis: header(name, values) })),
  ]
  const asksHttp = request.some(({ axis }) => axis.values.length > 1)
  const opaque = walk(connection, versions, true, most)
  const http = asksHttp ? walk([...connection, ...request], versions, false, most) : undefined
  const all = [opaque, ...(http ? [http] : [])]
  return {
    differences: all.flatMap(({ differences }) => differences),
    requests: all.reduce((sum, { requests }) => sum + requests, 0),
    sampled: all.some(({ sampled }) => sampled),
  }
}

const HEADER = 'header '

function walk(
  parts: readonly Part[],
  versions: readonly [CompiledPolicy, CompiledPolicy],
  opaque: boolean,
  most: number,
): Comparison {
  const sizes = parts.map(({ axis }) => axis.values.length)
  const total = sizes.reduce((product, size) => product * size, 1)
  const changed: { readonly [C in Change]: Point[] } = { 'newly allowed': [], 'newly denied': [] }
  const asked = Math.min(total, most)
  for (let count = 0; count < asked; count += 1) {
    const point = pointAt(total <= most ? count : spread(count, total, most), sizes)
    const change = changeOf(versions, requestAt(parts, point, opaque))
    if (change) changed[change].push(point)
  }
  const shown = (change: Change) =>
    boxesOf(changed[change], parts.length).map(box => differenceOf(change, box, parts, opaque))
  return {
    differences: [...shown('newly allowed'), ...shown('newly denied')],
    requests: asked,
    sampled: total > most || parts.some(({ axis }) => !axis.complete),
  }
}

/** Evenly, and not in step with the size of any axis. */
const spread = (count: number, total: number, most: number): number =>
  Math.min(total - 1, Math.floor((count + ((count * 0.618_033_988_75) % 1)) * (total / most)))

function pointAt(index: number, sizes: readonly number[]): Point {
  let left = index
  return sizes.map(size => {
    const place = left % size
    left = Math.floor(left / size)
    return place
  })
}

function changeOf(
  [before, after]: readonly [CompiledPolicy, CompiledPolicy],
  request: PolicyRequest,
): Change | undefined {
  const was = allows(before, request)
  if (was === allows(after, request)) return undefined
  return was ? 'newly denied' : 'newly allowed'
}

const allows = (policy: CompiledPolicy, request: PolicyRequest): boolean =>
  (refusedByMode(policy, request) ?? evaluate(policy, request)).allow

/** The axes are known by their names. */
function requestAt(parts: readonly Part[], point: Point, opaque: boolean): PolicyRequest {
  const values = new Map(parts.map(({ name, axis }, index) => [name, axis.values[point[index] ?? 0]?.value]))
  const value = <T>(name: string) => values.get(name) as T
  const connection = {
    caller: { ...value<Omit<Caller, 'address'>>('caller'), address: value<string>('from address') },
    port: value<number>('port'),
    address: value<string>('to address'),
  }
  if (opaque) return connection
  const user = value<EndUser | undefined>('user')
  return {
    ...connection,
    http: {
      method: value<string>('method'),
      path: value<string>('path'),
      host: value<string>('host'),
      headers: { get: name => value<string | null | undefined>(HEADER + name) },
      ...(user && { user }),
    },
  }
}

function differenceOf(change: Change, box: Box, parts: readonly Part[], opaque: boolean): Difference {
  const where = parts.flatMap(({ name, axis: { values } }, index) => {
    const among = box[index] ?? []
    if (among.length === values.length) return []
    return [[name, among.map(place => values[place]?.label ?? '')] as const]
  })
  const requests = box.reduce((product, among) => product * among.length, 1)
  return { change, opaque, where: Object.fromEntries(where), requests }
}
