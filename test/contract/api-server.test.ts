// The contract on a real etcd and kube-apiserver with the manifests of deploy/.
import t from 'tap'
import { connectKube } from '../../shared/kube/rest.ts'
import { startApiServer } from '../support/api-server.ts'
import { requireApiServer } from '../support/requirements.ts'
import { contract } from './suite.ts'

const skip = requireApiServer()

await t.test('a real API server', { skip, timeout: 600_000 }, async t => {
  await using server = await startApiServer()
  const applied = await server.kubectl(['apply', '-k', 'deploy'])
  t.equal(applied.code, 0, applied.stderr)
  await contract(t, {
    admin: server.kube,
    asPod: async (namespace, pod) =>
      connectKube(server.endpointFor(await server.tokenFor(namespace, 'web', pod && { pod }))),
  })
})
