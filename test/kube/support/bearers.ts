// Tokens that no API server may take for the pod's.
import { setTimeout as delay } from 'node:timers/promises'
import type { V1Pod } from '@kubernetes/client-node'
import type { ApiServer } from '../../support/api-server.ts'
import type { Bearer } from '../../vectors/csr/refused-elsewhere.ts'
import type { Anybody } from './as-anybody.ts'
import { createPod } from './signer-cluster.ts'

const ACCOUNT = '/api/v1/namespaces/shop/serviceaccounts/cart/token'
/** The API server hears of a deleted pod by its own watch. */
const WATCH_LAG_MS = 500

export async function bearerOf(server: ApiServer, bearer: Bearer): Promise<Parameters<Anybody['create']>[2]> {
  switch (bearer) {
    case 'nothing':
      return 'nobody'
    case 'a token of a pod that is gone': {
      const pod = await createPod(server.kube, 'gone')
      const token = await tokenOf(server, pod)
      await server.kube.delete('/api/v1/namespaces/shop/pods/gone', { gracePeriodSeconds: 0 })
      await delay(WATCH_LAG_MS)
      return { token }
    }
    case 'a token for another audience':
      return { token: await tokenFor(server, ['example.com']) }
    case 'a token with another signature': {
      const [header, claims, signature = ''] = (await tokenFor(server, [])).split('.')
      const reversed = [...signature].reverse().join('')
      return { token: [header, claims, reversed].join('.') }
    }
    case 'a token whose claims were changed': {
      const [header, claims = '', signature] = (await tokenFor(server, [])).split('.')
      const changed = Buffer.from(claims, 'base64url').toString().replaceAll('cart', 'admin')
      return { token: [header, Buffer.from(changed).toString('base64url'), signature].join('.') }
    }
  }
}

const tokenOf = (server: ApiServer, { metadata }: V1Pod): Promise<string> =>
  server.tokenFor('shop', 'cart', { pod: { name: metadata?.name ?? '', uid: metadata?.uid ?? '' } })

async function tokenFor({ kube }: ApiServer, audiences: readonly string[]): Promise<string> {
  const { status } = await kube.create<{ spec: object; status?: { token: string } }>(ACCOUNT, {
    spec: { audiences, expirationSeconds: 3600 },
  })
  if (!status) throw new Error('no token')
  return status.token
}
