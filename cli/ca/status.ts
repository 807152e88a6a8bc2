// `postern ca status`: the CA's certificates, and what a rotation of the root waits for. Needs no right but to read one
// ConfigMap.
import { type Command, UsageError } from '../command.ts'
import { readStatus } from './requests.ts'
import { showStatus } from './shown.ts'

export const caStatus: Command = {
  name: 'ca status',
  summary: 'Shows the CA, and what a rotation of its root waits for.',
  run: async ({ args, kube, out, signal }) => {
    if (args.length > 0) throw new UsageError(`ca status takes no argument ${args[0]}`)
    showStatus(out, await readStatus(await kube(), signal))
    return 0
  },
}
