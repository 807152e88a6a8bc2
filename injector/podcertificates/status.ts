// What is written back: a condition, and with a certificate the times that the API server compares with it.
import type { IssuedLeaf } from '../ca/authority.ts'
import type { PodCertificateCondition, PodCertificateStatus } from './request.ts'

/** Of the time from now to notAfter, as sidecars renew by themselves; the kubelet adds up to five minutes. */
const REFRESH = { from: 0.33, to: 0.5 }
/** The API server wants at least so much between the refresh and either end. */
const MARGIN_MS = 10 * 60_000

export function beginRefreshAt(
  { notBefore, notAfter }: Pick<IssuedLeaf, 'notBefore' | 'notAfter'>,
  now: number,
  random: number,
): Date {
  const share = REFRESH.from + (REFRESH.to - REFRESH.from) * random
  const wanted = now + share * (notAfter.getTime() - now)
  const [first, last] = [notBefore.getTime() + MARGIN_MS, notAfter.getTime() - MARGIN_MS]
  const ms = Math.min(Math.max(wanted, first), last)
  return new Date(Math.floor(ms / 1000) * 1000)
}

export const conditionOf = (
  type: PodCertificateCondition['type'],
  reason: string,
  message: string,
  now: number,
): PodCertificateCondition => ({
  type,
  status: 'True',
  reason,
  message,
  lastTransitionTime: wireTime(new Date(now)),
})

export const issuedStatus = (
  leaf: IssuedLeaf,
  identity: string,
  now: number,
  random: number,
): PodCertificateStatus => ({
  conditions: [conditionOf('Issued', 'PosternIssued', `identity ${identity}, serial ${leaf.serial}`, now)],
  certificateChain: leaf.chain,
  notBefore: wireTime(leaf.notBefore),
  notAfter: wireTime(leaf.notAfter),
  beginRefreshAt: wireTime(beginRefreshAt(leaf, now, random)),
})

/** Whole seconds, as Kubernetes writes times. */
const wireTime = (date: Date): string => `${date.toISOString().slice(0, 19)}Z`
