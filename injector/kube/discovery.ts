// Which version of an API that not every API server has is there: asked again and again, since an upgrade may bring one
// and a flag may take it away.
import { isKubeError, type Kube } from '../../shared/kube/rest.ts'

type ApiResourceList = { readonly resources?: readonly { readonly name: string }[] }

/** The first of `versions` in which the resource is served; undefined: in none. */
export async function servedVersion<V extends string>(
  kube: Kube,
  { group, resource, versions }: { group: string; resource: string; versions: readonly V[] },
  signal: AbortSignal,
): Promise<V | undefined> {
  for (const version of versions) {
    const list = await unlessMissing(kube.get<ApiResourceList>(`/apis/${group}/${version}`, signal))
    if (list?.resources?.some(({ name }) => name === resource)) return version
  }
  return undefined
}

export const unlessMissing = <T>(found: Promise<T>): Promise<T | undefined> =>
  found.catch(thrown => {
    if (isKubeError(thrown, 404)) return undefined
    throw thrown
  })
