// `postern policy validate`: whether policies are what the injector would take, before they are applied.
import { describeProblem, nameOf } from '../../shared/policy/document.ts'
import type { Command } from '../command.ts'
import { readPolicyFiles } from './files.ts'
import { NAMESPACE, namespaceOf } from './options.ts'

export const policyValidate: Command = {
  name: 'policy validate',
  usage: '<file|folder|->…',
  summary:
    'Reads policies from files as the injector would, and says what is wrong with them. 1: something is.',
  options: { namespace: NAMESPACE },
  run: async ({ args, options, out }) => {
    const { documents, problems } = await readPolicyFiles(args, namespaceOf(options))
    const valid = documents.map(document => ({ kind: document.kind, name: nameOf(document) }))
    if (out.json) out.document({ valid, problems })
    else {
      for (const problem of problems) out.line(describeProblem(problem))
      if (problems.length === 0) for (const { kind, name } of valid) out.line(`${kind} ${name}: valid`)
    }
    return problems.length > 0 ? 1 : 0
  },
}
