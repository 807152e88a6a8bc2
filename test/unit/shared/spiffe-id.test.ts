// SPIFFE-ID, section by section. What is refused differs from what is accepted in the one thing that the sentence is about.
import { PosternError } from '../../../shared/errors.ts'
import {
  isTrustDomain,
  parseSpiffeId,
  trustDomainNamedBy,
  workloadOf,
  workloadSpiffeId,
} from '../../../shared/spiffe-id.ts'
import { rule } from '../../support/standard.ts'

const refusal = (text: string): string | undefined => {
  try {
    parseSpiffeId(text)
    return undefined
  } catch (thrown) {
    if (thrown instanceof PosternError && thrown.code === 'PSTN_PEER_ID_INVALID') return thrown.message
    throw thrown
  }
}
const accepts =
  (...texts: readonly string[]) =>
  () =>
    texts.every(text => refusal(text) === undefined && parseSpiffeId(text).id === text)
const refuses =
  (...texts: readonly string[]) =>
  () =>
    texts.every(text => refusal(text) !== undefined)

const ID = 'spiffe://example.org/ns/shop/sa/cart'
/** An ID of exactly so many bytes. */
const ofLength = (bytes: number) => `spiffe://example.org/${'a'.repeat(bytes - 21)}`

rule('2', 'Valid SPIFFE IDs MUST have the scheme set to spiffe', {
  'spiffe is accepted': accepts(ID),
  'other schemes, and none, are refused': refuses(
    'https://example.org/ns/shop/sa/cart',
    'spiffes://example.org/a',
    'xspiffe://example.org/a',
    '//example.org/a',
    'example.org/a',
    'spiffe:/example.org/a',
    'spiffe:example.org/a',
    ` ${ID}`,
    '',
  ),
})

rule('2', 'Valid SPIFFE IDs MUST include a non-zero trust domain name', {
  'one character is enough': accepts('spiffe://a/b'),
  'none is refused': refuses('spiffe:///b', 'spiffe://', 'spiffe:///'),
})

rule('2', 'Valid SPIFFE IDs MUST NOT include a query or fragment component', {
  'without either it is accepted': accepts(ID),
  'a query is refused, an empty one too': refuses(`${ID}?a=b`, `${ID}?`, 'spiffe://example.org?a/b'),
  'a fragment is refused, an empty one too': refuses(`${ID}#a`, `${ID}#`, 'spiffe://example.org#a/b'),
})

rule('2.1', 'The host part of the authority MUST NOT be empty', {
  'an empty one is refused': refuses('spiffe:///ns/shop'),
  'it is no trust domain': () => !isTrustDomain(''),
})

rule('2.1', 'The userinfo and port parts of the authority component MUST be empty', {
  'a user is refused': refuses(
    'spiffe://user@example.org/a',
    'spiffe://user:word@example.org/a',
    'spiffe://@example.org/a',
  ),
  'a port is refused, an empty one too': refuses('spiffe://example.org:8443/a', 'spiffe://example.org:/a'),
})

rule('2.1', 'The host part of the authority MUST be lowercase', {
  'lower case is accepted': accepts(ID),
  'upper case is refused': refuses('spiffe://Example.org/a', 'spiffe://EXAMPLE.ORG/a'),
})

rule(
  '2.1',
  'The host part of the authority MUST contain only letters, numbers, dots, dashes, and underscores ([a-z0-9.-_])',
  {
    'each of them is accepted, anywhere': accepts(
      'spiffe://a-b_c.d0/x',
      'spiffe://-/x',
      'spiffe://_/x',
      'spiffe://./x',
    ),
    'anything else is refused': refuses(
      ...[
        '!',
        '$',
        '&',
        "'",
        '(',
        ')',
        '*',
        '+',
        ',',
        ';',
        '=',
        '~',
        '[',
        ']',
        '\\',
        ' ',
        '\0',
        '\n',
        '\u007f',
        'é',
        'ａ',
      ].map(character => `spiffe://exam${character}ple.org/a`),
      'spiffe://example.org\n/a',
    ),
  },
)

rule('2.1', 'The host part of the authority MUST NOT contain percent-encoded characters', {
  'they are refused': refuses('spiffe://ex%61mple.org/a', 'spiffe://example%2eorg/a'),
})

rule(
  '2.1',
  'Implementations MUST NOT process trust domain names differently whether or not they are valid IP addresses and/or valid DNS names',
  {
    'IPv4 addresses, impossible ones and names that DNS refuses are trust domains': accepts(
      'spiffe://1.2.3.4/a',
      'spiffe://999.1.1.1/a',
      'spiffe://-a..b_/a',
      `spiffe://${'a'.repeat(64)}.org/a`,
    ),
    'IPv6 addresses are excluded': refuses('spiffe://[::1]/a', 'spiffe://::1/a'),
  },
)

rule('2.2', 'The path component MUST NOT include percent-encoded characters', {
  'they are refused': refuses(
    'spiffe://example.org/ns/sh%6fp',
    'spiffe://example.org/%2e',
    'spiffe://example.org/a%2fb',
  ),
})

rule(
  '2.2',
  'The path component MUST NOT include segments that are empty or are relative path modifiers (i.e. ., ..)',
  {
    'dots beside others are accepted': accepts(
      'spiffe://example.org/...',
      'spiffe://example.org/.a',
      'spiffe://example.org/a../b',
    ),
    'empty segments are refused': refuses('spiffe://example.org//a', 'spiffe://example.org/a//b'),
    'dot segments are refused': refuses(
      'spiffe://example.org/.',
      'spiffe://example.org/..',
      'spiffe://example.org/./a',
      'spiffe://example.org/a/../b',
    ),
  },
)

rule('2.2', 'The path component MUST NOT include a trailing /', {
  'it is refused': refuses(`${ID}/`, 'spiffe://example.org/'),
})

rule(
  '2.2',
  'Individual path segments MUST contain only letters, numbers, dots, dashes, and underscores ([a-zA-Z0-9.-_])',
  {
    'each of them is accepted': accepts(
      'spiffe://example.org/aZ0.-_/Z',
      'spiffe://example.org/9eebccd2-12bf-40a6-b262-65fe0487d453',
    ),
    'anything else is refused': refuses(
      ...[
        '!',
        '$',
        '&',
        "'",
        '(',
        ')',
        '*',
        '+',
        ',',
        ';',
        '=',
        '~',
        ':',
        '@',
        '\\',
        ' ',
        '\0',
        '\n',
        'é',
        '‮',
      ].map(character => `spiffe://example.org/ns/sh${character}op`),
    ),
  },
)

rule('2.3', 'SPIFFE implementations MUST support SPIFFE URIs up to 2048 bytes in length', {
  '2048 bytes are accepted': () => ofLength(2048).length === 2048 && accepts(ofLength(2048))(),
})

rule('2.3', 'SPIFFE implementations SHOULD NOT generate URIs of length greater than 2048 bytes', {
  'more is neither accepted nor made': refuses(ofLength(2049)),
  'a workload whose names are too long has no ID': () => {
    try {
      workloadSpiffeId({ trustDomain: 'example.org', namespace: 'a', serviceAccount: 'b'.repeat(2048) })
      return false
    } catch {
      return true
    }
  },
  'bytes are counted, and a refusal shows no more than a line of them': () =>
    (refusal(`spiffe://example.org/${'é'.repeat(1020)}`) ?? '').includes('longer than 2048 bytes') &&
    (refusal(`spiffe://example.org/${'x'.repeat(100_000)}`) ?? '').length < 300,
})

rule('2.3', 'A maximum length of a trust domain name is 255 bytes', {
  '255 are accepted': () => isTrustDomain('a'.repeat(255)) && accepts(`spiffe://${'a'.repeat(255)}/x`)(),
  '256 are refused': () => !isTrustDomain('a'.repeat(256)) && refuses(`spiffe://${'a'.repeat(256)}/x`)(),
})

rule(
  '2.4',
  'The scheme and trust domain name of the SPIFFE ID are case-insensitive. The path is case-sensitive',
  {
    'an ID that is not in its one lower-case form is refused rather than folded, so that two spellings never compare':
      refuses('SPIFFE://example.org/a', 'Spiffe://example.org/a', 'spiffe://Example.org/a'),
    'paths that differ in case are two identities': () =>
      parseSpiffeId('spiffe://example.org/A').id !== parseSpiffeId('spiffe://example.org/a').id,
  },
)

rule('3.1', 'The SPIFFE ID of the signing authority SHOULD NOT have a path component', {
  'the ID of a trust domain is known': () => trustDomainNamedBy('spiffe://example.org') === 'example.org',
  'with a lone slash too, as the standard itself writes it elsewhere': () =>
    trustDomainNamedBy('spiffe://example.org/') === 'example.org',
  'anything else is none': () =>
    [
      ID,
      'spiffe://',
      'spiffe:///',
      'spiffe://example.org//',
      'spiffe://Example.org',
      'https://example.org',
      'spiffe://a?b',
    ].every(text => trustDomainNamedBy(text) === undefined),
  'it is not the ID of a workload': refuses('spiffe://example.org'),
})

rule('2.2', 'The specific meaning of paths is reserved as an exercise to the implementer', {
  'a Kubernetes workload is what /ns/<namespace>/sa/<service account> names, and nothing else': () => {
    const named = workloadOf(parseSpiffeId(ID).id)
    const others = ['/ns/shop/sa', '/ns/shop/sa/cart/x', '/sa/cart/ns/shop', '/NS/shop/sa/cart', '/x'].map(
      path => workloadOf(parseSpiffeId(`spiffe://example.org${path}`).id),
    )
    return (
      JSON.stringify(named) ===
        JSON.stringify({ trustDomain: 'example.org', namespace: 'shop', serviceAccount: 'cart' }) &&
      others.every(other => other === undefined)
    )
  },
})
