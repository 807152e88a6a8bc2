// What one rule is after compilation.
import type { CompiledCondition } from './condition.ts'
import type { CompiledHttp } from './http-match.ts'
import type { Decision } from './model.ts'
import type { CompiledSource } from './source-match.ts'

export type CompiledOperation = {
  readonly ports?: ReadonlySet<number>
  readonly notPorts?: ReadonlySet<number>
  readonly http?: CompiledHttp | undefined
}

export type CompiledRule = {
  readonly from?: readonly CompiledSource[]
  readonly to?: readonly CompiledOperation[]
  readonly when?: readonly CompiledCondition[]
  readonly decision: Decision
}
