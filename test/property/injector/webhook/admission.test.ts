// Whatever is sent, the webhook answers with a review or refuses with its code; nothing else is ever thrown.
import fc from 'fast-check'
import t from 'tap'
import { admissionReview, parseAdmissionReview } from '../../../../injector/webhook/admission.ts'
import { admitPod } from '../../../../injector/webhook/pods.ts'
import { PosternError } from '../../../../shared/errors.ts'
import { CONTEXT } from '../../../support/pods.ts'
import { podReview } from '../../../unit/injector/webhook/reviews.ts'

const { mesh, sidecar, version } = CONTEXT
const admit = admitPod({
  optIn: 'namespace',
  settings: { mesh, sidecar, version },
  ensureBinding: async () => {},
  whyNoPodCertificates: async () => undefined,
  report: () => {},
})

async function answered(body: Buffer): Promise<'answered' | 'malformed'> {
  try {
    const request = parseAdmissionReview(body)
    JSON.stringify(admissionReview(request.uid, await admit(request, AbortSignal.timeout(1000))))
    return 'answered'
  } catch (thrown) {
    if (thrown instanceof PosternError && thrown.code === 'PSTN_ADMISSION_MALFORMED') return 'malformed'
    throw thrown
  }
}

type Path = readonly string[]

function pathsOf(value: unknown, path: Path = []): Path[] {
  if (typeof value !== 'object' || value === null) return [path]
  return [path, ...Object.entries(value).flatMap(([key, each]) => pathsOf(each, [...path, key]))]
}

function withValue(value: unknown, [key, ...rest]: Path, replacement: unknown): unknown {
  if (key === undefined) return replacement
  const entries = Object.entries(value as object).map(
    ([name, each]) => [name, name === key ? withValue(each, rest, replacement) : each] as const,
  )
  return Array.isArray(value) ? entries.map(([, each]) => each) : Object.fromEntries(entries)
}

t.test('random bytes', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 500 }), async bytes => {
      await answered(Buffer.from(bytes))
    }),
    { numRuns: 300 },
  )
})

t.test('a real review in which any one value was replaced by any other', async t => {
  const paths = pathsOf(podReview)
  const outcomes = new Set<string>()
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...paths), fc.jsonValue({ maxDepth: 2 }), async (path, value) => {
      outcomes.add(await answered(Buffer.from(JSON.stringify(withValue(podReview, path, value)))))
    }),
    { numRuns: 1500 },
  )
  t.strictSame([...outcomes].sort(), ['answered', 'malformed'])
})
