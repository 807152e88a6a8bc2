// What an operator asks of the CA: annotations on its Secret, written by the command line and taken off by the leader in the
// very write that does what they ask, so that nothing is done twice and nothing is lost, whoever dies in between.
// Why there: whoever may write this Secret owns the mesh already, so that asking needs no right that could be had more
// cheaply (a ConfigMap beside it could be written by who edits mesh-wide policy). The role `edit` reads Secrets anyway.
import { listOf, object, oneOf, tagged, text } from '../decode.ts'
import { fingerprintText, nameText, podText, timeText } from './texts.ts'

export type CaRequest = RotateRequest | SkipRequest | RotateIssuerRequest | RevokeRootRequest

/** Begin a rotation of the root, without waiting for these pods (`<namespace>/<name>`, `<namespace>/*`). */
export type RotateRequest = Asked & { readonly kind: 'rotate'; readonly skip: readonly string[] }
/** Wait for these pods no longer. */
export type SkipRequest = Asked & { readonly kind: 'skip'; readonly pods: readonly string[] }
/** Another issuer under the root that signs, before its time. */
export type RotateIssuerRequest = Asked & { readonly kind: 'rotate-issuer' }
/** Trust this root no more, from now on. */
export type RevokeRootRequest = Asked & { readonly kind: 'revoke-root'; readonly fingerprint: string }

type Asked = {
  /** As the asker calls itself: the API server's audit log knows better. */
  readonly by: string
  readonly at: string
}

/** The rest of the annotation's key is the request's id. */
export const CA_REQUEST_PREFIX = 'ca-request.postern.dev/'

const asked = { by: nameText, at: timeText }
const pods = listOf(podText)
const decode = tagged<CaRequest>({
  rotate: object<RotateRequest>({ kind: oneOf(['rotate']), ...asked, skip: pods }),
  skip: object<SkipRequest>({ kind: oneOf(['skip']), ...asked, pods }),
  'rotate-issuer': object<RotateIssuerRequest>({ kind: oneOf(['rotate-issuer']), ...asked }),
  'revoke-root': object<RevokeRootRequest>({
    kind: oneOf(['revoke-root']),
    ...asked,
    fingerprint: fingerprintText,
  }),
})
const json = text(isJson, 'JSON')

/** @throws PosternError PSTN_CONFIG_INVALID naming the annotation and the reason. */
export const decodeCaRequest = (id: string, value: string): CaRequest =>
  decode(JSON.parse(json(value, CA_REQUEST_PREFIX + id)), CA_REQUEST_PREFIX + id)

function isJson(value: string): boolean {
  try {
    JSON.parse(value)
    return true
  } catch {
    return false
  }
}
