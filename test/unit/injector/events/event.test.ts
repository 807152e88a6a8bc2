import t from 'tap'
import { eventOn, writeEvent } from '../../../../injector/events/event.ts'
import { type Kube, KubeError } from '../../../../shared/kube/rest.ts'
import { createLogger } from '../../../../shared/log.ts'

const event = eventOn(
  { kind: 'Service', namespace: 'shop', name: 'web' },
  { type: 'Warning', reason: 'ProtocolDisputed', message: 'why', now: 0 },
)

/** Written to an API server that answers with `status`. */
async function written(status: number) {
  const paths: string[] = []
  const create = async (path: string, body: unknown) => {
    paths.push(path)
    if (status >= 400) throw new KubeError(status, '', '')
    return body
  }
  const kube = { create } as unknown as Kube
  const context = { kube, log: createLogger('test', 'error'), signal: new AbortController().signal }
  return { isThere: await writeEvent(context, event), paths }
}

t.test('an Event is written into the namespace of what it is about', async t => {
  t.same(await written(201), { isThere: true, paths: ['/api/v1/namespaces/shop/events'] })
})

t.test('one that another replica has written is there', async t => {
  t.match(await written(409), { isThere: true })
})

t.test('one that the API server does not take is not, and nothing fails', async t => {
  t.match(await written(403), { isThere: false })
})
