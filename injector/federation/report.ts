// Says how partners stand where people look for it: the log, metrics, and Events on the ConfigMaps of their documents.
import type { Clock } from '../../shared/clock.ts'
import { failure } from '../../shared/log.ts'
import type { Registry } from '../../shared/metrics.ts'
import { SYSTEM_NAMESPACE } from '../../shared/names.ts'
import { parseCertificate } from '../../shared/x509/certificate.ts'
import { type EventWriter, eventOn, writeEvent } from '../events/event.ts'
import { type FederationRecord, trustDomainsIn } from './documents.ts'
import type { Told } from './refresh.ts'
import type { Federation } from './watch.ts'

export type FederationReporter = EventWriter & {
  readonly clock: Clock
  readonly registry: Registry
  /** Of all replicas the leader alone writes Events. */
  readonly leads: () => boolean
}

/** A miss or two is what a refresh interval is for. */
const TELL_AFTER_FAILURES = 3

export function reportFederation(reporter: FederationReporter, federation: Federation): Told {
  federationMetrics(reporter.registry, federation)
  federation.records.subscribe(documentReporter(reporter))
  federation.partners.subscribe(partners => {
    const known = partners.map(({ trustDomain, roots }) => ({ trustDomain, roots: roots.length }))
    reporter.log.info({ partners: known }, 'partners in force')
  })
  return { answer: answerReporter(reporter), write: writeReporter(reporter) }
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
        warn(reporter, name, 'FederationInvalid', message)
      }
      reported.set(name, text)
    }
  }
}

function answerReporter(reporter: FederationReporter): Told['answer'] {
  const { registry, log } = reporter
  const failures = registry.counter(
    'postern_partner_fetch_failures_total',
    'Answers of partners’ bundle endpoints that were not taken, by code: on the leader.',
    ['trust_domain', 'code'],
  )
  const changes = registry.counter(
    'postern_partner_changes_total',
    'Changes of a partner’s roots that its endpoint made and that were taken: on the leader. Each goes to every sidecar.',
    ['trust_domain'],
  )
  return ({ configMap, document }, _, now, former) => {
    const { trustDomain } = document
    const { failure: failed, roots, sequence } = now
    if (former && former.roots !== roots) changes.inc({ trust_domain: trustDomain })
    if (!failed) {
      log.debug({ trustDomain, roots: roots.length, sequence }, 'partner bundle fetched')
      return
    }
    const { code, reason, failures: count } = failed
    failures.inc({ trust_domain: trustDomain, code })
    const line = { code, error: reason, trustDomain, failures: count }
    if (count === 1 || count === TELL_AFTER_FAILURES) log.warn(line, 'partner bundle not taken')
    else log.debug(line, 'partner bundle not taken')
    if (count !== TELL_AFTER_FAILURES) return
    const consequence = roots.length > 0 ? 'the last good bundle stays' : 'nobody of it is trusted'
    const message = `${code}: ${trustDomain}: ${reason} (${consequence})`
    warn(reporter, configMap, 'PartnerBundleNotTaken', message)
  }
}

/** All partners are in one ConfigMap: what keeps one of them from being written keeps all. */
function writeReporter({ registry, log }: FederationReporter): Told['write'] {
  const writes = registry.counter(
    'postern_partner_writes_total',
    'Writes of the ConfigMap postern-partners by outcome, written or failed: on the leader. While they fail, no change of a partner’s bundle comes into force.',
    ['outcome'],
  )
  let failures = 0
  return thrown => {
    writes.inc({ outcome: thrown === undefined ? 'written' : 'failed' })
    if (thrown === undefined) {
      if (failures > 0) log.info({ failures }, 'partner bundles kept again')
      failures = 0
      return
    }
    failures += 1
    const line = { ...failure(thrown, 'PSTN_API_UNAVAILABLE'), failures }
    if (failures === 1) log.warn(line, 'partner bundles not kept')
    else log.debug(line, 'partner bundles not kept')
  }
}

function warn(reporter: FederationReporter, configMap: string, reason: string, message: string): void {
  if (!reporter.leads()) return
  const object = { kind: 'ConfigMap', namespace: SYSTEM_NAMESPACE, name: configMap }
  void writeEvent(reporter, eventOn(object, { type: 'Warning', reason, message, now: reporter.clock.now() }))
}
