// One pod for each way in which the selectors of two versions may select pods: what binds a pod is all that a sidecar knows.
import type { PodFacts } from '../../../shared/policy/bind.ts'
import type { PolicyDocument, Selector } from '../../../shared/policy/document.ts'

export type Pods = {
  readonly pods: readonly (PodFacts & { readonly label: string })[]
  readonly complete: boolean
}

/** Of one namespace. */
const MOST_PODS = 64

export function podsOf(documents: readonly PolicyDocument[], systemNamespace: string): Pods {
  const named = new Set(documents.map(({ namespace }) => namespace).filter(name => name !== systemNamespace))
  const others = documents.some(({ namespace }) => namespace === systemNamespace) ? [other(named)] : []
  const perNamespace = [...[...named].sort(), ...others].map(namespace => {
    const near = documents.filter(one => one.namespace === namespace || one.namespace === systemNamespace)
    const selectors = near.map(({ selector }) => selector).filter(one => one !== undefined)
    const { labels, complete } = closed(selectors)
    const place = named.has(namespace) ? namespace : 'any other namespace'
    const pods = labels.map(one => ({ namespace, labels: one, label: `pods of ${place}${textOf(one)}` }))
    return { pods, complete }
  })
  return {
    pods: perNamespace.flatMap(({ pods }) => pods),
    complete: perNamespace.every(({ complete }) => complete),
  }
}

/** Every union of selectors that contradict each other nowhere: what a pod may be selected by at once. */
function closed(selectors: readonly Selector[]): {
  readonly labels: readonly Selector[]
  readonly complete: boolean
} {
  const all = new Map<string, Selector>([['', {}]])
  for (const selector of selectors)
    for (const labels of [...all.values()]) {
      const agrees = Object.entries(selector).every(([key, value]) => (labels[key] ?? value) === value)
      if (!agrees) continue
      const union = { ...labels, ...selector }
      all.set(textOf(union), union)
      if (all.size > MOST_PODS) return { labels: [...all.values()], complete: false }
    }
  return { labels: [...all.values()], complete: true }
}

const textOf = (labels: Selector): string => {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${value}`)
  return pairs.length === 0 ? '' : ` with ${pairs.sort().join(',')}`
}

function other(taken: ReadonlySet<string>): string {
  let name = 'other'
  while (taken.has(name)) name += 'x'
  return name
}
