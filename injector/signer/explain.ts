// Says in words how a request differs from the one its pod may make. The decision to deny is made before, by comparing
// bytes; a full parser is used only here, where a wrong answer would cost an explanation and nothing else.
import 'reflect-metadata'
import {
  ExtensionsAttribute,
  Pkcs10CertificateRequest,
  SubjectAlternativeNameExtension,
} from '@peculiar/x509'
import type { SpiffeId } from '../../shared/spiffe-id.ts'
import type { Csr } from '../../shared/x509/csr.ts'
import { OID } from '../../shared/x509/oids.ts'

const EXTENSION_NAMES: Readonly<Record<string, string>> = {
  [OID.basicConstraints]: 'basicConstraints',
  [OID.keyUsage]: 'keyUsage',
  [OID.extKeyUsage]: 'extKeyUsage',
  [OID.nameConstraints]: 'nameConstraints',
}

const MAX_LENGTH = 512

/** One line: what is there that must not be, or what is missing. */
export function explainDifference({ der }: Csr, identity: SpiffeId): string {
  const permitted = `the request must hold the URI SAN ${identity} and nothing else`
  const found = differences(der, identity)
  const detail = found.length > 0 ? asciiOf(found.join('; ')) : 'its encoding is not the canonical one'
  return `${permitted}: ${detail}`.slice(0, MAX_LENGTH)
}

/** What a forger wrote ends up on an operator's terminal: escape sequences, reversed text and letters that look like others stay text. */
const asciiOf = (found: string): string =>
  found.replaceAll(/[^ -~]/gu, character => `\\u{${character.codePointAt(0)?.toString(16)}}`)

function differences(der: Buffer, identity: SpiffeId): string[] {
  try {
    const request = new Pkcs10CertificateRequest(new Uint8Array(der))
    const subject = request.subject === '' ? [] : [`it has the subject ${request.subject}`]
    const attributes = request.attributes
      .filter(attribute => !(attribute instanceof ExtensionsAttribute))
      .map(({ type }) => `it has the attribute ${type}`)
    const extensions = request.extensions
      .filter(extension => extension.type !== OID.subjectAltName)
      .map(({ type }) => `it has the extension ${EXTENSION_NAMES[type] ?? type}`)
    return [...subject, ...attributes, ...extensions, ...nameDifferences(request, identity)]
  } catch {
    return ['it cannot be read']
  }
}

function nameDifferences(request: Pkcs10CertificateRequest, identity: SpiffeId): string[] {
  const sans = request.extensions.filter(extension => extension instanceof SubjectAlternativeNameExtension)
  const names = sans.flatMap(({ names: { items } }) => items)
  const isOwn = ({ type, value }: { type: string; value: string }) => type === 'url' && value === identity
  const own = names.filter(isOwn)
  return [
    ...(own.length === 0 ? ['it lacks that URI SAN'] : []),
    ...(own.length > 1 || sans.length > 1 ? ['it has a SAN twice'] : []),
    ...names.filter(name => !isOwn(name)).map(({ type, value }) => `it has the SAN ${type}:${value}`),
  ]
}
