// What happens to the files of `postern.dev/cert-files`, for log and metrics (proxy/observe/cert-files.ts).
import type { PosternError } from '../../shared/errors.ts'
import type { Leaf } from './layout.ts'

export type CertFilesEvent =
  /** These files are in force: just written, or found as a process before has left them. */
  | {
      readonly kind: 'written' | 'found'
      readonly directory: string
      /** Absent where the identity was taken back: then there is no key either. */
      readonly leaf?: Leaf
      readonly roots: number
    }
  | {
      readonly kind: 'unwritten'
      readonly error: PosternError
      /** In a row. */
      readonly failures: number
      readonly retryMs: number
    }
  /** The application is to be told. */
  | { readonly kind: 'hook-due' }
  | { readonly kind: 'hook-answered'; readonly attempt: number; readonly tookMs: number }
  /** Without `retryMs` nobody asks again until the files change, or the sidecar restarts. */
  | {
      readonly kind: 'hook-failed'
      readonly error: PosternError
      readonly attempt: number
      readonly retryMs?: number
    }
