// What stands around the PKCS#10 request: the object's name, metadata, usages, and the PEM text.

import { csrName } from '../../../shared/names.ts'
import { type Case, type Forgery, metadata, named, OTHER_UID, POD_UID, paddedTo, spec } from './cases.ts'

type Named = Readonly<Record<string, Omit<Case, 'name'> & Pick<Forgery, 'layer'>>>

const refused = (rule: string, because: RegExp, layer: Forgery['layer'], cases: Named): Forgery[] =>
  Object.entries(cases).map(([name, one]) => ({ name, rule, because, ...(layer && { layer }), ...one }))

const names = refused('name', /not postern-<pod uid>-<0 to 7>/, 'admission policy', {
  'a name of another pod': { object: named(csrName(OTHER_UID, 0)) },
  'a name of no pod': { object: named('postern--0') },
  'a ninth name': { object: named(csrName(POD_UID, 8)) },
  'a tenth name, of two digits': { object: named(csrName(POD_UID, 10)) },
  'a slot below zero': { object: named(csrName(POD_UID, -1)) },
  'a slot with a leading zero': { object: named(`postern-${POD_UID}-00`) },
  'a slot in full-width digits': { object: named(`postern-${POD_UID}-０`) },
  'no slot': { object: named(`postern-${POD_UID}`) },
  'a name with more behind it': { object: named(`${csrName(POD_UID, 0)}-0`) },
  'a name with a newline behind it': { object: named(`${csrName(POD_UID, 0)}\n`) },
  'a name with a space behind it': { object: named(`${csrName(POD_UID, 0)} `) },
  'a name in capitals': { object: named(csrName(POD_UID, 0).toUpperCase()) },
  'a name with the Cyrillic о': { object: named(csrName(POD_UID, 0).replace('o', 'о')) },
  'a free name': { object: named(`mine-${POD_UID}`) },
  'a name that the API server chooses': {
    object: metadata({ name: null, generateName: `postern-${POD_UID}-` }),
  },
  'a name that leads out of the path': { object: named('..'), layer: 'API server' },
  'a name that leads into a subresource': {
    object: named(`${csrName(POD_UID, 0)}/approval`),
    layer: 'API server',
  },
})

const owner = { apiVersion: 'v1', kind: 'Pod', name: 'cart-0', uid: OTHER_UID }

const attached = refused('metadata', /must be empty/, 'admission policy', {
  'a label': { object: metadata({ labels: { a: 'b' } }) },
  'a label without a value': { object: metadata({ labels: { a: '' } }) },
  'cert-manager’s annotation that asks for a CA': {
    object: metadata({ annotations: { 'experimental.cert-manager.io/request-is-ca': 'true' } }),
  },
  'cert-manager’s annotation that asks for ten years': {
    object: metadata({ annotations: { 'experimental.cert-manager.io/request-duration': '87600h' } }),
  },
  'cert-manager’s annotations, both': {
    object: metadata({
      annotations: {
        'experimental.cert-manager.io/request-is-ca': 'true',
        'experimental.cert-manager.io/request-duration': '87600h',
      },
    }),
  },
  'an annotation in Unicode': { object: metadata({ annotations: { note: '\u202eofni' } }) },
  '200 KiB of annotations': { object: metadata({ annotations: { a: 'x'.repeat(200 * 1024) } }) },
  '300 KiB of annotations': {
    object: metadata({ annotations: { a: 'x'.repeat(300 * 1024) } }),
    layer: 'API server',
  },
  'an owner': { object: metadata({ ownerReferences: [owner] }) },
  'an owner that is the pod itself, which would delete it with the pod': {
    object: metadata({ ownerReferences: [{ ...owner, uid: POD_UID }] }),
  },
  'a finalizer, which would keep the name': { object: metadata({ finalizers: ['example.com/keep'] }) },
  'a finalizer of Kubernetes’ own': { object: metadata({ finalizers: ['foregroundDeletion'] }) },
})

const usages = (...list: string[]) => ({ object: spec({ usages: list }) })
const ALL = ['digital signature', 'server auth', 'client auth'] as const

const used = refused('usages', /usages must be exactly/, undefined, {
  'a usage that signs certificates': usages(...ALL, 'cert sign'),
  'a usage that signs revocation lists': usages(...ALL, 'crl sign'),
  'a usage that signs programs': usages(...ALL, 'code signing'),
  'any usage': usages(...ALL, 'any'),
  'any usage alone': usages('any'),
  'a usage that encrypts keys': usages(...ALL, 'key encipherment'),
  'a usage too few': usages('digital signature', 'client auth'),
  'a usage twice in the place of another': {
    ...usages('digital signature', 'client auth', 'client auth'),
    layer: 'API server',
  },
  'a usage twice': { ...usages(...ALL, 'client auth'), layer: 'API server' },
  'a usage that nobody knows': { ...usages(...ALL, 'world domination'), layer: 'API server' },
  'a usage in capitals': {
    ...usages('digital signature', 'server auth', 'Client Auth'),
    layer: 'API server',
  },
  'two usages in one': { ...usages('digital signature', 'server auth,client auth'), layer: 'API server' },
  'no usages': { ...usages(), layer: 'API server' },
})

const TOO_LARGE = /larger than 4096 bytes/

/** The policy counts base64, which comes in threes. */
const sizes = [
  ...refused('size', TOO_LARGE, undefined, {
    'one byte more than 4 KiB': { pem: pem => paddedTo(4097, pem) },
    'two bytes more than 4 KiB': { pem: pem => paddedTo(4098, pem) },
  }),
  ...refused('size', TOO_LARGE, 'admission policy', {
    'three bytes more than 4 KiB': { pem: pem => paddedTo(4099, pem) },
    'more than 4 KiB': { pem: pem => pem + '\n'.repeat(4096) },
    'more than 4 KiB of empty lines within the block': {
      pem: pem => paddedTo(8192, pem),
    },
    'a mebibyte of newlines': { pem: pem => pem + '\n'.repeat(1024 * 1024) },
    '4 MiB, more than the API server reads': {
      pem: pem => pem + '\n'.repeat(4 * 1024 * 1024),
      layer: 'API server',
    },
  }),
]

const begin = (text: string) => text.split('\n', 1).join('')
const wrapped = (base64: string) =>
  `-----BEGIN CERTIFICATE REQUEST-----\n${base64}\n-----END CERTIFICATE REQUEST-----\n`

const texts = refused('pkcs10', /not exactly one PEM block/, undefined, {
  'two PEM blocks': { pem: pem => pem + pem },
  'a certificate’s PEM block behind the request': {
    pem: pem => pem + pem.replaceAll('CERTIFICATE REQUEST', 'CERTIFICATE'),
  },
  'an empty PEM block behind the request': { pem: pem => pem + wrapped('') },
  'a private key’s PEM block before the request': {
    pem: pem => `-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n${pem}`,
    layer: 'API server',
  },
  'text behind the PEM block': { pem: pem => `${pem}# me\n` },
  'a space behind the PEM block': { pem: pem => `${pem} ` },
  'a NUL behind the PEM block': { pem: pem => `${pem}\0` },
  'two newlines at the end': { pem: pem => `${pem}\n` },
  'text before the PEM block': { pem: pem => `# me\n${pem}` },
  'a byte order mark': { pem: pem => `\ufeff${pem}`, layer: 'API server' },
  'a header in the PEM block': { pem: pem => pem.replace('\n', '\nProc-Type: 4,ENCRYPTED\n\n') },
  'lines that end in CR and LF': { pem: pem => pem.replaceAll('\n', '\r\n') },
  'a character within the base64 that is none': {
    pem: pem => pem.replace('\nM', '\nM*'),
    layer: 'API server',
  },
  'base64 for URLs': {
    pem: pem =>
      pem.replace(/\n([^-]+)\n-----END/s, (_, body: string) => `\n${body.replace('M', '_')}\n-----END`),
    layer: 'API server',
  },
  'PEM of another label': {
    pem: pem => pem.replaceAll('CERTIFICATE REQUEST', 'NEW CERTIFICATE REQUEST'),
    layer: 'API server',
  },
  'PEM of no end': { pem: pem => pem.slice(0, pem.indexOf('-----END')), layer: 'API server' },
  'PEM of a beginning alone': { pem: begin, layer: 'API server' },
  'no PEM at all': { pem: () => 'hello', layer: 'API server' },
  'bytes in place of PEM': {
    pem: pem => Buffer.from(pem.split('\n').slice(1, -2).join(''), 'base64').toString('latin1'),
    layer: 'API server',
  },
  'nothing at all': { pem: () => '', layer: 'API server' },
})

const empties = refused('pkcs10', /not a PKCS#10 request/, 'API server', {
  'PEM around what is no request': { pem: () => wrapped('MAA=') },
  'PEM around a number': { pem: () => wrapped('AgEA') },
  'PEM around a thousand nested sequences': { pem: () => wrapped(nested(1000).toString('base64')) },
})

function nested(depth: number): Buffer {
  return depth === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x30, 0x80]), nested(depth - 1)])
}

export const forgedObjects: readonly Forgery[] = [
  ...names,
  ...attached,
  ...used,
  ...sizes,
  ...texts,
  ...empties,
]
