// Bundles each process into one file, for start-up time and memory: dist/proxy.mjs, dist/injector.mjs and,
// for operators, dist/postern.mjs.
import { fileURLToPath } from 'node:url'
import { type BuildOptions, build } from 'esbuild'

const root = fileURLToPath(new URL('..', import.meta.url))

/** What CommonJS packages inside an ES module expect. */
const BANNER = `import { createRequire } from 'node:module'
import { dirname as __dirnameOf } from 'node:path'
import { fileURLToPath as __pathOf } from 'node:url'
const require = createRequire(import.meta.url)
const __filename = __pathOf(import.meta.url)
const __dirname = __dirnameOf(__filename)`

export type Bundle = {
  /** Name of the file, without `.mjs`. */
  readonly name: string
  readonly entry: string
}

const BUNDLES: readonly Bundle[] = [
  { name: 'proxy', entry: 'proxy/main.ts' },
  { name: 'injector', entry: 'injector/main.ts' },
  { name: 'postern', entry: 'cli/main.ts' },
]

/**
 * Writes `NAME.mjs` for each bundle into `directory`. Identifiers stay as written, for stack traces; esbuild's `keepNames`
 * would do it with a call of Object.defineProperty for each closure that is made, at run time.
 */
export async function buildBundles(directory = 'dist', bundles: readonly Bundle[] = BUNDLES): Promise<void> {
  const options: BuildOptions = {
    absWorkingDir: root,
    entryPoints: bundles.map(({ name, entry }) => ({ in: entry, out: name })),
    outdir: directory,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node26',
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'none',
    banner: { js: BANNER },
    logLevel: 'warning',
  }
  await build(options)
}

if (import.meta.main) await buildBundles(process.argv[2])
