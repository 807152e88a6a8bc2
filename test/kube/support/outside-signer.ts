// An installation whose workloads are signed by another signer: deploy/ with the component outside-signer, edited as
// docs/signers.md says.
import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { WORKLOAD_ROLE } from '../../../shared/names.ts'
import type { ApiServer } from '../../support/api-server.ts'
import { certificateRequest } from './certificate-request.ts'
import { DEPLOY, until } from './installation.ts'

/** What the page has an operator change, and to what: each must be there. */
const edits = (signerName: string): readonly (readonly [file: string, from: RegExp, to: string])[] => [
  ['kustomization.yaml', /^# components: \[outside-signer\]/m, 'components: [outside-signer]'],
  ['config.yaml', /^signerName: .*/m, `signerName: ${signerName}`],
  ['config.yaml', /^# trustRootsFile:/m, 'trustRootsFile:'],
  ['outside-signer/signer.yaml', /^ {2}signerName: .*/m, `  signerName: ${signerName}`],
]

/** Applies it over what is installed, and waits until the admission policy knows the signer. */
export async function installOutsideSigner(
  server: ApiServer,
  signerName: string,
  directory: string,
): Promise<void> {
  const deploy = join(directory, 'deploy')
  await cp(DEPLOY, deploy, { recursive: true })
  for (const [file, from, to] of edits(signerName)) {
    const path = join(deploy, file)
    const before = await readFile(path, 'utf8')
    if (!from.test(before)) throw new Error(`${file} has no ${from}`)
    await writeFile(path, before.replace(from, to))
  }
  const { code, stdout, stderr } = await server.kubectl(['apply', '-k', deploy])
  if (code !== 0) throw new Error(stderr || stdout)
  await until(async () => (await refusalOf(server)).includes(`'${signerName}'`))
}

/** What the admission policy in force says to a pod that asks a signer which is nobody's: it names the one to ask. */
async function refusalOf({ kubectl }: ApiServer): Promise<string> {
  const account = 'system:serviceaccount:probe:probe'
  const role = [
    'create',
    'clusterrolebinding',
    'probe',
    `--clusterrole=${WORKLOAD_ROLE}`,
    `--user=${account}`,
  ]
  await kubectl(role)
  const request = {
    apiVersion: 'certificates.k8s.io/v1',
    kind: 'CertificateSigningRequest',
    metadata: { name: 'probe' },
    spec: {
      signerName: 'postern.dev/nobody',
      request: await certificateRequest('spiffe://cluster.local/ns/probe/sa/probe'),
      usages: ['digital signature'],
    },
  }
  const asProbe = [`--as=${account}`, '--as-group=system:serviceaccounts', '--as-group=system:authenticated']
  const { stderr } = await kubectl(
    ['create', ...asProbe, '--dry-run=server', '--validate=false', '-f', '-'],
    JSON.stringify(request),
  )
  return stderr
}
