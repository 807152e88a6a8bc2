// The webhook configurations as they are installed, but pointed at a port of the test.
import { readFile } from 'node:fs/promises'
import { parseAllDocuments } from 'yaml'

type Configuration = { readonly apiVersion: string; readonly kind: string }

const MANIFEST = new URL('../../../deploy/manifests/webhooks.yaml', import.meta.url)

export async function webhookConfigurations(port: number): Promise<Configuration[]> {
  const text = await readFile(MANIFEST, 'utf8')
  const documents = parseAllDocuments(text.replaceAll('port: 443', `port: ${port}`))
  return documents.map(document => document.toJS())
}
