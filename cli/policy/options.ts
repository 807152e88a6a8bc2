// What the commands about policies have in common.
import { isNamespaceName } from '../../shared/policy/read-selector.ts'
import { isTrustDomain } from '../../shared/spiffe-id.ts'
import { type CommandContext, type Option, UsageError } from '../command.ts'
import { TRUST_DOMAIN } from './cases.ts'

export const NAMESPACE: Option = {
  type: 'string',
  help: 'the namespace of policies that name none; default',
}

/** @throws UsageError */
export function namespaceOf({ namespace = 'default' }: CommandContext['options']): string {
  if (typeof namespace === 'string' && isNamespaceName(namespace)) return namespace
  throw new UsageError(`--namespace ${String(namespace)} is no name of a namespace`)
}

/** @throws UsageError */
export function trustDomainOf({ 'trust-domain': typed = TRUST_DOMAIN }: CommandContext['options']): string {
  if (typeof typed === 'string' && isTrustDomain(typed)) return typed
  throw new UsageError(`--trust-domain ${String(typed)} is no trust domain`)
}

/** The first where nothing was typed. @throws UsageError */
export function oneOf<T extends string>(
  options: CommandContext['options'],
  name: string,
  allowed: readonly [T, ...T[]],
): T {
  const typed = options[name] ?? allowed[0]
  const found = allowed.find(value => value === typed)
  if (found === undefined) throw new UsageError(`--${name} is ${allowed.join(' or ')}`)
  return found
}
