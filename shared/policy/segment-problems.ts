// What is wrong with a rule that asks for segments of the path: each way in which its operations may match must say which
// segment is meant, or the rule would depend on the pattern that somebody adds later.
import { conditionKey } from './condition-key.ts'
import type { Rule } from './model.ts'
import { namesIn } from './path-template.ts'
import type { Path } from './reader.ts'

type Problem = { readonly at: Path; readonly reason: string; readonly hint: string }

export function segmentProblems({ to, when = [] }: Rule): readonly Problem[] {
  const asked = when.flatMap(({ key }, index) => {
    const known = conditionKey(key)
    return known?.kind === 'segment' ? [{ name: known.name, at: ['when', index, 'key'] }] : []
  })
  const [first] = asked
  if (first === undefined) return (to ?? []).flatMap(namesInNot)
  const hint = `write paths such as /accounts/{${first.name}}, each with every name that is asked for`
  if (to === undefined) return [{ at: first.at, reason: 'the rule has no paths', hint }]
  return to.flatMap((operation, index) => {
    const at: Path = ['to', index, 'operation', 'paths']
    const { paths } = operation
    if (paths === undefined)
      return [{ at: ['to', index, 'operation'], reason: `names no segment ${first.name}`, hint }]
    const unnamed = paths.flatMap((path, place) =>
      asked
        .filter(({ name }) => !namesIn(path).includes(name))
        .map(({ name }) => ({ at: [...at, place], reason: `names no segment ${name}`, hint })),
    )
    return [...unnamed, ...namesInNot(operation, index)]
  })
}

/** What must not match has no segments that anybody could ask for. */
function namesInNot(
  { notPaths = [] }: { readonly notPaths?: readonly string[] },
  index: number,
): readonly Problem[] {
  return notPaths.flatMap((path, place) =>
    namesIn(path).map(name => ({
      at: ['to', index, 'operation', 'notPaths', place],
      reason: `names the segment ${name}, for which nobody can ask`,
      hint: 'write {*}',
    })),
  )
}
