// What one rule is after compilation, and who a caller is to it.
import type { CompiledHttp } from './http-match.ts'
import type { Decision, SourceMatch } from './model.ts'
import type { StringSet } from './string-set.ts'

/** A peer whose certificate was verified. `own` is absent for peers of other trust domains, and for what is no workload. */
export type KnownCaller = {
  /** The SPIFFE ID without its scheme, as policies write it. */
  readonly principal: string
  readonly trustDomain: string
  /** Of another trust domain than ours. */
  readonly isForeign: boolean
  /** The workload, if it belongs to our trust domain. */
  readonly own?: {
    readonly namespace: string /** `<namespace>/<service account>` */
    readonly account: string
  }
}

export type CompiledSource = { readonly [K in keyof SourceMatch]: StringSet }

export type CompiledOperation = {
  readonly ports?: ReadonlySet<number>
  readonly notPorts?: ReadonlySet<number>
  readonly http?: CompiledHttp | undefined
}

export type CompiledRule = {
  readonly from?: readonly CompiledSource[]
  readonly to?: readonly CompiledOperation[]
  readonly decision: Decision
}
