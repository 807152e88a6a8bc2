// What one rule is after compilation.
import type { CompiledCondition } from './condition.ts'
import type { CompiledOperation } from './http-match.ts'
import type { Decision } from './model.ts'
import type { CompiledResource } from './resource.ts'
import type { CompiledSource } from './source-match.ts'

export type CompiledRule = {
  readonly from?: readonly CompiledSource[]
  readonly to?: readonly CompiledOperation[]
  /** In place of `to`, where conditions ask for segments that its paths name. */
  readonly resource?: CompiledResource
  readonly when?: readonly CompiledCondition[]
  readonly decision: Decision
}
