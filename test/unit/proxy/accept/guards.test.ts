import t from 'tap'
import {
  checkInboundDestination,
  checkOutboundDestination,
  isStartupProbe,
  parseAuthority,
} from '../../../../proxy/accept/guards.ts'
import { PORTS } from '../../../../shared/ports.ts'

const POD_IPS = ['10.244.1.7', 'fd00:10:244::7']
const OWN_PORTS = Object.values(PORTS)

t.test('inbound: the application’s ports on each address of the pod are fine', async t => {
  for (const address of POD_IPS)
    for (const port of [1, 80, 15_000, 65_535])
      t.doesNotThrow(() => checkInboundDestination({ address, port }, POD_IPS))
})

t.test('inbound: whatever is not an address of this pod is refused', async t => {
  for (const address of [
    '10.244.1.8',
    '127.0.0.1',
    '::1',
    '0.0.0.0',
    '::',
    '169.254.169.254',
    'fd00:10:244::8',
    '',
  ])
    t.throws(() => checkInboundDestination({ address, port: 80 }, POD_IPS), {
      code: 'PSTN_DESTINATION_NOT_LOCAL',
    })
})

t.test('inbound: our own ports are refused on each address of the pod', async t => {
  for (const address of POD_IPS)
    for (const port of OWN_PORTS)
      t.throws(() => checkInboundDestination({ address, port }, POD_IPS), { code: 'PSTN_OWN_PORT' })
})

t.test('the start-up probe is its port on an address of the pod, and nothing else', async t => {
  for (const address of POD_IPS) t.ok(isStartupProbe({ address, port: PORTS.startup }, POD_IPS))
  t.notOk(isStartupProbe({ address: '10.244.1.8', port: PORTS.startup }, POD_IPS))
  t.notOk(isStartupProbe({ address: '10.244.1.7', port: PORTS.status }, POD_IPS))
})

t.test('outbound: a dial of our own listeners is a loop', async t => {
  for (const address of ['127.0.0.1', '127.1.2.3', '0.0.0.0', '::1', '::', ...POD_IPS])
    for (const port of OWN_PORTS)
      t.throws(() => checkOutboundDestination({ address, port }, POD_IPS), { code: 'PSTN_LOOP' })
})

t.test('outbound: other ports, and other hosts on our ports, are not ours to refuse', async t => {
  t.doesNotThrow(() => checkOutboundDestination({ address: '127.0.0.1', port: 80 }, POD_IPS))
  t.doesNotThrow(() => checkOutboundDestination({ address: '10.244.1.8', port: PORTS.tunnel }, POD_IPS))
})

t.test('an authority is a canonical IP and a port', async t => {
  t.strictSame(parseAuthority('1.2.3.4:80'), { address: '1.2.3.4', port: 80 })
  t.strictSame(parseAuthority('[2001:db8::1]:65535'), { address: '2001:db8::1', port: 65_535 })
})

const MALFORMED = [
  '',
  ':80',
  '1.2.3.4',
  '1.2.3.4:',
  '1.2.3.4:0',
  '1.2.3.4:080',
  '1.2.3.4:65536',
  '1.2.3.4:80 ',
  ' 1.2.3.4:80',
  '1.2.3.4:80\n',
  '1.2.3.4:+80',
  '01.2.3.4:80',
  '1.2.3:80',
  '0x7f.1:80',
  '2130706433:80',
  '[1.2.3.4]:80',
  'localhost:80',
  'web.shop.svc:80',
  'user@1.2.3.4:80',
  '2001:db8::1:80',
  '[2001:DB8::1]:80',
  '[2001:db8:0::1]:80',
  '[2001:db8::0001]:80',
  '[::ffff:1.2.3.4]:80',
  '[::ffff:102:304]:80',
  '[fe80::1%eth0]:80',
  '[::1:80',
  `${'1'.repeat(100_000)}:80`,
]
for (const authority of MALFORMED) {
  t.test(`the authority ${JSON.stringify(authority.slice(0, 40))} is refused`, async t => {
    t.throws(() => parseAuthority(authority), { code: 'PSTN_TUNNEL_MALFORMED' })
  })
}
