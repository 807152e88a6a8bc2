// The bundle format beside the SPIFFE project's own library, in both directions.
import { X509Certificate } from 'node:crypto'
import t from 'tap'
import { readSpiffeBundle, writeSpiffeBundle } from '../../shared/spiffe-bundle.ts'
import { builtBinary } from '../cluster/binaries.ts'
import { testAuthority } from '../support/certificates.ts'
import { run } from '../support/processes.ts'
import { requireGo } from '../support/requirements.ts'

const TRUST_DOMAIN = 'example.org'

type Found = {
  readonly sequence?: string
  readonly refreshHintSeconds: number
  /** Base64 DER. */
  readonly authorities: readonly string[]
  readonly document?: string
}

async function goSpiffe(act: 'read' | 'write', input?: string): Promise<Found> {
  const { code, stdout, stderr } = await run(await builtBinary('spiffe-bundle'), [act, TRUST_DOMAIN], input)
  if (code !== 0) throw new Error(stderr)
  return JSON.parse(stdout) as Found
}

const base64 = (root: string): string => new X509Certificate(root).raw.toString('base64')

t.test('go-spiffe reads what is written here', { skip: requireGo() }, async t => {
  const roots = [await testAuthority(TRUST_DOMAIN), await testAuthority(TRUST_DOMAIN)].map(({ root }) => root)
  for (const bundle of [
    { trustDomain: TRUST_DOMAIN, roots, sequence: 2n ** 64n - 1n, refreshHintSeconds: 300 },
    { trustDomain: TRUST_DOMAIN, roots: roots.slice(0, 1) },
    { trustDomain: TRUST_DOMAIN, roots: [] },
  ]) {
    const found = await goSpiffe('read', writeSpiffeBundle(bundle))
    t.same(found.authorities, bundle.roots.map(base64))
    t.equal(found.sequence, bundle.sequence?.toString())
    t.equal(found.refreshHintSeconds, bundle.refreshHintSeconds ?? 0)
  }
})

t.test(
  'what go-spiffe writes, with every kind of key, is read here as go-spiffe means it',
  { skip: requireGo() },
  async t => {
    const { document = '', authorities } = await goSpiffe('write')
    const { bundle, ignored } = readSpiffeBundle(document, TRUST_DOMAIN)
    t.equal(authorities.length, 4)
    t.same(bundle.roots.map(base64), authorities)
    t.equal(bundle.sequence, 2n ** 64n - 1n)
    t.equal(bundle.refreshHintSeconds, 300)
    t.match(ignored, [/jwt-svid/], 'the authority of JWT-SVIDs is passed over')
    const again = await goSpiffe('read', writeSpiffeBundle(bundle))
    t.same(again.authorities, authorities, 'and go-spiffe reads what is made of it')
  },
)
