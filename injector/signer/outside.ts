// What differs where another signer than ours signs for workloads (docs/signers.md): it takes our approval at its word, and
// signs for as long as the request asks. So what our own signer would shorten is denied.
import { WORKLOAD_SIGNER } from '../../shared/names.ts'
import { RULES, type Rule } from './rules.ts'

export const isOurs = (signerName: string): boolean => signerName === WORKLOAD_SIGNER

export type OutsideSettings = { readonly signerName: string; readonly maxLeafLifetimeSeconds: number }

/** The approver's rules for requests to that signer. */
export const rulesFor = ({ signerName, maxLeafLifetimeSeconds: max }: OutsideSettings): readonly Rule[] =>
  isOurs(signerName) ? RULES : [...RULES, lifetimeWithin(max)]

const lifetimeWithin = (maxSeconds: number): Rule => ({
  name: 'lifetime',
  broken: ({ object: { spec } }) => {
    const { expirationSeconds: asked } = spec
    if (asked !== undefined && asked <= maxSeconds) return undefined
    const found = asked === undefined ? 'it asks for none' : `it asks for ${asked}`
    return `expirationSeconds must be at most ${maxSeconds} (maxLeafLifetimeSeconds), since another signs: ${found}`
  },
})
