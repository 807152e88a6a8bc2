// Every refusal Postern can make has one stable code, the same in log, metric, wire, test and docs/errors.md.
// This table is the only place where codes are defined; a test compares it with the docs.

/** What a code means and what to do about it, in one line each. Shown by logs, refusals and docs. */
type CodeInfo = { readonly meaning: string; readonly hint: string }

const info = (meaning: string, hint: string): CodeInfo => ({ meaning, hint })

export const CODES = {
  // Configuration: pod annotations, environment, policy documents.
  PSTN_ANNOTATION_INVALID: info(
    'A postern.dev annotation has an unknown key or a value that does not parse.',
    'docs/annotations.md lists every key with its values.',
  ),
  PSTN_CONFIG_INVALID: info(
    'The configuration of a Postern process does not parse.',
    'The message names the key; unknown keys are refused.',
  ),
  PSTN_POLICY_INVALID: info(
    'A policy document does not parse or asks for something unknown. The last good set stays in force.',
    'The message names file, line and path. Fix the ConfigMap; nothing needs a restart.',
  ),
  PSTN_POLICY_UNSUPPORTED: info(
    'A sidecar cannot apply a policy: it needs a feature that the sidecar lacks, or never was valid. What the policy covers is refused.',
    'The reason names the policy: fix its ConfigMap, or recreate the pod so that it gets the current sidecar image.',
  ),
  // Injection.
  PSTN_INJECT_REFUSED: info(
    'A pod that opted in cannot be given a sidecar.',
    'The message names the field; change it or set postern.dev/inject: disabled.',
  ),
  PSTN_INJECT_SKIPPED: info(
    'A pod was deliberately left without a sidecar (for instance hostNetwork in an opted-in namespace).',
    'The message says why.',
  ),
  PSTN_ADMISSION_MALFORMED: info(
    'A request to the webhook is not an AdmissionReview v1.',
    'Only the API server should call the webhook.',
  ),
  // Issuance.
  PSTN_CSR_DENIED: info(
    'A certificate request was denied; the reason names the rule it breaks.',
    'An honest sidecar never sees this; read the reason on the CertificateSigningRequest.',
  ),
  PSTN_CSR_FAILED: info('The signer could not sign an approved request.', 'Read the reason on the object.'),
  PSTN_CSR_TIMEOUT: info(
    'No certificate arrived in time; the request is retried with backoff.',
    'Is the injector (approver) running, and does anything serve the signerName?',
  ),
  PSTN_CSR_ANSWER_INVALID: info(
    'An issued certificate does not fit the request (key, SPIFFE ID, usages or chain) and was thrown away.',
    'Check which signer serves the signerName.',
  ),
  PSTN_CSR_NAME_TAKEN: info(
    'All eight request names of this pod are taken by finished requests.',
    'The injector frees them within minutes: is it running?',
  ),
  PSTN_CA_REFUSED: info(
    'The Secret postern-ca is gone, or holds another root than the one in force without a rotation between: a running injector goes on with what it has. Or something was asked of the CA that it cannot do.',
    'The message says which. The leader restores a missing Secret within a minute. Otherwise restore a backup; or, to begin anew and end every live connection, delete the Secret and the ConfigMap postern-trust and restart all replicas.',
  ),
  PSTN_CLOCK_SKEW: info(
    'This machine’s clock, or the signer’s, is off by more than the backdate of certificates.',
    'Synchronize the clock that the message names; a certificate of the future is kept and used once our clock lets it.',
  ),
  PSTN_SOURCE_UNAVAILABLE: info(
    'The files or the Workload API that this sidecar’s certificate comes from cannot be read. What it holds stays in use.',
    'Is the volume mounted, readable by uid 15008 and at the path that the annotation says; is the agent running?',
  ),
  PSTN_SOURCE_INVALID: info(
    'What the files or the Workload API hold does not do as this pod’s certificate. What it holds stays in use.',
    'The message says why: half written, another key or identity, or a root that is not in the published trust bundle.',
  ),
  PSTN_SOURCE_OVERDUE: info(
    'Nobody has rotated this sidecar’s certificate, and little of its time is left.',
    'Look at whatever writes the files, or at the agent and its server.',
  ),
  PSTN_SOURCE_NO_IDENTITY: info(
    'The Workload API does not have this pod’s identity, or has taken it back: then the certificate is used no more.',
    'Register the pod’s SPIFFE ID (spiffe://<trust domain>/ns/<namespace>/sa/<service account>) for its selectors.',
  ),
  PSTN_API_UNAVAILABLE: info(
    'The Kubernetes API server did not answer or refused the sidecar’s token.',
    'Renewal is retried with backoff; a valid certificate is kept.',
  ),
  PSTN_CERT_EXPIRED: info(
    'This sidecar’s own certificate has expired and could not be renewed yet.',
    'See the latest PSTN_CSR_… or PSTN_API_… line in the sidecar’s log.',
  ),
  PSTN_CERT_REVOKED: info(
    'This sidecar’s own certificate, identity or pod is revoked: the injector tells it nothing more, and its peers refuse it.',
    'See “A pod or a key is compromised” in docs/operations.md. If a single certificate was revoked, the sidecar asks for another at once.',
  ),
  // Partners.
  PSTN_FEDERATION_INVALID: info(
    'A federation document does not parse, or says what another one denies. The last good version of its ConfigMap stays in force.',
    'The message names file, line and path, or the two documents. docs/federation.md shows how they are written.',
  ),
  PSTN_PARTNER_UNREACHABLE: info(
    'A partner’s bundle endpoint did not answer as one does: no connection, another certificate than asked for, a status that is not 200, too slow or too much. Its last good bundle stays.',
    'The reason is in `postern partners`. A redirect is not followed: write the URL that it names.',
  ),
  PSTN_PARTNER_INVALID: info(
    'A partner’s bundle cannot be used: it is no SPIFFE bundle, holds no root, or another trust domain’s. The last good one stays.',
    'The partner serves the wrong thing, or the URL is another’s. The reason is in `postern partners`.',
  ),
  PSTN_PARTNER_STALE: info(
    'A partner’s bundle endpoint answered with an older bundle than before (its sequence went back). The newer one stays for three answers; then the older is taken for what the partner wants.',
    'A stale cache before the endpoint, or a partner that was restored from a backup.',
  ),
  PSTN_PARTNER_UNSETTLED: info(
    'A partner’s bundle changes its roots again and again: six times at once are taken, then one in ten minutes. The last bundle that was taken stays until then.',
    'Several servers behind its endpoint that do not agree, or a partner that means harm: ask whoever runs it.',
  ),
  PSTN_REVOCATION_INVALID: info(
    'The ConfigMap postern-revocations does not parse. The last good list stays; a replica that never read a good one serves no sidecar and signs nothing.',
    'The message names key, entry and reason. Write it with `postern certs revoke`, which checks before.',
  ),
  PSTN_TRUST_INVALID: info(
    'The published trust bundle is empty, does not parse or is for another trust domain. The last good one stays.',
    'Read the ConfigMap postern-trust in the injector’s namespace, and the ClusterTrustBundle postern.dev:workload:roots if there is one.',
  ),
  PSTN_STATE_UNSAVED: info(
    'The sidecar could not write its memory volume: a restart during an outage would lose what it holds.',
    'Is the volume full, or not memory-backed and owned by the sidecar’s user?',
  ),
  PSTN_CERT_FILES_UNWRITTEN: info(
    'The sidecar could not write the files of postern.dev/cert-files. Those of before stay; a pod without any is not ready.',
    'Is the volume postern-cert-files full, or not mounted? It is tried again at least every minute.',
  ),
  PSTN_CERT_HOOK_FAILED: info(
    'The hook of postern.dev/cert-files-hook did not answer with 2xx after the files were swapped: the application may go on with those of before.',
    'Does it listen on the pod’s loopback at that port and path, and answer a POST within 5 seconds?',
  ),
  // Peer identity: checked on both sides of every tunnel, before any application byte.
  PSTN_PEER_NO_CERTIFICATE: info(
    'The peer presented no certificate.',
    'Only sidecars may dial the tunnel port; a port with portLevelTls MUTUAL takes a certificate of the mesh.',
  ),
  PSTN_PEER_UNTRUSTED: info(
    'The peer’s certificate does not chain to the trust bundle of its trust domain.',
    'A foreign or forged certificate, or a root that was removed.',
  ),
  PSTN_PEER_EXPIRED: info(
    'The peer’s certificate has expired.',
    'Look at the peer’s renewal: its log and metrics.',
  ),
  PSTN_PEER_NOT_YET_VALID: info(
    'The peer’s certificate is not valid yet.',
    'Compare the clocks of both nodes.',
  ),
  PSTN_PEER_ID_INVALID: info(
    'The peer’s certificate has no single valid SPIFFE ID as its URI SAN.',
    'Use certificates from the Postern signer.',
  ),
  PSTN_PEER_TRUST_DOMAIN: info(
    'The peer’s SPIFFE ID belongs to another trust domain than its certificate was validated for, or it says that it is of one that is no partner.',
    'Federation must be configured for foreign trust domains (docs/federation.md), on both sides.',
  ),
  PSTN_PEER_USAGE: info(
    'The peer’s certificate is a CA, or its usages and extensions are not those of an X.509-SVID leaf.',
    'Use certificates from the Postern signer.',
  ),
  PSTN_PEER_REVOKED: info(
    'The peer’s certificate, identity or pod is revoked.',
    'See “A pod or a key is compromised” in docs/operations.md; `postern certs revoke --undo` lifts it.',
  ),
  PSTN_PEER_UNEXPECTED: info(
    'The peer is a valid workload, but not the one that the directory names for this address, or none of those that a partner may have there.',
    'An address changed hands, or something impersonates it; or the partner’s `identities` are too narrow.',
  ),
  PSTN_TLS_FAILED: info(
    'The TLS handshake failed or timed out.',
    'Only TLS 1.3 is spoken: between sidecars with ALPN h2, on a port with portLevelTls with what the port is declared to speak.',
  ),
  // Inbound.
  PSTN_POLICY_DENIED: info(
    'An authorization policy forbids it; the log names the policy.',
    'Change the policy.',
  ),
  PSTN_PLAINTEXT_REFUSED: info(
    'Plaintext arrived at a port in strict mode, or at one with TLS.',
    'Opt the caller in, or keep the port permissive while it migrates.',
  ),
  PSTN_PROTOCOL_CHANGED: info(
    'A live connection was closed because what its port speaks has been declared anew.',
    'Clients connect again. If it comes often: do two Services, or a Service and its successor, disagree on appProtocol?',
  ),
  PSTN_DESTINATION_NOT_LOCAL: info(
    'A connection or CONNECT names an address that is not this pod’s.',
    'Postern never relays. A stale client directory heals by itself.',
  ),
  PSTN_OWN_PORT: info(
    'A connection names one of Postern’s own ports.',
    'Those are reached directly, never relayed.',
  ),
  PSTN_TUNNEL_MALFORMED: info(
    'A tunnel request is not a CONNECT with a canonical IP and port.',
    'Only sidecars may dial the tunnel port.',
  ),
  PSTN_APP_UNREACHABLE: info(
    'The application does not accept on that port.',
    'Is it listening on the pod address (not only on loopback)?',
  ),
  PSTN_LIMIT: info(
    'A limit on connections, streams, resets, handshakes or held bytes was reached.',
    'See docs/operations.md.',
  ),
  // The request gate, on ports that are declared HTTP.
  PSTN_HTTP_MALFORMED: info(
    'A request is not HTTP as declared for the port, or could be read in two ways.',
    'docs/http.md lists what is refused; the reason names the rule. Is the port declared with the right protocol?',
  ),
  PSTN_HTTP_LIMIT: info(
    'A request is longer than the gate reads (head, trailers, chunk extensions), or an HTTP/2 connection has more streams, resets or empty frames than it takes.',
    'docs/http.md has the limits.',
  ),
  PSTN_HTTP_TIMEOUT: info(
    'A caller took too long for the head of a request.',
    'Heads are due within 30 seconds of their first byte.',
  ),
  PSTN_HTTP_UPGRADE: info(
    'A request asks for CONNECT, or to go on in another protocol than WebSocket, on a port that is declared HTTP.',
    'docs/http.md has what passes. Declare no protocol for the port if its application needs it.',
  ),
  PSTN_HTTP_ANSWER: info(
    'The application’s answer is not HTTP as declared for the port, so that its end cannot be known.',
    'Is the port declared with the right protocol? The reason names what was wrong.',
  ),
  // Tokens of end users, on ports that are declared HTTP.
  PSTN_JWT_MALFORMED: info(
    'A request carries a token that is no JSON Web Token which Postern reads: not signed asymmetrically, too long, ambiguous, or without an end.',
    'The reason names the rule; docs/policy.md lists what a token must be.',
  ),
  PSTN_JWT_MULTIPLE: info(
    'A request carries more than one token, or a header of tokens twice: the application could take either.',
    'Send one, in one of the places that RequestAuthentication names.',
  ),
  PSTN_JWT_ISSUER: info(
    'No RequestAuthentication that binds the pod believes the issuer of a token, where it was found.',
    'Compare the token’s iss, letter by letter, with the issuers of the pod’s RequestAuthentication.',
  ),
  PSTN_JWT_AUDIENCE: info(
    'A token was given for another audience than this workload.',
    'Ask the issuer for a token with one of the audiences that RequestAuthentication names.',
  ),
  PSTN_JWT_EXPIRED: info(
    'A token has expired, more than 60 seconds ago; of a stream that was under way it ends the stream.',
    'Get a new one and open the stream again. Is the clock of the node right?',
  ),
  PSTN_JWT_NOT_YET: info(
    'A token is not valid yet, or was issued in the future, by more than 60 seconds.',
    'Compare the clocks of the issuer and of the node.',
  ),
  PSTN_JWT_KEY_UNKNOWN: info(
    'No key of the issuer has the kid and algorithm of a token, or the key that vouched for a stream is gone.',
    'After a rotation of keys it is found within seconds: send the request again. Otherwise compare the token’s kid with the JWKS.',
  ),
  PSTN_JWT_SIGNATURE: info(
    'The signature of a token is not its issuer’s.',
    'It was changed, or signed by another: look for who made it.',
  ),
  PSTN_JWKS_UNAVAILABLE: info(
    'The keys of an issuer could not be fetched. The last good ones stay in force; where there are none yet, requests with its tokens are answered with 503.',
    'The log line “keys not fetched” has the URL and the reason. Does the pod reach it, with a certificate of public roots or of caBundle?',
  ),
  PSTN_DRAINING: info('The sidecar is shutting down and takes nothing new.', 'Clients retry elsewhere.'),
  // Outbound.
  PSTN_LOOP: info('A captured dial names Postern’s own listener.', 'Dial the application, not the proxy.'),
  PSTN_ADDRESS_UNKNOWN: info(
    'The destination is inside the cluster’s prefixes, but nothing live has that address.',
    'A pod that is gone, or a directory that cannot be reached: see the control stream’s state.',
  ),
  PSTN_ADDRESS_AMBIGUOUS: info(
    'Two live pods claim the same address, or two partners with equal prefixes.',
    'Check the CNI plugin, or the partners’ destinations.',
  ),
  PSTN_NO_ENDPOINT: info('The Service has no ready endpoint for this port.', 'Check the Service’s pods.'),
  PSTN_OUTBOUND_REQUIRED: info(
    'postern.dev/outbound: require is set and the destination has no sidecar.',
    'Opt the destination in, or use auto.',
  ),
  PSTN_PEER_UNREACHABLE: info('The peer’s tunnel port does not answer.', 'Is its sidecar running?'),
  PSTN_DESTINATION_UNREACHABLE: info(
    'A destination without a sidecar did not accept the connection.',
    'Postern had no part in it: dial it from another pod to compare.',
  ),
  PSTN_OUTSIDE_TLS: info(
    'The TLS handshake with a declared outside host failed or timed out. Nothing was sent in plaintext.',
    'Does it speak TLS 1.2 or newer at that address and port? The reason has what OpenSSL said.',
  ),
  PSTN_OUTSIDE_UNTRUSTED: info(
    'The certificate of a declared outside host does not lead to the roots of its document, or is not valid now.',
    'The reason names the flaw. If the host has another CA now, put its root into caBundle; if it has expired, tell its people.',
  ),
  PSTN_OUTSIDE_NAME: info(
    'The certificate of a declared outside host is valid, but not for the name in its document.',
    'The reason has the names that it is for: does spec.host name this host, and do the addresses belong to it?',
  ),
  PSTN_OUTSIDE_REFUSED: info(
    'A declared outside host refused this sidecar’s certificate, or asks for one although its document says SIMPLE.',
    'Does it trust this mesh’s root and admit this SPIFFE ID? docs/outside-hosts.md has what its people need.',
  ),
  PSTN_OUTSIDE_AMBIGUOUS: info(
    'Several OutsideHost documents that hold for this pod declare the same address and port: none is used.',
    'The reason names them; give each its own addresses or ports, or selectors that do not meet.',
  ),
  PSTN_OUTSIDE_CHANGED: info(
    'A live connection was closed because what is declared for its destination has changed.',
    'Clients connect again, as it is declared now.',
  ),
  PSTN_NOT_READY: info(
    'The sidecar has no certificate, trust bundle or policy yet.',
    'Its log says what it is waiting for.',
  ),
  // Control stream.
  PSTN_CONTROL_REJECTED: info(
    'The injector refused the control stream.',
    'The message says which check failed.',
  ),
  PSTN_CONTROL_LOST: info(
    'The control stream to the injector is down. The last good policy and addresses stay in force.',
    'Is the injector running and reachable on port 15012? Certificates are renewed without it.',
  ),
  PSTN_CONTROL_MALFORMED: info(
    'A message on the control stream breaks its schema.',
    'Versions too far apart.',
  ),
  // Interception.
  PSTN_INTERCEPTION: info(
    'The nftables rules could not be installed or do not work.',
    'The init container needs NET_ADMIN and a kernel with nf_tables.',
  ),
} as const satisfies Record<string, CodeInfo>

export type Code = keyof typeof CODES

export const isCode = (text: string): text is Code => Object.hasOwn(CODES, text)

/** The one error type. `message` says what and where; the code's table entry says what to do. */
export class PosternError extends Error {
  readonly code: Code

  constructor(code: Code, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'PosternError'
    this.code = code
  }
}

/** Any thrown value as a PosternError; `fallback` is the code for what was not ours. */
export function asPosternError(thrown: unknown, fallback: Code): PosternError {
  if (thrown instanceof PosternError) return thrown
  const message = thrown instanceof Error ? thrown.message : String(thrown)
  return new PosternError(fallback, message, { cause: thrown })
}
