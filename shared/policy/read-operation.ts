// One `to` entry of an AuthorizationPolicy: ports, and what a request is, in Istio's fields.
import type { OperationMatch } from './model.ts'
import { hostPattern, isMethodPattern, pathProblem } from './patterns.ts'
import { type Item, type Reader, readLists } from './reader.ts'

const PORT = 'write a port from 1 to 65535'
const METHOD = 'write a method in capital letters, for example GET, or one * at the beginning or the end'
const HOST = 'write a host, with a port or without, or one * at the beginning or the end of its name'

const GRPC = 'write <package>.<Service>/<Method>, or <package>.<Service>/* for each of its methods'

/** What `grpcMethods` stands for. */
const GRPC_FIELDS = { grpcMethods: 'paths', notGrpcMethods: 'notPaths' } as const

const HTTP_FIELDS = ['hosts', 'notHosts', 'methods', 'notMethods', 'paths', 'notPaths'] as const

export function readOperation(reader: Reader, item: Item): OperationMatch | undefined {
  const port = (entry: Item) => readPort(reader, entry)
  const host = (entry: Item) => {
    const text = reader.text(entry, value => hostPattern(value) !== undefined, HOST)
    return text === undefined ? undefined : hostPattern(text)
  }
  const method = (entry: Item) => reader.text(entry, isMethodPattern, METHOD)
  const path = (entry: Item) => readPath(reader, entry)
  const readers = {
    ports: port,
    notPorts: port,
    hosts: host,
    notHosts: host,
    methods: method,
    notMethods: method,
    paths: path,
    notPaths: path,
    grpcMethods: (entry: Item) => readGrpcMethod(reader, entry),
    notGrpcMethods: (entry: Item) => readGrpcMethod(reader, entry),
  } as const satisfies { [Field in keyof Required<OperationMatch> | keyof typeof GRPC_FIELDS]: unknown }
  const read = readLists(reader, item, readers, [], 'every port')
  return read && asPaths(reader, item, read)
}

/** A method of gRPC is a path (the protocol's PROTOCOL-HTTP2): evaluators know paths alone. */
function asPaths(
  reader: Reader,
  item: Item,
  {
    grpcMethods,
    notGrpcMethods,
    ...operation
  }: OperationMatch & { readonly [F in keyof typeof GRPC_FIELDS]?: readonly string[] },
): OperationMatch {
  for (const [field, lists] of [
    ['grpcMethods', [grpcMethods, operation.paths]],
    ['notGrpcMethods', [notGrpcMethods, operation.notPaths]],
  ] as const)
    if (lists.every(list => list !== undefined))
      reader.report(
        [...item.path, field],
        `a method of gRPC is a path, and ${GRPC_FIELDS[field]} are given too`,
        'write an operation for each',
      )
  return {
    ...operation,
    ...(grpcMethods && { paths: grpcMethods }),
    ...(notGrpcMethods && { notPaths: notGrpcMethods }),
  }
}

const GRPC_METHOD = /^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\/(\*|[A-Za-z_][A-Za-z0-9_]*)$/

function readGrpcMethod(reader: Reader, item: Item): string | undefined {
  const text = reader.text(item, value => GRPC_METHOD.test(value), GRPC)
  return text && `/${text}`
}

/** What of a request only the gate of a declared port can know. */
export const hasHttpField = (operation: OperationMatch): boolean =>
  HTTP_FIELDS.some(field => operation[field] !== undefined)

/** Istio writes ports as strings; both forms mean the same. */
export function readPort(reader: Reader, { value, path }: Item): number | undefined {
  const port = typeof value === 'string' && /^[1-9]\d{0,4}$/.test(value) ? Number(value) : value
  if (typeof port === 'number' && Number.isInteger(port) && port >= 1 && port <= 65_535) return port
  reader.report(path, `${JSON.stringify(value)} is not a port`, PORT)
  return undefined
}

function readPath(reader: Reader, item: Item): string | undefined {
  const text = reader.text(item, value => value !== '', 'write a path')
  const problem = text === undefined ? undefined : pathProblem(text)
  if (problem === undefined) return text
  reader.report(item.path, `${JSON.stringify(text)} ${problem.reason}`, problem.hint)
  return undefined
}
