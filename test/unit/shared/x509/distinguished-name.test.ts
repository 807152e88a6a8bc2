import { execFileSync } from 'node:child_process'
import t from 'tap'
import { parseCertificate } from '../../../../shared/x509/certificate.ts'
import { distinguishedName } from '../../../../shared/x509/distinguished-name.ts'
import { requireCommands } from '../../../support/requirements.ts'
import { scratchDirectory } from '../../../support/scratch.ts'

const openssl = (directory: string, ...args: string[]) =>
  execFileSync('openssl', args, { cwd: directory, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })

function certificateOf(directory: string, subject: string): string {
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'key.pem']
  return openssl(directory, 'req', '-x509', '-utf8', '-multivalue-rdn', '-subj', subject, ...key)
}

t.test(
  'a subject is what openssl writes with -nameopt RFC2253',
  { skip: requireCommands('openssl') },
  async t => {
    const directory = scratchDirectory(t)
    for (const subject of [
      '/CN=batch',
      '/C=DE/ST=Berlin/L=Mitte/O=Partner/OU=Jobs/CN=batch-1',
      '/O=Partner, Inc/CN=a;b<c>"d',
      '/CN= edge ',
      '/CN=#1',
      '/CN=Müller ✓',
      '/DC=example/DC=partner/UID=7/emailAddress=a@b.example',
      '/serialNumber=01/street=Weg 1/CN=x',
      '/CN=one/CN=two',
      '/CN=back\\\\slash',
    ]) {
      const certificate = certificateOf(directory, subject)
      const wanted = execFileSync('openssl', ['x509', '-noout', '-subject', '-nameopt', 'RFC2253'], {
        input: certificate,
        encoding: 'utf8',
      })
      t.equal(
        `subject=${distinguishedName(parseCertificate(certificate).subject)}`,
        wanted.replace(/\n$/, ''),
        subject,
      )
    }
  },
)

t.test('what has no certain form is nobody', { skip: requireCommands('openssl') }, async t => {
  const directory = scratchDirectory(t)
  for (const subject of ['/', '/O=Partner+CN=batch', '/title=boss/CN=batch'])
    t.equal(
      distinguishedName(parseCertificate(certificateOf(directory, subject)).subject),
      undefined,
      subject,
    )
  t.equal(distinguishedName(Buffer.from('nonsense')), undefined)
})
