import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { V1Pod, V1Volume } from '@kubernetes/client-node'
import t, { type Test } from 'tap'
import { findPod } from '../../../../cli/certs/subject.ts'
import { connectKube } from '../../../../shared/kube/rest.ts'

/** What an API server that has this one pod says of it to whoever would revoke it. */
async function found(t: Test, settings: object, volumes: V1Volume[]) {
  const env = [{ name: 'POSTERN_CONFIG', value: JSON.stringify(settings) }]
  const pod: V1Pod = {
    metadata: { uid: 'u' },
    spec: { containers: [], initContainers: [{ name: 'postern-proxy', env }], volumes },
  }
  const server = createServer((_, response) => response.end(JSON.stringify(pod))).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  using kube = connectKube({ server: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })
  return findPod(kube, { kind: 'pod', namespace: 'shop', name: 'web' }, new AbortController().signal)
}

const volume = (signerName: string): V1Volume => ({
  name: 'v',
  projected: { sources: [{ podCertificate: { signerName, keyType: 'ECDSAP256' } }] },
})
const files = { certificateSource: { kind: 'files', key: 'a', chain: 'a' } }

t.test('certificates of the built-in signer name their pod, in volumes too', async t => {
  t.same(await found(t, {}, []), { uid: 'u', unnamed: undefined })
  t.same(await found(t, files, [volume('postern.dev/workload')]), { uid: 'u', unnamed: undefined })
})

t.test('certificates of others do not', async t => {
  t.match(await found(t, { signerName: 'other.example/mesh' }, []), { unnamed: /signed by other/ })
  t.match(await found(t, files, []), { unnamed: /do not come from the API server/ })
  t.match(await found(t, files, [volume('other.example/mesh')]), { unnamed: /do not come from/ })
})
