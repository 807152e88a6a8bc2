// Reading into one buffer that all sockets share (net's `onread`). Node otherwise makes a buffer for every read, 16 KiB for
// each TLS record, and collects them: a third of what a bulk transfer costs its receiver.

const shared = Buffer.allocUnsafeSlow(64 * 1024)

/** The reads of one socket that is to be connected; it emits no 'data'. */
export class LentReads {
  /** Is lent each chunk: it is overwritten by the next read, of whatever socket. */
  reader: (chunk: Buffer) => void = () => {}
  /** For net.connect and tls.connect. */
  readonly onread = {
    buffer: shared,
    callback: (bytes: number): boolean => {
      this.reader(shared.subarray(0, bytes))
      return true
    },
  }
}
