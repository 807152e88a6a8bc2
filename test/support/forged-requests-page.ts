// The page docs/forged-requests.md, made from the corpus: `node test/support/forged-requests-page.ts > docs/forged-requests.md`.
import { decide } from '../../injector/signer/approve.ts'
import { RULES } from '../../injector/signer/rules.ts'
import { revocationCheck } from '../../shared/revocation.ts'
import { approved, ignored } from '../vectors/csr/accepted.ts'
import { forgedAnswers } from '../vectors/csr/answers.ts'
import { approvedByHand } from '../vectors/csr/approved-by-hand.ts'
import { type Case, type Forgery, LAYERS, NOW, REVOKED, SIGNER, TRUST_DOMAIN } from '../vectors/csr/cases.ts'
import { FORGED, forged } from '../vectors/csr/forged.ts'
import { refusedElsewhere } from '../vectors/csr/refused-elsewhere.ts'
import { inputOf } from './forged-case.ts'

const HEAD = `# Forged requests

What was tried to get a certificate that one should not have, and who refused it. This page is made from \`test/vectors/csr\` (a
test compares them). \`test/unit/injector/signer/approve.test.ts\` gives every forgery to the approver alone, which must deny each of
them; \`test/kube/signer-corpus.test.ts\` sends all of them to a real API server with the manifests of \`deploy/\` installed, in the name of
whoever the case describes, and holds the column “refused by”: the first layer that stopped it. What the admission policy stops is
sent again without the policy, to the approver. Both are also tried with each of their rules removed in turn: some forgery is then judged
otherwise. Who may do anything else with requests: [identities.md](identities.md).
`

const LEFT_OUT = 'not sent: '

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows].map(cells => `| ${cells.join(' | ')} |\n`).join('')

const section = (title: string, text: string, ...rest: Parameters<typeof table>): string =>
  `\n## ${title}\n${text}${text && '\n'}\n${table(...rest)}`

const name = (one: Case): string => (one.unreal ? `${one.name} (${LEFT_OUT}${one.unreal})` : one.name)

const refusedBy = ({ layer, unreal }: Forgery): string => layer ?? (unreal ? '–' : 'approver')

/** How many forgeries each rule is the first to catch, and how many would have a certificate without it. */
function rules(): string[][] {
  const inputs = forged.map(one => ({ one, input: inputOf(one) }))
  const settings = { signerName: SIGNER, trustDomain: TRUST_DOMAIN, revoked: revocationCheck(REVOKED) }
  return RULES.map(rule => {
    const caught = inputs.filter(({ one }) => one.rule === rule.name)
    const others = RULES.filter(other => other !== rule)
    const through = caught.filter(
      ({ input }) => decide(input.object, input.pod, settings, NOW, others).kind === 'approve',
    )
    return [`\`${rule.name}\``, String(caught.length), String(through.length)]
  })
}

export function forgedRequestsPage(): string {
  const forgeries = Object.entries(FORGED).map(([title, cases]) =>
    section(
      title,
      '',
      ['forged', 'rule', 'refused by'],
      cases.map(one => [name(one), `\`${one.rule}\``, refusedBy(one)]),
    ),
  )
  return [
    HEAD,
    section(
      'Layers',
      'In the order in which a request meets them.',
      ['layer', 'who refuses'],
      Object.entries(LAYERS),
    ),
    section(
      'Rules of the approver',
      `The first rule that is broken names the denial. Without a rule, the forgeries of the last column get a certificate; the others of
that rule are caught by a later one.`,
      ['rule', 'forgeries', 'that nothing else catches'],
      rules(),
    ),
    ...forgeries,
    section(
      'Not the approver’s to refuse',
      'Requests that another layer stops, whatever the approver would say.',
      ['request', 'refused by'],
      refusedElsewhere.map(({ name, layer }) => [name, layer]),
    ),
    section(
      'Approved by hand',
      'A person with the right to approve may be fooled, or mean harm: `kubectl certificate approve` asks no approver.',
      ['approved', 'refused by'],
      approvedByHand.map(({ name, layer = 'signer' }) => [name, layer]),
    ),
    section(
      'Forged answers',
      'The API server does not compare a certificate with its request. The sidecar takes none of these.',
      ['answer', 'code', 'refused by'],
      forgedAnswers.map(({ name, code }) => [name, `\`${code}\``, 'sidecar']),
    ),
    section(
      'Odd, and accepted',
      'Each gets a certificate for its own service account’s identity.',
      ['request'],
      approved.map(one => [name(one)]),
    ),
    section(
      'Left to people',
      'Neither approved nor denied: a person decides.',
      ['request'],
      ignored.map(one => [name(one)]),
    ),
  ].join('')
}

if (import.meta.main) process.stdout.write(forgedRequestsPage())
