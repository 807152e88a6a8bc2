// An installation whose workloads are signed by another signer: deploy/ with the component outside-signer, edited as
// docs/signers.md says.
import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ApiServer } from '../../support/api-server.ts'
import { DEPLOY, untilAllowed } from './installation.ts'

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
  await untilAllowed(async () => {
    const { spec } = await server.kube.get<{ spec: object }>(POLICY)
    if (!JSON.stringify(spec).includes(signerName)) throw new Error('the policy does not name the signer')
  })
}

const POLICY = '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/postern-requests'
