import { constants } from 'node:crypto'
import { once } from 'node:events'
import { rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { connectKube } from '../../../../shared/kube/rest.ts'
import { testAuthority } from '../../../support/certificates.ts'

const former = await testAuthority('former')
const next = await testAuthority('next')
const serving = async (authority: typeof former) => {
  const { key, chain } = await authority.issue({ dns: ['localhost'] })
  // Without tickets: a resumed session shows no certificate.
  return { key, cert: chain, secureOptions: constants.SSL_OP_NO_TICKET }
}

t.test('the roots of the API server are read anew, as the kubelet rewrites them', async t => {
  const file = join(t.testdir({ 'ca.crt': former.root }), 'ca.crt')
  const server = createServer(await serving(former), (request, response) =>
    response.end(JSON.stringify({ authorization: request.headers.authorization })),
  )
  await once(server.listen(0), 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  using kube = connectKube({
    server: `https://localhost:${(server.address() as AddressInfo).port}`,
    caFile: file,
    token: 'x',
  })
  t.same(await kube.get('/'), { authorization: 'Bearer x' })

  server.setSecureContext(await serving(next))
  server.closeAllConnections()
  // Until the client has seen it: a kept connection that just closed would be tried first.
  await delay(50)
  await t.rejects(
    kube.get('/'),
    { code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' },
    'a root that is not in the file',
  )
  await writeFile(file, former.root + next.root)
  t.same(await kube.get('/'), { authorization: 'Bearer x' })
  await writeFile(file, former.root)
  await t.rejects(
    kube.get('/'),
    { code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' },
    'a root that was removed, although a connection to it is open',
  )
  await rm(file)
  await t.rejects(kube.get('/'), { code: 'ENOENT' })
})
