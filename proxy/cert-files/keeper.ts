// Keeps the files of `postern.dev/cert-files` equal to the certificate and the trust bundle that the sidecar has, for as
// long as it runs. Nothing here can cost a connection: what cannot be written is tried again, and the files of before stay.
// An expired certificate stays too, because what to do without one is the application's to decide.
import { backoffMs } from '../../shared/backoff.ts'
import { asPosternError } from '../../shared/errors.ts'
import { joined, type Live, live, type Settable, until } from '../../shared/live.ts'
import type { TrustBundle } from '../../shared/trust-bundle.ts'
import type { Credential } from '../credentials/credential.ts'
import { Announcer, type AnnouncerOptions } from './announcer.ts'
import { type Files, type KeyAndChain, keyAndChainIn, layout, leafIn, rootsIn, sameFiles } from './layout.ts'
import { type CertVolume, certVolume, type Generation } from './volume.ts'

export type CertFilesOptions = AnnouncerOptions & {
  readonly dir: string
  readonly credential: Live<Credential | undefined>
  readonly bundle: Live<TrustBundle | undefined>
}

export type CertFiles = {
  /** What is in force; undefined until there was something. */
  readonly inForce: Live<Generation | undefined>
  /** PEM: what the application trusts, as far as can be known. */
  trusted(): readonly string[]
  /** Until aborted. */
  run(signal: AbortSignal): Promise<void>
}

const RETRY = { baseMs: 500, capMs: 60_000 }
/**
 * Between two changes: whoever resolved `..data` has as long to read, and a bundle and a certificate that come together are
 * one change.
 */
const SHORTEST_MS = 1_000

/** With what a process before has left; a volume that cannot be read counts as empty. */
export async function openCertFiles(options: CertFilesOptions): Promise<CertFiles> {
  const volume = certVolume(options.dir)
  const found = await volume.current()
  if (found) {
    await volume.tidy().catch(() => {}) // tried again before the next change
    options.observe(described('found', found))
  }
  return new Keeper(options, volume, found)
}

class Keeper implements CertFiles {
  readonly inForce: Settable<Generation | undefined>
  readonly #options: CertFilesOptions
  readonly #volume: CertVolume
  readonly #announcer: Announcer
  /** The sidecar's; at first what the files hold, which may outlive what the sidecar could restore. */
  #own: KeyAndChain | undefined
  #isOurs = false

  constructor(options: CertFilesOptions, volume: CertVolume, found: Generation | undefined) {
    this.#options = options
    this.#volume = volume
    this.#announcer = new Announcer(options)
    this.#own = found && keyAndChainIn(found.files)
    this.inForce = live(found)
  }

  trusted(): readonly string[] {
    return rootsIn(this.#announcer.known?.files ?? {})
  }

  async run(signal: AbortSignal): Promise<void> {
    try {
      const found = this.inForce.get()
      if (found) await this.#announcer.resume(found, signal)
      await this.#follow(signal)
    } catch (thrown) {
      if (!signal.aborted) throw thrown
      await this.#announcer.settled()
    }
  }

  async #follow(signal: AbortSignal): Promise<never> {
    const { credential, bundle, clock, random, observe } = this.#options
    const wanted = joined(credential, bundle, (own, roots) => this.#wanted(own, roots))
    const isNew = (files: Files | undefined): files is Files =>
      files !== undefined && !sameFiles(this.inForce.get()?.files, files)
    for (let failures = 0; ; ) {
      const files = await until(wanted, isNew, signal)
      try {
        await this.#change(files, signal)
        failures = 0
      } catch (thrown) {
        const error = asPosternError(thrown, 'PSTN_CERT_FILES_UNWRITTEN')
        failures += 1
        const retryMs = backoffMs(RETRY, failures - 1, random())
        observe({ kind: 'unwritten', error, failures, retryMs })
        await clock.sleep(retryMs, signal)
        continue
      }
      await clock.sleep(SHORTEST_MS, signal)
    }
  }

  #wanted(own: Credential | undefined, bundle: TrustBundle | undefined): Files | undefined {
    // Taken back, where there was one; after a restart there may be none yet.
    if (own || this.#isOurs) this.#own = own
    this.#isOurs ||= own !== undefined
    if (!bundle || (!this.#own && !this.#isOurs)) return undefined
    return layout(this.#own, bundle)
  }

  async #change(files: Files, signal: AbortSignal): Promise<void> {
    const { clock, observe } = this.#options
    const isFirst = this.inForce.get() === undefined
    const generation = await this.#volume.swap(files, new Date(clock.now()))
    if (!keyAndChainIn(files)) await this.#volume.tidy().catch(() => {}) // the former key with them
    this.inForce.set(generation)
    observe(described('written', generation))
    if (isFirst) await this.#announcer.knows(generation)
    else await this.#announcer.tell(generation, signal)
  }
}

function described(kind: 'written' | 'found', { directory, files }: Generation) {
  const leaf = leafIn(files)
  return { kind, directory, ...(leaf && { leaf }), roots: rootsIn(files).length }
}
