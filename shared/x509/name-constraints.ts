// Which names may stand below a CA (RFC 5280, 4.2.1.10; SPIFFE X.509-SVID, section 4.2), as OpenSSL reads it: a chain
// that a peer's OpenSSL would refuse is of no use to the sidecar that was given it. URI constraints see the host alone,
// for an SVID its trust domain: `cluster.local`, never `spiffe://…`.
import type { Certificate } from './certificate.ts'
import { contextTag, DerError, type DerValue, der, readInside, TAG } from './der.ts'

/** A GeneralName's kinds that a constraint here is understood for. */
const URI = contextTag(6)
const DNS = contextTag(2)
const DIRECTORY = contextTag(4, true)
const EMPTY_NAME = der(TAG.sequence)

/** The first name of `certificate` that the constraints of a CA above it do not allow, or undefined. */
export function forbiddenName(ca: Certificate, certificate: Certificate): string | undefined {
  if (!ca.nameConstraints) return undefined
  const constraints = readConstraints(ca.nameConstraints)
  if (!constraints) return 'any name: they cannot be read'
  const { permitted, excluded } = constraints
  const within = (kind: number, test: (base: string) => boolean) => {
    const bases = (subtrees: readonly Subtree[]) => subtrees.filter(subtree => subtree.kind === kind)
    const allowed = bases(permitted)
    const permits = allowed.length === 0 || allowed.some(({ base }) => test(base))
    return permits && !bases(excluded).some(({ base }) => test(base))
  }
  const { uriSans, dnsSans, subject } = certificate
  const uri = uriSans.find(name => !within(URI, base => uriIsWithin(name, base)))
  if (uri !== undefined) return `URI ${uri}`
  const dns = dnsSans.find(name => !within(DNS, base => dnsIsWithin(name, base)))
  if (dns !== undefined) return `DNS ${dns}`
  // Nothing here compares directory names: what cannot be judged is not allowed.
  const named = [...permitted, ...excluded].some(({ kind }) => kind === DIRECTORY)
  return named && !subject.equals(EMPTY_NAME) ? 'its subject' : undefined
}

type Subtree = { readonly kind: number; readonly base: string }

function readConstraints(value: DerValue): { permitted: Subtree[]; excluded: Subtree[] } | undefined {
  try {
    const lists = readInside(value, TAG.sequence)
    const subtrees = (number: number): Subtree[] => {
      const list = lists.find(({ tag }) => tag === contextTag(number, true))
      return list ? readInside(list, list.tag).map(readSubtree) : []
    }
    return { permitted: subtrees(0), excluded: subtrees(1) }
  } catch {
    return undefined
  }
}

function readSubtree(value: DerValue): Subtree {
  const [base, ...bounds] = readInside(value, TAG.sequence)
  if (!base) throw new DerError('a name constraint without a name')
  if (bounds.length > 0) throw new DerError('a name constraint with a minimum or maximum')
  return { kind: base.tag, base: base.content.toString('latin1').toLowerCase() }
}

function uriIsWithin(uri: string, base: string): boolean {
  const [, host = ''] = /^[^:]+:\/\/([^/:]*)/.exec(uri.toLowerCase()) ?? []
  return base.startsWith('.')
    ? host.length > base.length && host.endsWith(base)
    : host === base && host !== ''
}

function dnsIsWithin(name: string, base: string): boolean {
  const host = name.toLowerCase()
  if (base === '' || host === base) return true
  return host.endsWith(base.startsWith('.') ? base : `.${base}`)
}
