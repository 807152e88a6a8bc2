// What all files of the tier share: the cluster. It is started before the first of them unless it is up, and removed
// after the last if it was not.
import { requireCluster } from '../support/requirements.ts'
import { attach, down, up } from './cluster.ts'

export async function sharedCluster(): Promise<AsyncDisposable> {
  // A file says itself what it lacks.
  if (lacksSomething()) return { [Symbol.asyncDispose]: async () => {} }
  using before = await attach()
  using _cluster = await up()
  return {
    [Symbol.asyncDispose]: async () => {
      if (!before) await down()
    },
  }
}

function lacksSomething(): boolean {
  try {
    return requireCluster() !== false
  } catch {
    return true
  }
}
