// The webhook configurations as they are installed, but pointed at a port of the test.
import { readFile } from 'node:fs/promises'
import { parseAllDocuments } from 'yaml'
import { isKubeError } from '../../../shared/kube/rest.ts'
import { INJECTOR_NAME } from '../../../shared/names.ts'
import type { ApiServer } from '../../support/api-server.ts'
import type { InjectorProcess } from './injector-process.ts'
import { systemPath, until } from './installation.ts'

type Configuration = { readonly apiVersion: string; readonly kind: string }

const MANIFEST = new URL('../../../deploy/manifests/webhooks.yaml', import.meta.url)

export async function webhookConfigurations(port: number): Promise<Configuration[]> {
  const text = await readFile(MANIFEST, 'utf8')
  const documents = parseAllDocuments(text.replaceAll('port: 443', `port: ${port}`))
  return documents.map(document => document.toJS())
}

/** The API server reaches a replica by a name that it can resolve without a cluster's DNS. */
export async function pointWebhooksAt({ kube }: ApiServer, { ports }: InjectorProcess): Promise<void> {
  const services = systemPath('services')
  await kube.delete(`${services}/${INJECTOR_NAME}`)
  await kube.create(services, {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: INJECTOR_NAME },
    spec: {
      type: 'ExternalName',
      externalName: 'localhost',
      ports: [{ port: 443, targetPort: ports.webhook }],
    },
  })
  for (const kind of ['mutatingwebhookconfigurations', 'validatingwebhookconfigurations']) {
    const path = `/apis/admissionregistration.k8s.io/v1/${kind}/${INJECTOR_NAME}`
    type Configuration = { webhooks: { clientConfig: { service: { port: number } } }[] }
    // The leader writes the caBundle meanwhile.
    await until(async () => {
      const configuration = await kube.get<Configuration>(path)
      for (const { clientConfig } of configuration.webhooks) clientConfig.service.port = ports.webhook
      return kube.replace(path, configuration).then(
        () => true,
        thrown => {
          if (isKubeError(thrown, 409)) return false
          throw thrown
        },
      )
    })
  }
}
