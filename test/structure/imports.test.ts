import t, { type Test } from 'tap'
import { type Import, importsOf, type SourceFile, sourceFiles } from '../support/source-files.ts'

const SOURCE = ['shared', 'proxy', 'injector', 'embedded', 'cli', 'deploy', 'bench']
const STAGES = ['accept', 'identify', 'authorize', 'resolve', 'forward']
/** Packages that may be loaded into a sidecar: each costs private memory in every pod. */
const SIDECAR_PACKAGES = ['pino']

const files = sourceFiles(...SOURCE)

t.test('the reader of imports sees every form of them', async t => {
  const text = [
    `import t from 'tap'`,
    `import './side-effect.ts'`,
    `import {\n  a,\n} from '../b/c.ts'`,
    `import type { D } from './d.ts'`,
    `export { e } from './e.ts'`,
    `const f = await import('./f.ts')`,
  ].join('\n')
  t.same(
    importsOf('x/y.ts', text).map(({ specifier, typeOnly, file }) => [specifier, typeOnly, file]),
    [
      ['tap', false, undefined],
      ['./side-effect.ts', false, 'x/side-effect.ts'],
      ['../b/c.ts', false, 'b/c.ts'],
      ['./d.ts', true, 'x/d.ts'],
      ['./e.ts', false, 'x/e.ts'],
      ['./f.ts', false, 'x/f.ts'],
    ],
  )
})

t.test('shared imports nothing of the others', async t => {
  refuse(t, within('shared'), ({ file }) => file !== undefined && !/^(?:shared\/|package\.json$)/.test(file))
})

t.test('the proxy imports only itself and shared', async t => {
  refuse(t, within('proxy'), ({ file }) => file !== undefined && !/^(?:proxy|shared)\//.test(file))
})

t.test('the injector imports only itself and shared', async t => {
  refuse(t, within('injector'), ({ file }) => file !== undefined && !/^(?:injector|shared)\//.test(file))
})

t.test('stages of the proxy never import each other', async t => {
  for (const stage of STAGES) {
    const others = STAGES.filter(other => other !== stage).map(other => `proxy/${other}/`)
    refuse(t, within(`proxy/${stage}`), ({ file }) => others.some(other => file?.startsWith(other)))
  }
})

t.test('the leaf http2 imports only itself and shared, and no sockets', async t => {
  const allowed = /^(?:proxy\/http2|shared)\//
  const sockets = /^node:(?:net|tls|http|https|http2|dgram)$/
  refuse(
    t,
    within('proxy/http2'),
    ({ file, specifier }) => (file !== undefined && !allowed.test(file)) || sockets.test(specifier),
  )
})

t.test(
  'no source imports a test, but the benchmark, which needs their namespaces and ships nowhere',
  async t => {
    const shipped = files.filter(({ path }) => !path.startsWith('bench/'))
    refuse(t, shipped, ({ file }) => file?.startsWith('test/') ?? false)
  },
)

t.test('only main imports app', async t => {
  const importers = files.filter(({ path }) => !/\/main\.ts$|^embedded\//.test(path))
  refuse(t, importers, ({ file, typeOnly }) => !typeOnly && /^(?:proxy|injector)\/app\.ts$/.test(file ?? ''))
})

t.test('a circle of imports is seen', async t => {
  const importing = (path: string, ...imported: string[]): SourceFile => {
    const text = imported.map(file => `import type { X } from './${file}'`).join('\n')
    return { path, text, imports: importsOf(path, text) }
  }
  t.same(circlesOf([importing('a.ts', 'b.ts'), importing('b.ts', 'c.ts', 'd.ts'), importing('c.ts')]), [])
  t.same(
    circlesOf([importing('a.ts', 'b.ts'), importing('b.ts', 'c.ts', 'd.ts'), importing('c.ts', 'b.ts')]),
    ['b.ts → c.ts → b.ts'],
  )
})

t.test('no file imports itself through others, not even for a type', async t => {
  t.same(circlesOf(files), [])
})

t.test('a sidecar loads no package but those that are worth their memory', async t => {
  const allowed = ({ specifier, typeOnly, file }: Import) =>
    typeOnly || file !== undefined || specifier.startsWith('node:') || SIDECAR_PACKAGES.includes(specifier)
  refuse(t, loadedBy(within('proxy')), found => !allowed(found))
})

t.test('the command line imports only itself and shared', async t => {
  refuse(t, within('cli'), ({ file }) => file !== undefined && !/^(?:cli|shared)\//.test(file))
})

t.test(
  'the Kubernetes client is used for its types alone, for reading a kubeconfig and for port-forward',
  async t => {
    const others = files.filter(({ path }) => !/^cli\/(?:kubeconfig|port-forward)\.ts$/.test(path))
    refuse(t, others, ({ specifier, typeOnly }) => specifier.startsWith('@kubernetes/') && !typeOnly)
  },
)

t.test('only config reads the environment', async t => {
  const readers = sourceFiles('shared', 'proxy', 'injector', 'embedded', 'cli')
    .filter(({ path, text }) => !path.endsWith('/config.ts') && /\bprocess\.env\b/.test(text))
    .map(({ path }) => path)
  t.same(readers, [])
})

function within(folder: string): SourceFile[] {
  return files.filter(({ path }) => path.startsWith(`${folder}/`))
}

/** One for each import that leads back to a file on the way to it. */
function circlesOf(sources: readonly SourceFile[]): string[] {
  const byPath = new Map(sources.map(source => [source.path, source]))
  const settled = new Set<string>()
  const follow = (path: string, way: readonly string[]): string[] => {
    if (way.includes(path)) return [[...way.slice(way.indexOf(path)), path].join(' → ')]
    if (settled.has(path)) return []
    const imports = byPath.get(path)?.imports ?? []
    const circles = imports.flatMap(({ file }) => (file === undefined ? [] : follow(file, [...way, path])))
    settled.add(path)
    return circles
  }
  return sources.flatMap(({ path }) => follow(path, []))
}

/** `roots` and every file that they load at run time. */
function loadedBy(roots: readonly SourceFile[]): SourceFile[] {
  const byPath = new Map(files.map(file => [file.path, file]))
  const loaded = new Set(roots)
  for (const { imports } of loaded)
    for (const { file, typeOnly } of imports) {
      const next = typeOnly || file === undefined ? undefined : byPath.get(file)
      if (next) loaded.add(next)
    }
  return [...loaded]
}

function refuse(t: Test, importers: readonly SourceFile[], forbidden: (found: Import) => boolean): void {
  const found = importers.flatMap(({ path, imports }) =>
    imports.filter(forbidden).map(({ specifier }) => `${path} imports ${specifier}`),
  )
  t.same(found, [])
}
