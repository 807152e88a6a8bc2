// What `postern partners` says of documents and of what was fetched.
import t, { type Test } from 'tap'
import { createOutput } from '../../../../cli/output.ts'
import { type PartnersView, partners, show, viewOf } from '../../../../cli/partners/list.ts'
import { writeFetched } from '../../../../shared/federation/fetched.ts'
import { writeSpiffeBundle } from '../../../../shared/spiffe-bundle.ts'
import { testAuthority } from '../../../support/certificates.ts'

const west = await testAuthority('west.example')
const NOW = Date.now()
const ago = (seconds: number) => new Date(NOW - seconds * 1000).toISOString()
const configMap = (name: string, text: string) => ({ metadata: { name }, data: { 'a.yaml': text } })
const named = (domain: string, bundle = `endpoint: {url: "https://${domain}/bundle.json"}`) =>
  configMap(
    domain.replace('.', '-'),
    `apiVersion: federation.postern.dev/v1\nkind: TrustDomain\nmetadata: {name: ${domain}}\nspec:\n  trustDomain: ${domain}\n  bundle:\n    ${bundle}\n`,
  )
const failure = { code: 'PSTN_PARTNER_UNREACHABLE', reason: 'it answered 503', since: ago(90), failures: 4 }
const fetched = writeFetched({
  url: 'https://west.example/bundle.json',
  roots: [west.root],
  sequence: '7',
  fetchedAt: ago(125),
  failure,
})

const shown = (view: PartnersView): string => {
  let text = ''
  show(createOutput({ out: line => (text += line), err: () => undefined }, false), view, NOW)
  return text
}
const say = (t: Test, view: PartnersView, ...says: RegExp[]) => {
  const text = shown(view)
  for (const pattern of says) t.match(text, pattern)
}

t.test('a partner with its age, sequence, roots and what is wrong', async t => {
  const view = viewOf(
    [named('west.example'), named('north.example')],
    { 'west.example': fetched },
    'east.example',
  )
  say(
    t,
    view,
    /^west\.example +2 min 5 s +7 +1 +\d{4}-\d\d-\d\d +last good +https:\/\/west\.example\/bundle\.json$/m,
    /^north\.example +never +- +0 +- +not fetched yet/m,
    /^west\.example: PSTN_PARTNER_UNREACHABLE, 4 in a row since .*: it answered 503$/m,
  )
})

t.test('an entry that somebody spoilt is named, and hides no other partner', async t => {
  const spoilt = { 'west.example': fetched, 'north.example': '{"url": "x", "roots": ["y"]}' }
  say(
    t,
    viewOf([named('west.example'), named('north.example')], spoilt, 'east.example'),
    /^west\.example .*last good/m,
    /^not in force as written: postern-partners: north\.example\.roots\[0\]: must be a certificate$/m,
  )
})

t.test('a bundle that is written, partner clients, and nothing', async t => {
  const jwks = `jwks: '${writeSpiffeBundle(west.bundle).replaceAll('\n', '')}'`
  say(
    t,
    viewOf([named('west.example', jwks)], {}, 'east.example'),
    /west\.example +- +- +1 .* as written +inline/,
  )
  say(t, viewOf([], {}, 'east.example'), /^no partners$/m)
})

t.test('what cannot be read, and what contradicts', async t => {
  const view = viewOf(
    [
      configMap('bad', 'kind: Nothing'),
      named('west.example'),
      { ...named('west.example'), metadata: { name: 'b' } },
    ],
    {},
    'east.example',
  )
  say(
    t,
    view,
    /not in force as written: bad: a\.yaml:1:1/,
    /not in force as written: TrustDomain west\.example is written twice/,
  )
})

t.test('the command is found by its name', async t => {
  t.equal(partners.name, 'partners')
})
