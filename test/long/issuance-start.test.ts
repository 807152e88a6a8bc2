// How long a pod's sidecar takes from the start of its process to its certificate, and to all that readiness needs, one pod
// after another on an idle mesh. Times are told (docs/performance.md), not judged.
import t from 'tap'
import type { LogLine, RunningPod } from '../support/namespace-kubelet.ts'
import { startMesh } from '../support/netns-mesh.ts'
import { requireApiServer, requireNetns } from '../support/requirements.ts'

const PODS = Number(process.env.POSTERN_PODS ?? 30)

const said = (pod: RunningPod, msg: string): Promise<LogLine> => pod.line(line => line.msg === msg)
const timeOf = ({ time }: LogLine): number => Date.parse(String(time))

t.test(`${PODS} pods start, one after another`, { skip: requireNetns() || requireApiServer() }, async t => {
  await using stack = new AsyncDisposableStack()
  const mesh = await startMesh(t, stack)
  const times: { asked: number; certificate: number; ready: number }[] = []
  for (let index = 0; index < PODS; index++) {
    const pod = await mesh.start(`pod-${index}`)
    const starting = timeOf(await said(pod, 'starting'))
    const issued = await said(pod, 'certificate issued')
    const applied = timeOf(await said(pod, 'state applied'))
    times.push({
      asked: Number(issued.tookMs),
      certificate: timeOf(issued) - starting,
      ready: applied - starting,
    })
  }
  t.equal(times.filter(({ ready }) => ready > 0).length, PODS, 'each has a certificate and a policy')
  for (const what of ['asked', 'certificate', 'ready'] as const) {
    const sorted = times.map(one => one[what]).sort((a, b) => a - b)
    const [p50, p99] = [0.5, 0.99].map(share => sorted[Math.floor(sorted.length * share)])
    t.comment(`${what}: p50 ${p50} ms, p99 ${p99} ms`)
  }
})
