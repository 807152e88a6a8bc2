// An explanation as people read it.
import type {
  ExplainedField,
  ExplainedPart,
  ExplainedPolicy,
  ExplainedRule,
} from '../../shared/policy/explain.ts'
import type { Decision } from '../../shared/policy/model.ts'
import type { Output } from '../output.ts'
import type { Answer } from './explained.ts'

export function showExplanation(out: Output, answer: Answer): void {
  const { malformed, explanation, observed, mode, decision, otherwise, path } = answer
  if (malformed) out.line(`denied with ${malformed.code}: ${malformed.reason}`)
  if (!explanation || !decision) return
  const { policies, watched } = explanation
  if (path === undefined)
    out.line('asked as a connection of opaque bytes; --path and its like ask for a request')
  else out.line(`asked as a request for ${path}`)
  if (mode) out.line('the mode refuses it before any policy is asked')
  for (const policy of policies) showPolicy(out, policy, '')
  for (const policy of watched)
    showPolicy(out, policy, policy.action === 'AUDIT' ? '' : ', dry run: decides nothing')
  if (policies.length + watched.length === 0) out.line('no policy selects the pod')
  if (observed?.audit) out.line(`recorded: audit by ${observed.audit.policy}, rule ${observed.audit.rule}`)
  if (observed?.dryRun) out.line(`recorded: the dry runs in force, it would be ${described(observed.dryRun)}`)
  out.line(described(decision))
  if (otherwise) out.line(elsewhere(otherwise, path))
}

/** Which ports speak HTTP is declared elsewhere. */
const elsewhere = (decision: Decision, path: string | undefined): string =>
  path === undefined
    ? 'if the port speaks HTTP, some request of this caller passes: each is decided on'
    : `if the port carries opaque bytes: ${described(decision)}`

function described(decision: Decision): string {
  const { policy, rule } = decision
  const by = policy ? ` by ${policy}${rule === undefined ? '' : `, rule ${rule}`}` : ''
  if (!decision.allow) return `denied with ${decision.code}${by}: ${decision.reason}`
  return policy ? `allowed${by}` : 'allowed: no ALLOW policy selects the pod, and the default is allow'
}

function showPolicy(out: Output, { policy, action, obstacle, rules }: ExplainedPolicy, note: string): void {
  out.line('')
  out.line(`${action} ${policy}${note}`)
  if (obstacle)
    out.line(`  needs ${obstacle}, which this version does not know: it refuses what it may cover`)
  if (rules.length === 0) out.line('  no rules: it matches nothing')
  for (const rule of rules) showRule(out, rule, action)
}

function showRule(out: Output, { rule, matches, from, to, when }: ExplainedRule, action: string): void {
  const parts = [...from, ...to, ...when]
  const empty = matches && parts.length === 0 ? ': it asks for nothing' : ''
  out.line(`  rule ${rule} ${matches ? 'matches' : 'does not match'}${empty}`)
  for (const part of parts) out.line(`    ${partText(part, action)}`)
}

function partText({ at, matches, fields }: ExplainedPart, action: string): string {
  if (!matches)
    return `${at} does not match: ${fields
      .filter(field => !field.matches)
      .map(missText)
      .join('; ')}`
  const unknown = action === 'ALLOW' ? [] : fields.filter(({ found }) => found === undefined)
  if (unknown.length === 0) return `${at} matches`
  return `${at} matches: not known, which never helps: ${unknown.map(({ field }) => field).join(', ')}`
}

const MOST_VALUES = 5

function missText({ field, values, found }: ExplainedField): string {
  const more = values.length > MOST_VALUES ? [`${values.length - MOST_VALUES} more`] : []
  const asked = values.length > 0 ? ` [${[...values.slice(0, MOST_VALUES), ...more].join(', ')}]` : ''
  return `${field}${asked}: ${found === undefined ? 'not known, which never helps' : `the caller’s is ${found}`}`
}
