import t from 'tap'
import { RequestHeaders } from '../../../../shared/policy/request-headers.ts'

const read = (...fields: readonly (readonly [name: string, value: string])[]): RequestHeaders => {
  const headers = new RequestHeaders()
  for (const [name, value] of fields) headers.add(name, value)
  return headers
}

t.test('a header is found by its name in small letters, without the blanks around its value', async t => {
  const headers = read(['X-Role', '  admin '], ['x-empty', ''])
  t.equal(headers.get('x-role'), 'admin')
  t.equal(headers.get('x-empty'), '')
  t.equal(headers.get('x-other'), undefined)
})

t.test('what two readers could take for two things is not known', async t => {
  t.equal(read(['x-role', 'a'], ['X-Role', 'b']).get('x-role'), null, 'twice')
  t.equal(read(['x-role', 'a'], ['X-Role', 'a']).get('x-role'), null, 'twice the same')
  t.equal(read(['x-role', 'a'], ['x_role', 'b']).get('x-role'), null, 'in another spelling too')
  t.equal(read(['x_role', 'b'], ['x-role', 'a']).get('x-role'), null, 'in either order')
  t.equal(read(['x.role', 'b']).get('x-role'), null, 'in another spelling alone')
  t.equal(read(['x_role', 'b']).get('x_role'), 'b', 'control: as it is written')
  t.equal(read(['x-role', 'admin\t']).get('x-role'), null, 'with a tab that some readers take off')
})
