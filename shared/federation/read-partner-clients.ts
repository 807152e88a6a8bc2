// PartnerClients: which pods and ports callers without SPIFFE may reach, by which CA, and who is who.
import { asPosternError } from '../errors.ts'
import { readPort } from '../policy/read-operation.ts'
import { isNamespaceName, readSelector } from '../policy/read-selector.ts'
import type { Item, Reader } from '../policy/reader.ts'
import { parseSpiffeId } from '../spiffe-id.ts'
import type { PartnerClientsDocument } from './document.ts'
import type { PrincipalEntry } from './model.ts'
import { readCertificates } from './read-trust-domain.ts'

const FIELDS = ['namespace', 'selector', 'ports', 'caBundle', 'principals'] as const

/** Undefined if anything was reported. */
export function readPartnerClients(
  reader: Reader,
  spec: Item,
  { name, ownTrustDomain }: { readonly name: string; readonly ownTrustDomain: string },
): PartnerClientsDocument | undefined {
  const fields = reader.mapping(spec, FIELDS)
  if (fields === undefined) return undefined
  const field = (name: (typeof FIELDS)[number]): Item =>
    fields[name] ?? { value: undefined, path: [...spec.path, name] }
  const namespace = reader.text(field('namespace'), isNamespaceName, 'write the namespace of the pods')
  const selector = fields.selector && readSelector(reader, fields.selector)
  const ports = reader.list(field('ports'), 'name the ports that they may reach', item =>
    readPort(reader, item),
  )
  const roots = readCertificates(reader, field('caBundle'))
  const principals = readPrincipals(reader, field('principals'), ownTrustDomain)
  if (namespace === undefined || !ports || !roots || !principals) return undefined
  return {
    kind: 'PartnerClients',
    namespace,
    ...(selector && { selector }),
    clients: { name, roots, ports, principals },
  }
}

function readPrincipals(reader: Reader, item: Item, own: string): readonly PrincipalEntry[] | undefined {
  const empty = 'whoever is not in this table is refused: name at least one'
  const entries = reader.list(item, empty, entry => readPrincipal(reader, entry, own))
  if (entries === undefined) return undefined
  const subjects = entries.map(({ subject }) => subject)
  const again = subjects.findIndex((subject, index) => subjects.indexOf(subject) < index)
  if (again < 0) return entries
  reader.report(
    [...item.path, again, 'subject'],
    'is written twice',
    'a subject is one principal: keep one entry',
  )
  return undefined
}

function readPrincipal(reader: Reader, item: Item, own: string): PrincipalEntry | undefined {
  const fields = reader.mapping(item, ['subject', 'principal'])
  if (fields === undefined) return undefined
  const missing = (field: string): Item => ({ value: undefined, path: [...item.path, field] })
  const subject = reader.text(fields.subject ?? missing('subject'), isSubject, SUBJECT)
  const principal = readId(reader, fields.principal ?? missing('principal'), own)
  return subject === undefined || principal === undefined ? undefined : { subject, principal }
}

/** RFC 4514, section 3: no blanks between its parts, and what is special escaped. */
const ATTRIBUTE = String.raw`(?:[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)+)=(?![ #])(?:\\.|[^\\,+"<>;])+`
const SUBJECTS = new RegExp(`^${ATTRIBUTE}(?:[,+]${ATTRIBUTE})*$`, 'u')
const isSubject = (text: string): boolean => SUBJECTS.test(text) && !/(?<!\\) $/.test(text)
const SUBJECT =
  'write the subject as `openssl x509 -noout -subject -nameopt RFC2253` shows it, such as CN=batch,O=Partner'

function readId(reader: Reader, item: Item, own: string): string | undefined {
  const hint = `write a SPIFFE ID of a trust domain made for them, such as spiffe://partner-clients.example/batch`
  const text = reader.text(item, () => true, hint)
  if (text === undefined) return undefined
  try {
    const { id, trustDomain } = parseSpiffeId(text)
    if (trustDomain !== own) return id
    reader.report(item.path, `${own} is this mesh’s own trust domain, which its CA vouches for`, hint)
  } catch (thrown) {
    reader.report(item.path, asPosternError(thrown, 'PSTN_PEER_ID_INVALID').message, hint)
  }
  return undefined
}
