import t from 'tap'
import { beginRefreshAt, issuedStatus } from '../../../../injector/podcertificates/status.ts'

const NOW = Date.parse('2030-01-01T00:00:00.400Z')
const MINUTE = 60_000
const leaf = (minutes: number) => {
  const notBefore = new Date(Date.parse('2030-01-01T00:00:00Z') - 4 * MINUTE)
  return { notBefore, notAfter: new Date(notBefore.getTime() + minutes * MINUTE) }
}
const after = (minutes: number, random: number) =>
  Math.round((beginRefreshAt(leaf(minutes), NOW, random).getTime() - NOW) / MINUTE)

t.test('the kubelet is to begin at a random 33 to 50 % of the time that is left', async t => {
  t.equal(after(24 * 60, 0), 474)
  t.equal(after(24 * 60, 1), 718)
  t.equal(after(60, 0), 18)
  t.equal(after(60, 1), 28)
})

t.test('never within ten minutes of either end, which the API server refuses', async t => {
  for (const minutes of [60, 61, 24 * 60, 91 * 24 * 60])
    for (const random of [0, 0.5, 1]) {
      const { notBefore, notAfter } = leaf(minutes)
      const at = beginRefreshAt(leaf(minutes), NOW, random).getTime()
      t.ok(at >= notBefore.getTime() + 10 * MINUTE && at <= notAfter.getTime() - 10 * MINUTE)
    }
  const late = beginRefreshAt(leaf(60), NOW + 50 * MINUTE, 1).getTime()
  t.equal(late, leaf(60).notAfter.getTime() - 10 * MINUTE)
})

t.test('times are written in whole seconds, as the API server compares them', async t => {
  const status = issuedStatus({ ...leaf(60), chain: 'PEM', serial: '0a' }, 'spiffe://a/ns/b/sa/c', NOW, 0)
  t.match(status, {
    notBefore: '2029-12-31T23:56:00Z',
    notAfter: '2030-01-01T00:56:00Z',
    beginRefreshAt: '2030-01-01T00:18:29Z',
    certificateChain: 'PEM',
    conditions: [
      {
        type: 'Issued',
        status: 'True',
        reason: 'PosternIssued',
        message: 'identity spiffe://a/ns/b/sa/c, serial 0a',
        lastTransitionTime: '2030-01-01T00:00:00Z',
      },
    ],
  })
})
