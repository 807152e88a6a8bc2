// Brings one of our containers back to its template without undoing what the API server filled in or what other
// admission plugins added after us: LimitRanger checks the limits that it set, ServiceAccount mounts a token.
import type { V1Container, V1ResourceRequirements } from '@kubernetes/client-node'

/** The template's fields win; what it says nothing of is kept only in the places named here. */
export function reconcile(present: V1Container | undefined, template: V1Container): V1Container {
  if (!present) return template
  const { terminationMessagePath, terminationMessagePolicy } = present
  return {
    ...template,
    ...(terminationMessagePath !== undefined && { terminationMessagePath }),
    ...(terminationMessagePolicy !== undefined && { terminationMessagePolicy }),
    resources: resources(present.resources ?? {}, template.resources ?? {}),
    env: withAdded(template.env, present.env, ({ name }) => name),
    volumeMounts: withAdded(template.volumeMounts, present.volumeMounts, ({ mountPath }) => mountPath),
  }
}

function resources(
  present: V1ResourceRequirements,
  template: V1ResourceRequirements,
): V1ResourceRequirements {
  return {
    requests: { ...present.requests, ...template.requests },
    limits: { ...present.limits, ...template.limits },
  }
}

/** The template's elements, then those that somebody added. */
function withAdded<T>(template: T[] = [], present: T[] = [], keyOf: (element: T) => string): T[] {
  const keys = template.map(keyOf)
  return [...template, ...present.filter(element => !keys.includes(keyOf(element)))]
}
