// Who asks for what, from options of the command line: the same as a case of `policy test`.
import { createReader, pathText } from '../../shared/policy/reader.ts'
import { type CommandContext, type Option, UsageError } from '../command.ts'
import { type Call, readCall } from './cases.ts'

export const CALL_OPTIONS: Readonly<Record<string, Option>> = {
  from: { type: 'string', help: 'who calls: <namespace>/<service account>, spiffe://…, or plaintext' },
  address: { type: 'string', help: 'where the connection comes from; 192.0.2.1' },
  port: { type: 'string', help: 'the port of the application' },
  method: { type: 'string', help: 'of a request; without method, path, host and headers: opaque bytes' },
  path: { type: 'string', help: 'of a request' },
  host: { type: 'string', help: 'of a request' },
  header: { type: 'string', multiple: true, help: '<name>=<value> of a request; may be repeated' },
  claim: {
    type: 'string',
    multiple: true,
    help: '<name>=<value> of the token that it carries; may be repeated',
  },
}

type Options = CommandContext['options']

/** @throws UsageError */
export function callOf(options: Options, trustDomain: string): Call {
  const problems: string[] = []
  const reader = createReader((path, reason, hint) => {
    problems.push(`--${optionAt(pathText(path))} ${reason}; ${hint}`)
  })
  const request = requestOf(options)
  const fields = {
    from: { value: callerOf(options), path: ['from'] },
    port: { value: options.port, path: ['port'] },
    request: request && { value: request, path: ['request'] },
  }
  const call = readCall(reader, fields, trustDomain)
  if (call === undefined) throw new UsageError(problems.join('\n'))
  return call
}

const optionAt = (path: string): string =>
  path
    .replace(/^request\./, '')
    .replace(/^from\.(serviceAccount|principal|plaintext)$/, 'from')
    .replace(/^from\./, '')

function callerOf({ from, address }: Options): object | undefined {
  if (typeof from !== 'string') return undefined
  const known = from.startsWith('spiffe://') ? { principal: from } : { serviceAccount: from }
  const caller = from === 'plaintext' ? { plaintext: true } : known
  return { ...caller, ...(address !== undefined && { address }) }
}

function requestOf({ method, path, host, header, claim }: Options): object | undefined {
  const headers = header === undefined ? undefined : pairs('header', header)
  const request = {
    ...(method !== undefined && { method }),
    ...(path !== undefined && { path }),
    ...(host !== undefined && { host }),
    ...(headers && { headers }),
    ...(claim !== undefined && { claims: pairs('claim', claim) }),
  }
  return Object.keys(request).length > 0 ? request : undefined
}

/** `<name>=<value>`, each as often as it was typed. @throws UsageError */
export function pairs(option: string, typed: Options[string] = []): Readonly<Record<string, string>> {
  const words = (Array.isArray(typed) ? typed : [typed]).map(String)
  return Object.fromEntries(
    words.map(word => {
      const [, name, value] = /^([^=]+)=(.*)$/s.exec(word) ?? []
      if (name === undefined || value === undefined)
        throw new UsageError(`--${option} ${word} is not <name>=<value>`)
      return [name, value]
    }),
  )
}
