// The control stream's messages, checked field by field before anything is believed: either end may be another version,
// or not one of ours at all. Unknown kinds and keys are refused, but for those inside a policy's rules: compile()
// turns what it does not know there into a refusal of what the policy covers.
import { canonicalAddress, parseCidr } from '../addresses.ts'
import {
  type Decode,
  extensible,
  integer,
  listOf,
  mapOf,
  object,
  oneOf,
  optional,
  portText,
  refuse,
  tagged,
  text,
} from '../decode.ts'
import { asPosternError, PosternError } from '../errors.ts'
import { decodePartnerClients, decodePartners } from '../federation/model.ts'
import type {
  AuthorizationPolicy,
  Condition,
  EffectiveMode,
  InboundMode,
  OperationMatch,
  PolicySet,
  Rule,
  SourceMatch,
  TlsMode,
} from '../policy/model.ts'
import { decodeOutside } from '../policy/outside-host.ts'
import { decodeRequestAuthentication } from '../policy/request-authentication.ts'
import { decodeProtocols } from '../protocol.ts'
import { decodeRenewal } from '../renewal-order.ts'
import { decodeRevoked } from '../revocation.ts'
import { isTrustDomain, parseSpiffeId } from '../spiffe-id.ts'
import type { TrustBundle } from '../trust-bundle.ts'
import type {
  AddressEntry,
  Addresses,
  Endpoint,
  FailingRenewal,
  FromInjector,
  FromSidecar,
  Hello,
  MeshPod,
  ServiceEntry,
  ServicePort,
  State,
  Status,
  Subscribe,
} from './messages.ts'

/** The longest line that either end reads. */
export const MAX_LINE_BYTES = { fromInjector: 16 * 1024 * 1024, fromSidecar: 1024 * 1024 } as const

/** @throws PosternError PSTN_CONTROL_MALFORMED naming the place and the reason. */
export const decodeFromInjector = (line: string): FromInjector => decodeLine(line, fromInjector)
/** @throws PosternError PSTN_CONTROL_MALFORMED naming the place and the reason. */
export const decodeFromSidecar = (line: string): FromSidecar => decodeLine(line, fromSidecar)
/** For the copy of the last state that a sidecar keeps. @throws PosternError PSTN_CONTROL_MALFORMED */
export const decodeState = (value: unknown): State => wrapped(() => state(value, 'state'))

export const decodeAddresses = (value: unknown): Addresses => wrapped(() => addresses(value, 'addresses'))

const decodeLine = <T>(line: string, decode: Decode<T>): T =>
  wrapped(() => decode(JSON.parse(line), 'message'))

function wrapped<T>(decode: () => T): T {
  try {
    return decode()
  } catch (cause) {
    const { message } = asPosternError(cause, 'PSTN_CONTROL_MALFORMED')
    throw new PosternError('PSTN_CONTROL_MALFORMED', message, { cause })
  }
}

/** What `toISOString` writes. Date.parse alone takes any text in brackets, which would end up on somebody's terminal. */
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/

const name = text(value => value !== '', 'a string that is not empty')
const port = integer(1, 65_535)
const version = (from: 0 | 1) => integer(from, Number.MAX_SAFE_INTEGER)
export const hex = text(value => /^[0-9a-f]{1,128}$/.test(value), 'lower-case hex')
const address = text(value => canonicalAddress(value) === value, 'a canonical IP address')
const cidr = text(value => parseCidr(value) !== undefined, 'a CIDR')
export const time = text(value => TIME.test(value) && !Number.isNaN(Date.parse(value)), 'a time')

/** Replicas tell each other what sidecars say: none may make that long. */
const MAX_ROOTS = 64
const MAX_VERSION = 128

export const fingerprints: Decode<readonly string[]> = (value, where) => {
  const found = listOf(hex)(value, where)
  if (found.length > MAX_ROOTS) throw refuse(where, `must have at most ${MAX_ROOTS} entries`)
  return found
}

export const failingRenewal = object<FailingRenewal>({
  failures: integer(1, Number.MAX_SAFE_INTEGER),
  code: text(value => /^PSTN_[A-Z_]{1,64}$/.test(value), 'a code'),
  since: time,
  retrySeconds: integer(0, 86_400),
})

const spiffeId: Decode<string> = (value, where) => {
  try {
    return parseSpiffeId(name(value, where)).id
  } catch (thrown) {
    throw refuse(where, asPosternError(thrown, 'PSTN_PEER_ID_INVALID').message)
  }
}

const hello = object<Hello>({
  kind: oneOf(['hello']),
  podUid: name,
  version: text(value => value !== '' && value.length <= MAX_VERSION, `1 to ${MAX_VERSION} characters`),
  features: listOf(name),
})

const subscribe = object<Subscribe>({ kind: oneOf(['subscribe']), addresses: listOf(address) })

const status = object<Status>({
  kind: oneOf(['status']),
  stateVersion: version(0),
  roots: fingerprints,
  certificateSerial: optional(hex),
  certificateNotAfter: optional(time),
  certificateReceivedAt: optional(time),
  renewal: optional(failingRenewal),
})

const inboundMode = oneOf<InboundMode>(['strict', 'permissive'])
const tlsMode = oneOf<TlsMode>(['mutual', 'server'])
const strings = optional(listOf(name))
const ports = optional(listOf(port))

const source = extensible<SourceMatch>({
  principals: strings,
  notPrincipals: strings,
  namespaces: strings,
  notNamespaces: strings,
  serviceAccounts: strings,
  notServiceAccounts: strings,
  trustDomains: strings,
  notTrustDomains: strings,
  ipBlocks: optional(listOf(cidr)),
  notIpBlocks: optional(listOf(cidr)),
  requestPrincipals: strings,
  notRequestPrincipals: strings,
})

const operation = extensible<OperationMatch>({
  ports,
  notPorts: ports,
  hosts: strings,
  notHosts: strings,
  methods: strings,
  notMethods: strings,
  paths: strings,
  notPaths: strings,
})

const condition = extensible<Condition>({
  key: name,
  values: strings,
  notValues: strings,
  equals: optional(name),
  notEquals: optional(name),
})

const policy = extensible<AuthorizationPolicy>({
  kind: oneOf(['AuthorizationPolicy']),
  name,
  // Any action: compile() refuses what an unknown one covers.
  action: name as Decode<AuthorizationPolicy['action']>,
  rules: listOf(
    extensible<Rule>({
      from: optional(listOf(source)),
      to: optional(listOf(operation)),
      when: optional(listOf(condition)),
    }),
  ),
  features: listOf(name),
})

const state = object<State>({
  kind: oneOf(['state']),
  version: version(1),
  policy: object<PolicySet>({
    mode: object<EffectiveMode>({
      inbound: inboundMode,
      ports: mapOf(portText, inboundMode),
      tls: optional(mapOf(portText, tlsMode)),
    }),
    policies: listOf(policy),
    watched: optional(listOf(policy)),
    defaultAction: oneOf(['allow', 'deny']),
  }),
  trust: listOf(
    object<TrustBundle>({ trustDomain: text(isTrustDomain, 'a trust domain'), roots: listOf(name) }),
  ),
  prefixes: listOf(cidr),
  protocols: optional(decodeProtocols),
  zone: optional(name),
  revoked: optional(decodeRevoked),
  renew: optional(decodeRenewal),
  retired: optional(fingerprints),
  revokedRoots: optional(fingerprints),
  outside: optional(decodeOutside),
  requestAuthentication: optional(decodeRequestAuthentication),
  partners: optional(decodePartners),
  partnerClients: optional(decodePartnerClients),
})

const meshPod = object<MeshPod>({
  uid: name,
  name,
  namespace: name,
  identity: spiffeId,
  skipInboundPorts: listOf(port),
  zone: optional(name),
})

const endpoint = object<Endpoint>({ address, port, zone: optional(name), mesh: optional(meshPod) })

const entry = tagged<AddressEntry>({
  mesh: object({ kind: oneOf(['mesh']), address, pod: meshPod }),
  plain: object({ kind: oneOf(['plain']), address }),
  service: object<ServiceEntry>({
    kind: oneOf(['service']),
    address,
    service: name,
    ports: listOf(object<ServicePort>({ port, endpoints: listOf(endpoint) })),
    affinitySeconds: optional(integer(1, 86_400)),
  }),
  unknown: object({ kind: oneOf(['unknown']), address }),
  ambiguous: object({ kind: oneOf(['ambiguous']), address, uids: listOf(name) }),
})

const addresses = object<Addresses>({ kind: oneOf(['addresses']), entries: listOf(entry) })

const fromSidecar = tagged<FromSidecar>({ hello, subscribe, status })
const fromInjector = tagged<FromInjector>({ state, addresses })
