import t from 'tap'
import { withKept } from '../../../../proxy/resolve/kept-state.ts'
import type { State } from '../../../../shared/control/messages.ts'

const state = (more: Partial<State> = {}): State => ({
  kind: 'state',
  version: 1,
  policy: { mode: { inbound: 'permissive', ports: {} }, policies: [], defaultAction: 'allow' },
  trust: [],
  prefixes: [],
  ...more,
})
const requestAuthentication = [{ name: 'shop/users', rules: [], features: [] }]

t.test('an injector that does not speak of tokens lifts nothing; one that says none does', async t => {
  t.same(withKept(state(), state({ requestAuthentication })).requestAuthentication, requestAuthentication)
  t.same(
    withKept(state({ requestAuthentication: [] }), state({ requestAuthentication })).requestAuthentication,
    [],
  )
  t.notOk('requestAuthentication' in withKept(state(), undefined))
})
