// Says how partners stand where people look for it: the log, metrics, and Events on the ConfigMaps of their documents.
import type { Clock } from '../../shared/clock.ts'
import type { TrustDomainDocument } from '../../shared/federation/document.ts'
import type { FetchedBundle } from '../../shared/federation/fetched.ts'
import type { Kube } from '../../shared/kube/rest.ts'
import { failure, type Logger } from '../../shared/log.ts'
import type { Registry } from '../../shared/metrics.ts'
import { SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { type WarningEvent, warningEvent } from '../directory/warning-event.ts'
import { type FederationRecord, type Named, trustDomainsIn } from './documents.ts'
import type { Answer } from './judge.ts'
import type { RefreshContext } from './refresh.ts'
import type { Federation } from './watch.ts'

export type FederationReporter = {
  readonly kube: Kube
  readonly clock: Clock
  readonly log: Logger
  readonly signal: AbortSignal
  readonly registry: Registry
  /** Of all replicas the leader alone writes Events. */
  readonly leads: () => boolean
}

/** A miss or two is what a refresh interval is for. */
const TELL_AFTER_FAILURES = 3

export function reportFederation(
  reporter: FederationReporter,
  federation: Federation,
): RefreshContext['onAnswer'] {
  federationMetrics(reporter.registry, federation)
  federation.records.subscribe(documentReporter(reporter))
  federation.partners.subscribe(partners => {
    const known = partners.map(({ trustDomain, roots }) => ({ trustDomain, roots: roots.length }))
    reporter.log.info({ partners: known }, 'partners in force')
  })
  return answerReporter(reporter)
}

function federationMetrics(registry: Registry, { records, fetched, partners }: Federation): void {
  registry.gauge(
    'postern_partner_last_success_timestamp_seconds',
    'When a partner’s bundle endpoint last confirmed its bundle, seconds since the epoch; 0: never. Not for bundles written as text.',
    ['trust_domain'],
    gauge => {
      for (const { document } of trustDomainsIn(records.get())) {
        const { trustDomain: trust_domain, source } = document
        if (source.kind === 'inline') continue
        const at = Date.parse(fetched.get().get(trust_domain)?.fetchedAt ?? '')
        gauge.set({ trust_domain }, Number.isNaN(at) ? 0 : at / 1000)
      }
    },
  )
  registry.gauge(
    'postern_partner_expiry_timestamp_seconds',
    'When the last root of a partner’s bundle ends, seconds since the epoch. Absent while there is none.',
    ['trust_domain'],
    gauge => {
      for (const { trustDomain: trust_domain, roots } of partners.get())
        if (roots.length > 0) gauge.set({ trust_domain }, lastEnd(roots) / 1000)
    },
  )
  registry.gauge(
    'postern_federation_invalid',
    'Federation ConfigMaps whose present version is not in force, by what is.',
    ['config_map', 'in_force'],
    gauge => {
      for (const { name, problems, inForce } of records.get())
        if (problems.length > 0) gauge.set({ config_map: name, in_force: inForce }, 1)
    },
  )
}

const lastEnd = (roots: readonly string[]): number =>
  Math.max(...roots.map(root => parseCertificate(root).notAfter.getTime()))

/** Reports each set of problems once. */
function documentReporter(reporter: FederationReporter) {
  const reported = new Map<string, string>()
  return (records: readonly FederationRecord[]): void => {
    for (const { name, problems, inForce } of records) {
      const text = problems.join('\n')
      if (text !== '' && reported.get(name) !== text) {
        const told = { code: 'PSTN_FEDERATION_INVALID', configMap: name, inForce, problems }
        reporter.log.error(told, 'federation is invalid')
        const consequence = inForce === 'last good' ? 'the last good version stays' : 'it names nobody'
        const message = `PSTN_FEDERATION_INVALID: ${problems.join('. ')} (${consequence})`
        write(reporter, warning(name, 'FederationInvalid', message, reporter.clock.now()))
      }
      reported.set(name, text)
    }
  }
}

function answerReporter(reporter: FederationReporter): RefreshContext['onAnswer'] {
  const { registry, log, clock } = reporter
  const failures = registry.counter(
    'postern_partner_fetch_failures_total',
    'Answers of partners’ bundle endpoints that were not taken, by code: on the leader.',
    ['trust_domain', 'code'],
  )
  return ({ configMap, document }: Named<TrustDomainDocument>, answer: Answer, now: FetchedBundle) => {
    const { trustDomain } = document
    const { failure: failed, roots, sequence } = now
    if (!failed) {
      log.debug({ trustDomain, roots: roots.length, sequence }, 'partner bundle fetched')
      return
    }
    const { code, reason, failures: count } = failed
    failures.inc({ trust_domain: trustDomain, code })
    const line = { code, error: reason, trustDomain, failures: count, answered: answer.kind }
    if (count === 1 || count === TELL_AFTER_FAILURES) log.warn(line, 'partner bundle not taken')
    else log.debug(line, 'partner bundle not taken')
    if (count !== TELL_AFTER_FAILURES) return
    const consequence = roots.length > 0 ? 'the last good bundle stays' : 'nobody of it is trusted'
    const message = `${code}: ${trustDomain}: ${reason} (${consequence})`
    write(reporter, warning(configMap, 'PartnerBundleNotTaken', message, clock.now()))
  }
}

const warning = (configMap: string, reason: string, message: string, now: number): WarningEvent =>
  warningEvent({ kind: 'ConfigMap', namespace: SYSTEM_NAMESPACE, name: configMap }, reason, message, now)

function write({ kube, log, signal, leads }: FederationReporter, event: WarningEvent): void {
  if (!leads()) return
  kube
    .create(`/api/v1/namespaces/${SYSTEM_NAMESPACE}/events`, event, signal)
    .catch(error => log.debug(failure(error, 'PSTN_API_UNAVAILABLE'), 'event not written'))
}
