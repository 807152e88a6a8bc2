// What the commands about policies have in common.
import { isNamespaceName } from '../../shared/policy/read-selector.ts'
import { type CommandContext, type Option, UsageError } from '../command.ts'

export const NAMESPACE: Option = {
  type: 'string',
  help: 'the namespace of policies that name none; default',
}

/** @throws UsageError */
export function namespaceOf({ namespace = 'default' }: CommandContext['options']): string {
  if (typeof namespace === 'string' && isNamespaceName(namespace)) return namespace
  throw new UsageError(`--namespace ${String(namespace)} is no name of a namespace`)
}
