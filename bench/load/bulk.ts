// One long stream in one direction, by curl, its length checked.
import { join } from 'node:path'
import { APP_UID, BULK_BYTES } from '../stage.ts'
import type { Running } from '../subject.ts'

export type Direction = 'download' | 'upload'

/** Seconds for 1 GiB. @throws when another number of bytes arrived. */
export async function transfer(running: Running, direction: Direction): Promise<number> {
  const { host, port } = running.address(direction === 'download' ? 'web' : 'raw')
  const { client } = running.place
  const quiet = ['--silent', '--show-error', '--fail', '--http1.1', '--max-time', '120']
  const base = `http://${host}:${port}`
  if (direction === 'download') {
    const write = ['--output', '/dev/null', '--write-out', '%{time_total} %{size_download}']
    const [seconds, bytes] = (
      await client.check('curl', [...quiet, ...write, `${base}/1g`], { uid: APP_UID })
    ).split(' ')
    return checked(Number(seconds), Number(bytes))
  }
  const write = ['--header', 'Expect:', '--write-out', '%{time_total}']
  const source = ['--upload-file', join(running.place.www, '1g')]
  const [bytes, seconds] = (
    await client.check('curl', [...quiet, ...write, ...source, `${base}/upload`], { uid: APP_UID })
  ).split('\n')
  return checked(Number(seconds), Number(bytes))
}

function checked(seconds: number, bytes: number): number {
  if (bytes !== BULK_BYTES) throw new Error(`${bytes} of ${BULK_BYTES} bytes arrived`)
  return seconds
}
