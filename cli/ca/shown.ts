// The CA's status as lines for people.
import type { CaCertificate, CaStatus } from '../../shared/ca/status.ts'
import type { Output } from '../output.ts'

export function showStatus(out: Output, status: CaStatus): void {
  if (out.json) out.document(status)
  else showLines(out, status)
}

function showLines(out: Output, status: CaStatus): void {
  const { phase, rotation, root, next, retired, issuer } = status
  out.line(
    `phase      ${phase}${rotation ? `, since ${rotation.switched ?? rotation.began}, asked by ${rotation.by}` : ''}`,
  )
  out.line(certificate('root', root, next || retired.length > 0 ? 'signs' : ''))
  if (next) out.line(certificate('next root', next, 'published'))
  for (const old of retired)
    out.line(certificate('old root', old, `trusted until ${rotation?.drop ?? 'it is dropped'}`))
  if (rotation?.heldBy) out.line(`held by    ${rotation.heldBy.pod}, ${rotation.heldBy.serial}`)
  out.line(certificate('issuer', issuer, ''))
  for (const reason of status.waitingFor) out.line(`waiting    ${reason}`)
  for (const { fingerprint, where } of status.lingering ?? [])
    out.line(`LINGERING  ${fingerprint}, trusted no more, but: ${where}`)
  showPods(out, status)
}

function showPods(out: Output, { unconfirmed, rotation, former }: CaStatus): void {
  if (unconfirmed.pods.length > 0) {
    out.line('')
    out.table(
      ['UNCONFIRMED', 'REASON'],
      unconfirmed.pods.map(({ pod, reason }) => [pod, reason]),
    )
    const more = unconfirmed.count - unconfirmed.pods.length
    if (more > 0) out.line(`and ${more} more`)
  }
  if (rotation && rotation.skipped.length > 0) {
    out.line('')
    out.table(
      ['SKIPPED', 'BY', 'AT'],
      rotation.skipped.map(({ pod, by, at }) => [pod, by, at]),
    )
  }
  if (former.length > 0) {
    out.line('')
    out.table(
      ['FORMER ROOT', 'END', 'BY', 'AT'],
      former.map(({ fingerprint, end, by, at }) => [fingerprint, end, by, at]),
    )
  }
}

const certificate = (name: string, { fingerprint, notAfter }: CaCertificate, note: string): string =>
  `${name.padEnd(9)}  ${fingerprint}, expires ${notAfter}${note && `, ${note}`}`
