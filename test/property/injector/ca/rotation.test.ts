// A small mesh and its CA, in a time of its own: pods that come and go, hear late, renew late or not at all; a leader that
// dies before or after any write; other leaders that act on what they read long ago. Whatever happens, no certificate is
// signed by a root that a pod lacks, and no root is dropped while a certificate under it lives.
import fc from 'fast-check'
import t from 'tap'
import {
  bundleOf,
  type CaMaterial,
  createIssuer,
  createRoot,
  type KeyedCa,
} from '../../../../injector/ca/authority.ts'
import { unexplained } from '../../../../injector/ca/lineage.ts'
import {
  begin,
  dropRetired,
  fingerprintOf,
  type MeshFacts,
  nextStep,
  recordOf,
  schedule,
  switchRoots,
} from '../../../../injector/ca/rotation.ts'

const LEAF_MS = 3_600_000
const START = Date.parse('2026-01-01T00:00:00Z')

type Minted = { readonly root: KeyedCa; readonly issuer: KeyedCa }
// Keys cost time: a rotation takes the next of these, a second leader that makes one in vain another.
const minted: readonly Minted[] = await Promise.all(
  Array.from({ length: 12 }, async () => {
    const root = await createRoot('cluster.local', START)
    return { root, issuer: await createIssuer(root, 'cluster.local', START) }
  }),
)

type Pod = { roots: readonly string[]; leaf: { root: string; notAfter: number } }
type Stored = { readonly version: number; readonly material: CaMaterial }

class Mesh {
  now = START
  stored: Stored
  readonly pods: Pod[] = []
  readonly history: string[] = []
  #used = 1

  constructor() {
    const [first] = minted
    if (!first) throw new Error('no roots')
    this.stored = { version: 1, material: first }
  }

  get bundle(): readonly string[] {
    return bundleOf(this.stored.material).map(fingerprintOf)
  }

  fresh(): Minted {
    const one = minted[this.#used % minted.length]
    this.#used += 1
    if (!one) throw new Error('no roots')
    return one
  }

  /** Reads what is published at its start, and has a leaf at once. */
  addPod(): void {
    this.pods.push({ roots: this.bundle, leaf: this.leaf(LEAF_MS) })
  }

  leaf(lifeMs: number) {
    const root = fingerprintOf(this.stored.material.root.certificate)
    return { root, notAfter: this.now + lifeMs }
  }

  /** Compare and swap. */
  write(before: Stored, material: CaMaterial): void {
    if (before.version !== this.stored.version) return
    const lost = unexplained(bundleOf(before.material), material)
    if (lost.length > 0) throw new Error(`other replicas would refuse it: ${lost.join()}`)
    this.stored = { version: before.version + 1, material }
    this.history.push(recordOf(material).phase)
  }
}

type Read = { readonly before: Stored; readonly material: CaMaterial | undefined }

function longest({ pods }: Mesh): Pick<MeshFacts, 'last'> {
  const [last = 0] = pods.map(({ leaf }) => leaf.notAfter).sort((a, b) => b - a)
  return { last: { pod: 'shop/web', uid: 'uid', serial: '0a', notAfter: new Date(last).toISOString() } }
}

/** What a leader does next, from what it reads now; it writes it later, or dies. */
function plan(mesh: Mesh, asked: boolean): Read {
  const before = mesh.stored
  const { material } = before
  const { next } = material
  const wanted = next && fingerprintOf(next.certificate)
  const lacking = wanted ? mesh.pods.filter(({ roots }) => !roots.includes(wanted)) : []
  const step = nextStep(material, {
    now: mesh.now,
    obstacles: lacking.map((_, index) => `pod ${index}`),
    ...longest(mesh),
    longestLeafMs: LEAF_MS,
  })
  switch (step.kind) {
    case 'rest':
      return {
        before,
        material: asked ? begin(material, mesh.fresh().root, [], { by: 'x', now: mesh.now }) : undefined,
      }
    case 'switch': {
      const issuer = minted.find(({ root }) => root.certificate === next?.certificate)?.issuer
      return { before, material: issuer && switchRoots(material, issuer, mesh.now) }
    }
    case 'schedule':
      return { before, material: schedule(material, step) }
    case 'drop':
      return { before, material: dropRetired(material, mesh.now) }
    case 'wait':
      return { before, material: undefined }
  }
}

type Act =
  | { readonly kind: 'pass'; readonly ms: number }
  | { readonly kind: 'come' }
  | { readonly kind: 'leave' | 'hear' | 'renew'; readonly pod: number; readonly lifeMs: number }
  /** A leader reads and decides; what it decided is written after so many further acts, or never. */
  | { readonly kind: 'lead'; readonly asked: boolean; readonly writes: 'at once' | 'late' | 'never' }

const act: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('pass' as const),
      ms: fc.integer({ min: 1_000, max: LEAF_MS }),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: 'come' as const }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom('leave', 'hear', 'hear', 'hear', 'renew', 'renew'),
      pod: fc.nat(7),
      lifeMs: fc.integer({ min: 1_000, max: LEAF_MS }),
    }) as fc.Arbitrary<Act>,
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('lead' as const),
      asked: fc.boolean(),
      writes: fc.constantFrom('at once' as const, 'late' as const, 'never' as const),
    }),
  },
)

function check(mesh: Mesh): void {
  for (const { leaf } of mesh.pods) {
    if (leaf.notAfter < mesh.now) continue
    if (!mesh.bundle.includes(leaf.root))
      throw new Error('a root was dropped while a certificate under it lives')
    const stranger = mesh.pods.findIndex(({ roots }) => !roots.includes(leaf.root))
    if (stranger >= 0) throw new Error(`pod ${stranger} does not trust a certificate that is in use`)
  }
}

function perform(mesh: Mesh, one: Act, late: Read[]): void {
  const pod = 'pod' in one ? mesh.pods[one.pod % Math.max(mesh.pods.length, 1)] : undefined
  switch (one.kind) {
    case 'pass':
      mesh.now += one.ms
      break
    case 'come':
      if (mesh.pods.length < 8) mesh.addPod()
      break
    case 'leave':
      if (pod) mesh.pods.splice(mesh.pods.indexOf(pod), 1)
      break
    case 'hear':
      if (pod) pod.roots = mesh.bundle
      break
    case 'renew':
      if (pod) pod.leaf = mesh.leaf(one.lifeMs)
      break
    case 'lead': {
      const read = plan(mesh, one.asked)
      if (one.writes === 'late') late.push(read)
      if (one.writes === 'at once' && read.material) mesh.write(read.before, read.material)
      break
    }
  }
}

/** Late writers write whenever a pod comes. */
function run(acts: readonly Act[]): Mesh {
  const mesh = new Mesh()
  for (let count = 0; count < 3; count += 1) mesh.addPod()
  const late: Read[] = []
  for (const one of acts) {
    perform(mesh, one, late)
    if (one.kind === 'come')
      for (const { before, material } of late.splice(0)) if (material) mesh.write(before, material)
    check(mesh)
  }
  return mesh
}

t.test('nothing that can happen to a rotation costs a certificate its trust', async t => {
  let rotations = 0
  fc.assert(
    fc.property(fc.array(act, { minLength: 20, maxLength: 120 }), acts => {
      rotations += run(acts).history.filter(phase => phase === 'idle').length
    }),
    { numRuns: 400 },
  )
  t.ok(rotations > 0, `${rotations} rotations were finished on the way`)
})

t.test('a rotation that everybody lets happen ends, wherever leaders died', async t => {
  fc.assert(
    fc.property(fc.array(act, { maxLength: 60 }), acts => {
      const mesh = run(acts)
      const calm: Act[] = Array.from({ length: 10 }, () => [
        ...mesh.pods.map((_, pod): Act => ({ kind: 'hear', pod, lifeMs: 1 })),
        { kind: 'pass', ms: LEAF_MS } as const,
        { kind: 'lead', asked: false, writes: 'at once' } as const,
      ]).flat()
      for (const one of calm) perform(mesh, one, [])
      return recordOf(mesh.stored.material).phase === 'idle'
    }),
    { numRuns: 200 },
  )
  t.pass()
})

t.test('the checks see a switch that came too early', async t => {
  const mesh = new Mesh()
  mesh.addPod()
  const [, other] = minted
  if (!other) throw new Error('no roots')
  const published = begin(mesh.stored.material, other.root, [], { by: 'x', now: START })
  mesh.write(mesh.stored, published)
  mesh.write(mesh.stored, switchRoots(published, other.issuer, START))
  mesh.addPod()
  t.throws(() => check(mesh), /pod 0 does not trust/)
})
