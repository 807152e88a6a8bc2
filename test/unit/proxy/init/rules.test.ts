// That the rules do what they say is tested by real connections (test/netns); here, what options make of the text.
import t from 'tap'
import { applyRules, likelyCause } from '../../../../proxy/init/apply.ts'
import { proofTargets } from '../../../../proxy/init/proof.ts'
import { type RuleOptions, rules } from '../../../../proxy/init/rules.ts'

const DEFAULTS: RuleOptions = {
  skipInboundPorts: [],
  skipOutboundPorts: [],
  skipOutboundCidrs: [],
  udp: 'allow',
}
const textOf = (options: Partial<RuleOptions>) => rules({ ...DEFAULTS, ...options })

t.test('the default rules are these', async t => {
  t.equal(
    rules(DEFAULTS),
    `add table inet postern
delete table inet postern
table inet postern {
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "lo" return
    fib daddr type != local return
    tcp dport { 15008, 15020 } return
    meta l4proto tcp redirect to :15006
  }
  chain output {
    type nat hook output priority -100; policy accept;
    meta skuid 15008 return
    oifname "lo" return
    ip daddr 127.0.0.0/8 return
    ip6 daddr ::1 return
    meta l4proto tcp redirect to :15001
  }
}
`,
  )
})

t.test('skipped inbound ports join our own, once each and in order', async t => {
  t.match(textOf({ skipInboundPorts: [22, 9100, 22, 15008] }), '{ 22, 9100, 15008, 15020 } return')
})

t.test('the start-up port is never exempt by itself: its redirect is the proof', async t => {
  t.notMatch(rules(DEFAULTS), '15021')
})

t.test('each skipped prefix is matched in its own family', async t => {
  const text = textOf({ skipOutboundCidrs: ['10.0.0.0/8', '2001:db8::/32'] })
  t.match(text, '    ip daddr 10.0.0.0/8 return\n    ip6 daddr 2001:db8::/32 return\n')
})

t.test('blocked UDP has chains of its own and leaves the capture of TCP as it is', async t => {
  const blocked = textOf({ udp: 'block' })
  t.ok(blocked.startsWith(rules(DEFAULTS).slice(0, -'}\n'.length)))
  t.match(blocked, 'udp dport 53 return\n    meta l4proto { udp, udplite, sctp, dccp } drop')
})

const INVALID: Record<string, Partial<RuleOptions>> = {
  'port 0': { skipInboundPorts: [0] },
  'a port beyond 65535': { skipOutboundPorts: [65_536] },
  'a fraction': { skipOutboundPorts: [1.5] },
  'no number': { skipOutboundPorts: [Number.NaN] },
  'an address without prefix length': { skipOutboundCidrs: ['10.0.0.1'] },
  'a prefix length beyond the family': { skipOutboundCidrs: ['10.0.0.0/33'] },
  'a rule smuggled in as a prefix': { skipOutboundCidrs: ['10.0.0.0/8 return; flush ruleset'] },
  'a newline behind a prefix': { skipOutboundCidrs: ['10.0.0.0/8\n'] },
}
for (const [name, options] of Object.entries(INVALID)) {
  t.test(`${name} is refused, not written`, async t => {
    t.throws(() => textOf(options), { code: 'PSTN_CONFIG_INVALID' })
  })
}

t.test('the proof dials one address a family that the options do not skip', async t => {
  const targets = (options: Partial<RuleOptions>) => proofTargets({ ...DEFAULTS, ...options })
  t.strictSame(targets({}), [
    { address: '192.0.2.1', port: 1 },
    { address: '2001:db8::1', port: 1 },
  ])
  t.strictSame(
    targets({ skipOutboundPorts: [1, 2, 4], skipOutboundCidrs: ['192.0.0.0/16', '2001:db8::/48'] }),
    [
      { address: '198.51.100.1', port: 3 },
      { address: '2001:db8:ffff::1', port: 3 },
    ],
  )
  t.strictSame(targets({ skipOutboundCidrs: ['0.0.0.0/0', '::/0'] }), [])
})

const HINTS: [stderr: string, hint: RegExp][] = [
  ['Operation not permitted (you must be root)', /NET_ADMIN/],
  ['netlink: Error: cache initialization failed: Operation not permitted', /NET_ADMIN/],
  ['Error: Could not process rule: Operation not supported', /nf_tables/],
  ['Unable to initialize Netlink socket: Protocol not supported', /nf_tables/],
  ['Error: Could not process rule: No such file or directory', /nft_fib_inet/],
  ['Error: syntax error', /nft\(8\)/],
]
for (const [stderr, hint] of HINTS) {
  t.test(`“${stderr}” is explained`, async t => {
    t.match(likelyCause(stderr), hint)
  })
}

t.test('an image without nft is refused by name', async t => {
  await t.rejects(applyRules('', '/nowhere/nft'), {
    code: 'PSTN_INTERCEPTION',
    message: /nowhere\/nft cannot be started: is nftables in the image/,
  })
})

t.test('an nft that fails without reading is refused with its status', async t => {
  await t.rejects(applyRules('x'.repeat(1e6), 'false'), {
    code: 'PSTN_INTERCEPTION',
    message: /nft exited 1/,
  })
})
