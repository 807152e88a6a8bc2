// JSON merge patch (RFC 7396), so that a table of cases can say what differs and nothing else.

type Json = { readonly [key: string]: unknown }

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** `target` with the fields of `patch`; `null` removes one. Neither is changed. What it is then, the caller says. */
export function mergePatch<T>(target: object, patch: Json): T {
  return merge(target, patch) as T
}

function merge(target: object, patch: Json): object {
  const merged: Record<string, unknown> = { ...target }
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key]
    else if (isObject(value)) merged[key] = merge(isObject(merged[key]) ? merged[key] : {}, value)
    else merged[key] = value
  }
  return merged
}
