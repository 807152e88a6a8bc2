// The contract on the in-memory API server of the demo.
import t from 'tap'
import { startEmbeddedCluster } from '../../embedded/cluster/server.ts'
import { connectKube } from '../../shared/kube/rest.ts'
import { contract } from './suite.ts'

await using cluster = await startEmbeddedCluster()
const { url: server, access, store } = cluster
using admin = connectKube({ server, token: access.adminToken })

await t.test('the embedded cluster', t =>
  contract(t, {
    admin,
    asPod: async (namespace, pod) => {
      const bound = pod && store.get('pods', namespace, pod.name)
      return connectKube({ server, token: access.issueToken(namespace, 'web', bound) })
    },
  }),
)
