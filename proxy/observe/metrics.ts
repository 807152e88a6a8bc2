// The sidecar's metrics, all of them, under the names that docs/metrics.md explains (a test compares). Labels take a
// bounded set of values: nothing that a peer sends becomes one.
import type { Registry } from '../../shared/metrics.ts'

export type ProxyMetrics = ReturnType<typeof createProxyMetrics>

export function createProxyMetrics(registry: Registry) {
  return {
    onCollect: registry.onCollect,
    opened: registry.counter(
      'postern_connections_opened_total',
      'Connections that were let through to their destination.',
      ['direction', 'via'],
    ),
    closed: registry.counter(
      'postern_connections_closed_total',
      'Connections let through that have ended: ok, reset by either side, or closed by the sidecar.',
      ['direction', 'via', 'outcome'],
    ),
    open: registry.gauge('postern_connections_open', 'Connections let through that live.', [
      'direction',
      'via',
    ]),
    refused: registry.counter(
      'postern_connections_refused_total',
      'Connections refused or closed by the sidecar, by code (docs/errors.md).',
      ['direction', 'code'],
    ),
    setup: registry.histogram(
      'postern_connection_setup_seconds',
      'From accept until the destination has accepted: decisions, directory, handshakes and dials.',
      ['direction', 'via'],
    ),
    received: registry.counter(
      'postern_bytes_received_total',
      'Bytes passed on to the pod’s own application.',
      ['direction', 'via'],
    ),
    sent: registry.counter('postern_bytes_sent_total', 'Bytes passed on from the pod’s own application.', [
      'direction',
      'via',
    ]),
    plaintextAccepted: registry.counter(
      'postern_plaintext_accepted_total',
      'Plaintext connections that permissive mode let in, by application port: none left means strict is safe.',
      ['port'],
    ),
    requests: registry.histogram(
      'postern_http_request_seconds',
      'Requests on ports declared HTTP, from their head to the end of their answer, by the class of its status.',
      ['protocol', 'status'],
    ),
    requestsRefused: registry.counter(
      'postern_http_requests_refused_total',
      'Requests on ports declared HTTP that the sidecar refused or cut off, by code (docs/errors.md).',
      ['protocol', 'code'],
    ),
    policyWatched: registry.counter(
      'postern_policy_watched_total',
      'Connections and requests that an AUDIT policy matches, or that a dry run would decide otherwise, by policy and what it says.',
      ['policy', 'what'],
    ),
    jwksFetches: registry.counter(
      'postern_jwks_fetches_total',
      'Attempts to fetch the keys of an issuer of tokens, by outcome: fetched, or the code of the failure.',
      ['outcome'],
    ),
    jwksFetched: registry.gauge(
      'postern_jwks_fetched_timestamp_seconds',
      'When the oldest keys of issuers in force were fetched, seconds since the epoch; 0 while some could not be fetched yet.',
    ),
    retries: registry.counter(
      'postern_retries_total',
      'Openings that went on to another endpoint of the same Service, by the code of the one that failed.',
      ['code'],
    ),
    ejections: registry.counter(
      'postern_endpoint_ejections_total',
      'Endpoints of Services taken out of the choice because they could not be opened, by code.',
      ['code'],
    ),
    ejected: registry.gauge(
      'postern_endpoints_ejected',
      'Endpoints of Services that are out of the choice at present.',
    ),
    limits: registry.counter(
      'postern_limits_reached_total',
      'How often a limit refused or dropped something, ended a connection or held a peer back, by limit (docs/corners.md).',
      ['limit'],
    ),
    certificateExpiry: registry.gauge(
      'postern_certificate_expiry_timestamp_seconds',
      'When the sidecar’s present certificate expires, seconds since the epoch.',
    ),
    certificateReceived: registry.gauge(
      'postern_certificate_received_timestamp_seconds',
      'When the sidecar received its present certificate, seconds since the epoch: its life is counted from there.',
    ),
    renewalFailures: registry.gauge(
      'postern_certificate_renewal_failures',
      'Attempts to get a certificate that have failed in a row; 0 after one that did not.',
    ),
    issuance: registry.histogram(
      'postern_certificate_issuance_seconds',
      'From asking for a certificate to having it, where it was asked for.',
      [],
      [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
    ),
    certificateRequests: registry.counter(
      'postern_certificate_requests_total',
      'Attempts to get a certificate, by outcome: issued, taken from another source, or the code of the failure.',
      ['outcome'],
    ),
    certFilesExpiry: registry.gauge(
      'postern_cert_files_expiry_timestamp_seconds',
      'When the certificate that applications have as files expires, seconds since the epoch; 0 if there is none.',
    ),
    certFilesWrites: registry.counter(
      'postern_cert_files_writes_total',
      'Attempts to write the certificate files of applications, by outcome: written, or the code of the failure.',
      ['outcome'],
    ),
    certFilesHookCalls: registry.counter(
      'postern_cert_files_hook_calls_total',
      'Calls of the application’s hook after its certificate files changed, by outcome: answered, or the code of the failure.',
      ['outcome'],
    ),
    certFilesHookPending: registry.gauge(
      'postern_cert_files_hook_pending',
      '1 while the application’s hook has not answered since its certificate files changed.',
    ),
    clockSkew: registry.gauge(
      'postern_clock_skew_seconds',
      'This node’s clock less the API server’s, by the latest answer of the API server.',
    ),
    controlConnected: registry.gauge(
      'postern_control_connected',
      '1 while the control stream to an injector is up; without it the last good state stays in force.',
    ),
    stateVersion: registry.gauge(
      'postern_state_version',
      'Version of the state (policy, trust, prefixes) in force, as the injector numbers it.',
    ),
    build: registry.gauge('postern_build_info', '1, labelled with the version.', ['version']),
  }
}

export const limitCounter =
  (metrics: ProxyMetrics) =>
  (limit: string): void =>
    metrics.limits.inc({ limit })
