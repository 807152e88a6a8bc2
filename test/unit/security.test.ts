// Attacks of docs/security.md on what reads and what is shown to people: texts of others in paths, logs and terminals.
import { closeSync, mkdtempSync, openSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { formatTable } from '../../cli/output.ts'
import { parseAdmissionReview } from '../../injector/webhook/admission.ts'
import { decodeFromSidecar } from '../../shared/control/decode.ts'
import { decodeSidecarReport } from '../../shared/control/sidecar-report.ts'
import { createLineWriter, createLogger, flushed } from '../../shared/log.ts'
import { LogOutput } from '../../shared/log-output.ts'
import { withRequest } from './injector/webhook/reviews.ts'

/** Clears a terminal, in seven bits and in eight; turns text around; ends a line in three ways. */
const HOSTILE = 'a\u001b[2Jb\u009b2Jc\u202ed\u2066e\u0085f\u2028g\nh'
const NOT_SHOWN = /(?!\n)[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/u

t.test(
  'whoever finds the webhook’s port cannot lead the injector to another path of the API server',
  async t => {
    t.equal(parseAdmissionReview(withRequest({ namespace: 'shop' })).namespace, 'shop')
    for (const namespace of [
      '..',
      '../pods',
      'shop/pods',
      'shop?x=',
      'shop%2f..',
      'Shop',
      'a'.repeat(64),
      '-',
    ])
      t.throws(
        () => parseAdmissionReview(withRequest({ namespace })),
        { code: 'PSTN_ADMISSION_MALFORMED', message: /no name of a namespace/ },
        namespace,
      )
  },
)

t.test('what peers wrote stays on its line of the log, and is no command for a terminal', async t => {
  const path = join(mkdtempSync(join(tmpdir(), 'postern-log-')), 'log')
  const fd = openSync(path, 'a')
  t.teardown(() => closeSync(fd))
  const log = createLogger('proxy', 'info', {}, new LogOutput({ fd }))
  const texts = { error: HOSTILE, harmless: 'ünïcode' }
  log.warn(texts, 'review refused')
  createLineWriter(log, 'info', 'connection')(texts)
  await flushed(log)
  const written = readFileSync(path, 'utf8')
  t.notMatch(written, NOT_SHOWN)
  const lines = written.split('\n').slice(0, -1)
  t.equal(lines.length, 2)
  for (const line of lines) t.match(JSON.parse(line), texts, 'and nothing of it is lost')
})

t.test('what a sidecar says of itself is no command for the terminal of whoever reads it', async t => {
  const status = (since: string) =>
    decodeFromSidecar(
      JSON.stringify({
        kind: 'status',
        stateVersion: 1,
        roots: [],
        renewal: { failures: 3, code: 'PSTN_CSR_DENIED', since, retrySeconds: 1 },
      }),
    )
  t.match(status('2030-01-01T12:00:00.000Z'), { kind: 'status' })
  const accepted = 'Jan 1 2030 (\u001b[2J)'
  t.ok(Date.parse(accepted), 'which Date.parse takes')
  t.throws(() => status(accepted), { code: 'PSTN_CONTROL_MALFORMED', message: /since/ })
  const report = { podUid: 'u', pod: 'p', namespace: 'n', version: '1', replica: 'r', roots: [] }
  t.throws(() => decodeSidecarReport({ ...report, connectedSince: accepted }, 'report'), /connectedSince/)
  const shown = formatTable([['NAME'], [HOSTILE]])
  t.notMatch(shown, NOT_SHOWN)
  t.equal(shown.split('\n').length, 3, 'and its row is one line')
})
