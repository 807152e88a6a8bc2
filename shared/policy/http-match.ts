// The HTTP fields of an operation, compiled and matched. What is not known (on a connection of opaque bytes all of it)
// never helps the caller: it never matches an ALLOW rule and always matches a DENY rule, `not…` or not.
import type { AuthorizationPolicy, HttpRequest, OperationMatch, StringMatch } from './model.ts'
import { compileTemplate, isPathTemplate } from './path-template.ts'
import { compileStrings, includes, type StringSet } from './string-set.ts'

/** Patterns that name a port see the host with its port, the others without. */
export type HostSet = { readonly named: StringSet; readonly withPort: StringSet }

export type PathSet = { readonly strings: StringSet; readonly templates: readonly RegExp[] }

export type CompiledHttp = {
  readonly methods: StringSet | undefined
  readonly notMethods: StringSet | undefined
  readonly paths: PathSet | undefined
  readonly notPaths: PathSet | undefined
  readonly hosts: HostSet | undefined
  readonly notHosts: HostSet | undefined
}

export type CompiledOperation = {
  readonly ports?: ReadonlySet<number>
  readonly notPorts?: ReadonlySet<number>
  readonly http?: CompiledHttp | undefined
}

/** Undefined if the operation has no HTTP field. */
export function compileHttp(operation: OperationMatch): CompiledHttp | undefined {
  const { methods, notMethods, paths, notPaths, hosts, notHosts } = operation
  if (![methods, notMethods, paths, notPaths, hosts, notHosts].some(list => list !== undefined))
    return undefined
  return {
    methods: methods && compileStrings(methods),
    notMethods: notMethods && compileStrings(notMethods),
    paths: paths && compilePaths(paths),
    notPaths: notPaths && compilePaths(notPaths),
    hosts: hosts && compileHosts(hosts),
    notHosts: notHosts && compileHosts(notHosts),
  }
}

export function httpMatches(
  fields: CompiledHttp,
  action: AuthorizationPolicy['action'],
  http: HttpRequest | undefined,
): boolean {
  const unknown = action === 'DENY'
  if (http === undefined) return unknown
  return (
    holds(fields.methods, fields.notMethods, http.method, includes, unknown) &&
    holds(fields.paths, fields.notPaths, http.path, includesPath, unknown) &&
    holds(fields.hosts, fields.notHosts, http.host, includesHost, unknown)
  )
}

function holds<Patterns>(
  wanted: Patterns | undefined,
  unwanted: Patterns | undefined,
  value: string,
  isIn: (patterns: Patterns, value: string) => boolean,
  unknown: boolean,
): boolean {
  if (wanted === undefined && unwanted === undefined) return true
  if (value === '') return unknown
  return (wanted === undefined || isIn(wanted, value)) && (unwanted === undefined || !isIn(unwanted, value))
}

export const compilePaths = (patterns: readonly StringMatch[]): PathSet => ({
  strings: compileStrings(patterns.filter(pattern => !isPathTemplate(pattern))),
  templates: patterns.filter(isPathTemplate).map(compileTemplate),
})

export function includesPath({ strings, templates }: PathSet, path: string): boolean {
  if (includes(strings, path)) return true
  for (const template of templates) if (template.test(path)) return true
  return false
}

/** The scheme of every request that the gate reads is http (RFC 9110, section 4.2.1). */
const DEFAULT_PORT = 80
const WITH_PORT = /:([0-9]+|\*)$/

function compileHosts(patterns: readonly StringMatch[]): HostSet {
  const lower = patterns.map(pattern => pattern.toLowerCase())
  return {
    named: compileStrings(lower.filter(pattern => !WITH_PORT.test(pattern))),
    withPort: compileStrings(lower.filter(pattern => WITH_PORT.test(pattern))),
  }
}

/** Compared without regard to case (RFC 9110, section 4.2.3) and to the dot that ends a fully qualified name. */
function includesHost({ named, withPort }: HostSet, host: string): boolean {
  const lower = host.toLowerCase()
  const colon = lower.endsWith(']') ? -1 : lower.lastIndexOf(':')
  const written = colon === -1 ? lower : lower.slice(0, colon)
  const name = written.endsWith('.') ? written.slice(0, -1) : written
  if (includes(named, name)) return true
  const port = colon === -1 || colon === lower.length - 1 ? DEFAULT_PORT : Number(lower.slice(colon + 1))
  return includes(withPort, `${name}:${port}`)
}
