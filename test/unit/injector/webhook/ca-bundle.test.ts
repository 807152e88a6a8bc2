import type { V1MutatingWebhookConfiguration } from '@kubernetes/client-node'
import t from 'tap'
import { bundlePatch } from '../../../../injector/webhook/ca-bundle.ts'

const base64 = (text: string) => Buffer.from(text).toString('base64')
const configuration = (...bundles: (string | undefined)[]): V1MutatingWebhookConfiguration => ({
  metadata: { name: 'postern-injector', resourceVersion: '7' },
  webhooks: bundles.map((bundle, index) => ({
    name: `w${index}`,
    admissionReviewVersions: ['v1'],
    sideEffects: 'None',
    clientConfig: {
      service: { namespace: 'n', name: 's' },
      ...(bundle !== undefined && { caBundle: base64(bundle) }),
    },
  })),
})

t.test('bundles that are as wanted need no patch', async t => {
  t.equal(bundlePatch(configuration('a\nb\n', 'a\nb\n'), ['a\n', 'b\n']), undefined)
  t.equal(bundlePatch({ metadata: {} }, ['a']), undefined)
})

const wrong = {
  missing: [undefined],
  old: ['b'],
  'half old': ['a', 'b'],
  'in another order': ['ba'],
} as const
for (const [name, bundles] of Object.entries(wrong))
  t.test(`a bundle that is ${name} is replaced, in every webhook, with nothing else changed`, async t => {
    const before = configuration(...bundles)
    const roots = name === 'in another order' ? ['a', 'b'] : ['a']
    const patch = bundlePatch(before, roots)
    const wanted = configuration(...bundles.map(() => roots.join('')))
    t.strictSame(patch, { metadata: { resourceVersion: '7' }, webhooks: wanted.webhooks })
  })
