// Ports with TLS, for sidecars that know them and for those of before.
import t from 'tap'
import { type FromInjector, KNOWN_FEATURES } from '../../../../shared/control/messages.ts'
import { pod, policies } from '../../../support/cluster-objects.ts'
import { directoryOf, outboxTo } from '../../../support/directory.ts'

const TLS = `apiVersion: policy.postern.dev/v1
kind: PeerAuthentication
metadata: {name: web}
spec: {selector: {matchLabels: {app: web}}, portLevelTls: {"8443": {mode: MUTUAL}, "8444": {mode: SERVER}}}`

t.test('a sidecar that does not know ports with TLS is told that they are strict', async t => {
  const web = pod('web', { ips: ['10.1.0.1'], labels: { app: 'web' } })
  const directory = directoryOf({ web })
  directory.feed({ kind: 'set', resource: 'configmaps', object: policies('web', TLS) })
  const modeFor = (features: readonly string[]) => {
    const sent: FromInjector[] = []
    outboxTo(sent, directory, { features }).refreshState()
    const [state] = sent
    return state?.kind === 'state' ? state.policy.mode : undefined
  }
  const strict = { inbound: 'permissive', ports: { 8443: 'strict', 8444: 'strict' } }
  t.strictSame(modeFor(['l4', 'http', 'protocols']), strict)
  t.strictSame(modeFor(KNOWN_FEATURES), { ...strict, tls: { 8443: 'mutual', 8444: 'server' } })
})
