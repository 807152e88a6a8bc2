import pino from 'pino'
import t from 'tap'
import type { CertFilesEvent } from '../../../../proxy/cert-files/events.ts'
import { observeCertFiles } from '../../../../proxy/observe/cert-files.ts'
import { createProxyMetrics } from '../../../../proxy/observe/metrics.ts'
import { PosternError } from '../../../../shared/errors.ts'
import { createRegistry } from '../../../../shared/metrics.ts'

const NOT_AFTER = new Date('2026-11-22T10:00:00Z')
const leaf = { serial: 'ab12', notAfter: NOT_AFTER }
const directory = '..2026_11_22_09_00_00.abcdef'

function observed(...events: CertFilesEvent[]) {
  const lines: Record<string, unknown>[] = []
  const registry = createRegistry()
  const log = pino({}, { write: line => lines.push(JSON.parse(line)) })
  const observe = observeCertFiles(log, createProxyMetrics(registry))
  for (const event of events) observe(event)
  const metrics = registry
    .render()
    .split('\n')
    .filter(line => line.startsWith('postern_cert_files_'))
  return { lines, metrics }
}

t.test('files that are written say until when they are good', async t => {
  const { lines, metrics } = observed({ kind: 'written', directory, leaf, roots: 2 })
  t.match(lines, [
    {
      msg: 'certificate files written',
      serial: 'ab12',
      notAfter: NOT_AFTER.toISOString(),
      roots: 2,
      directory,
    },
  ])
  t.same(metrics, [
    `postern_cert_files_expiry_timestamp_seconds ${NOT_AFTER.getTime() / 1000}`,
    'postern_cert_files_writes_total{outcome="written"} 1',
  ])
})

t.test('files that are found count as no write; without a certificate they are good until never', async t => {
  const { lines, metrics } = observed({ kind: 'found', directory, roots: 1 })
  t.match(lines, [{ msg: 'certificate files found', roots: 1 }])
  t.same(metrics, ['postern_cert_files_expiry_timestamp_seconds 0'])
})

t.test('what cannot be written is an error, with its code', async t => {
  const error = new PosternError('PSTN_CERT_FILES_UNWRITTEN', 'ENOSPC')
  const { lines, metrics } = observed({ kind: 'unwritten', error, failures: 2, retryMs: 750 })
  t.match(lines, [
    {
      level: 50,
      msg: 'certificate files not written',
      code: error.code,
      error: 'ENOSPC',
      failures: 2,
      retryMs: 750,
    },
  ])
  t.same(metrics, ['postern_cert_files_writes_total{outcome="PSTN_CERT_FILES_UNWRITTEN"} 1'])
})

const failed = (retryMs?: number): CertFilesEvent => ({
  kind: 'hook-failed',
  error: new PosternError('PSTN_CERT_HOOK_FAILED', 'it answered with 500'),
  attempt: 1,
  ...(retryMs !== undefined && { retryMs }),
})

t.test('a hook is pending until it has answered', async t => {
  t.match(observed({ kind: 'hook-due' }, failed(750)).metrics, [
    'postern_cert_files_hook_calls_total{outcome="PSTN_CERT_HOOK_FAILED"} 1',
    'postern_cert_files_hook_pending 1',
  ])
  t.match(observed({ kind: 'hook-due' }, { kind: 'hook-answered', attempt: 2, tookMs: 5 }).metrics, [
    'postern_cert_files_hook_calls_total{outcome="answered"} 1',
    'postern_cert_files_hook_pending 0',
  ])
})

t.test('a failure of the hook is a warning while it is asked again, and then an error', async t => {
  const msg = 'certificate files hook failed'
  t.match(observed(failed(750)).lines, [{ level: 40, msg, attempt: 1, retryMs: 750 }])
  const [last] = observed(failed()).lines
  t.match(last, { level: 50, msg, code: 'PSTN_CERT_HOOK_FAILED' })
  t.notHas(last, { retryMs: 0 })
})
