// `postern partners`: whom the mesh meets from outside, how fresh their bundles are, and why the last answer of an endpoint was
// not taken. Needs no right but to read ConfigMaps of the injector's namespace.
import type { V1ConfigMap, V1ConfigMapList } from '@kubernetes/client-node'
import { duration } from '../../shared/duration.ts'
import { asPosternError } from '../../shared/errors.ts'
import { conflictAmong } from '../../shared/federation/conflicts.ts'
import { type FetchedBundle, parseFetched } from '../../shared/federation/fetched.ts'
import { parseFederation } from '../../shared/federation/parse.ts'
import { isKubeError, type Kube } from '../../shared/kube/rest.ts'
import {
  FEDERATION_LABEL,
  PARTNERS_CONFIGMAP,
  SYSTEM_NAMESPACE,
  TRUST_CONFIGMAP,
} from '../../shared/names.ts'
import { describeProblem } from '../../shared/policy/document.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { type Command, UsageError } from '../command.ts'
import type { Output } from '../output.ts'

export type PartnerView = {
  readonly trustDomain: string
  readonly configMap: string
  /** The endpoint's URL, or `inline`. */
  readonly source: string
  readonly roots: readonly { readonly fingerprint: string; readonly notAfter: string }[]
} & Omit<FetchedBundle, 'url' | 'roots'>

export type PartnersView = {
  readonly partners: readonly PartnerView[]
  readonly clients: readonly {
    readonly name: string
    readonly configMap: string
    readonly namespace: string
    readonly ports: readonly number[]
    readonly principals: number
  }[]
  /** Of ConfigMaps that cannot be read (what is in force of them, if anything, is what they were before), and contradictions. */
  readonly problems: readonly string[]
}

export const partners: Command = {
  name: 'partners',
  summary: 'Shows the partners, how fresh their bundles are, and what is wrong with them. 1: something is.',
  run: async ({ args, kube, out, signal }) => {
    if (args.length > 0) throw new UsageError(`partners takes no argument ${args[0]}`)
    const view = await readPartners(await kube(), signal)
    if (out.json) out.document(view)
    else show(out, view, Date.now())
    const isBad = view.partners.some(({ roots, failure }) => roots.length === 0 || failure !== undefined)
    return isBad || view.problems.length > 0 ? 1 : 0
  },
}

const PATH = `/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps`

async function readPartners(kube: Kube, signal: AbortSignal): Promise<PartnersView> {
  const query = new URLSearchParams({ labelSelector: `${FEDERATION_LABEL}=true` })
  const { items } = await kube.get<V1ConfigMapList>(`${PATH}?${query}`, signal)
  const named = (name: string) =>
    kube.get<V1ConfigMap>(`${PATH}/${name}`, signal).catch((thrown: unknown) => {
      if (isKubeError(thrown, 404)) return undefined
      throw thrown
    })
  const own = (await named(TRUST_CONFIGMAP))?.data?.['trust-domain'] ?? ''
  return viewOf(items, (await named(PARTNERS_CONFIGMAP))?.data ?? {}, own)
}

export function viewOf(
  configMaps: readonly V1ConfigMap[],
  fetched: Readonly<Record<string, string>>,
  ownTrustDomain: string,
): PartnersView {
  const read = configMaps.map(configMap => ({
    configMap: configMap.metadata?.name ?? '',
    parsed: parseFederation({ data: configMap.data, binaryData: configMap.binaryData }, ownTrustDomain),
  }))
  const documents = read.flatMap(({ configMap, parsed }) =>
    parsed.kind === 'valid' ? parsed.documents.map(document => ({ configMap, document })) : [],
  )
  const written = readFetched(fetched)
  const conflict = conflictAmong(documents.map(({ document }) => document))
  return {
    partners: documents.flatMap(({ configMap, document }) => {
      if (document.kind !== 'TrustDomain') return []
      const { trustDomain, source } = document
      if (source.kind === 'inline')
        return [{ trustDomain, configMap, source: 'inline', roots: source.roots.map(shown) }]
      const { roots = [], url: _, ...rest } = written.bundles.get(trustDomain) ?? {}
      return [{ trustDomain, configMap, source: source.url, roots: roots.map(shown), ...rest }]
    }),
    clients: documents.flatMap(({ configMap, document }) => {
      if (document.kind !== 'PartnerClients') return []
      const { namespace, clients } = document
      const { name, ports, principals } = clients
      return [{ name, configMap, namespace, ports, principals: principals.length }]
    }),
    problems: [
      ...read.flatMap(({ configMap, parsed }) =>
        parsed.kind === 'invalid'
          ? parsed.problems.map(problem => `${configMap}: ${describeProblem(problem)}`)
          : [],
      ),
      ...(conflict === undefined ? [] : [conflict]),
      ...written.problems,
    ],
  }
}

/** What somebody spoilt is not what is in force: the injector goes on with what it knows, and writes that anew. */
function readFetched(fetched: Readonly<Record<string, string>>) {
  const bundles = new Map<string, FetchedBundle>()
  const problems: string[] = []
  for (const [trustDomain, json] of Object.entries(fetched))
    try {
      bundles.set(trustDomain, parseFetched(trustDomain, json))
    } catch (thrown) {
      const { message } = asPosternError(thrown, 'PSTN_PARTNER_INVALID')
      problems.push(`${PARTNERS_CONFIGMAP}: ${message}`)
    }
  return { bundles, problems }
}

const shown = (pem: string) => {
  const { fingerprint256, notAfter } = parseCertificate(pem)
  return { fingerprint: fingerprint256, notAfter: notAfter.toISOString() }
}

export function show(out: Output, { partners, clients, problems }: PartnersView, now: number): void {
  if (partners.length > 0)
    out.table(
      ['TRUST DOMAIN', 'AGE', 'SEQUENCE', 'ROOTS', 'ENDS', 'STATUS', 'SOURCE'],
      partners.map(partner => [
        partner.trustDomain,
        ageOf(partner, now),
        partner.sequence ?? '-',
        String(partner.roots.length),
        partner.roots
          .map(({ notAfter }) => notAfter.slice(0, 10))
          .sort()
          .at(-1) ?? '-',
        statusOf(partner),
        partner.source,
      ]),
    )
  else out.line('no partners')
  for (const { trustDomain, failure } of partners)
    if (failure)
      out.line(
        `${trustDomain}: ${failure.code}, ${failure.failures} in a row since ${failure.since}: ${failure.reason}`,
      )
  if (clients.length > 0) {
    out.line('')
    out.table(
      ['PARTNER CLIENTS', 'NAMESPACE', 'PORTS', 'PRINCIPALS'],
      clients.map(({ name, namespace, ports, principals }) => [
        name,
        namespace,
        ports.join(','),
        String(principals),
      ]),
    )
  }
  for (const problem of problems) out.line(`not in force as written: ${problem}`)
}

const ageOf = ({ source, fetchedAt }: PartnerView, now: number): string => {
  if (source === 'inline') return '-'
  return fetchedAt === undefined ? 'never' : duration(Math.max(now - Date.parse(fetchedAt), 0))
}

function statusOf({ roots, failure, source, fetchedAt }: PartnerView): string {
  if (roots.length === 0) return failure || fetchedAt ? 'nobody is trusted' : 'not fetched yet'
  if (source === 'inline') return 'as written'
  return failure ? 'last good' : 'fresh'
}
