// A strict reader of Protocol Buffers' wire format, enough for the one message that the Workload API sends. It takes one
// level at a time and never calls itself, so that nesting in the input cannot grow the stack; a library would cost each
// sidecar megabytes. Source: protobuf.dev, "Encoding".

export class ProtobufError extends Error {
  override readonly name = 'ProtobufError'
}

/** A field of wire type 2, the only one whose content Postern reads. A view into the bytes that were read. */
export type ProtobufField = { readonly number: number; readonly content: Buffer }

const WIRE = { varint: 0, fixed64: 1, lengthDelimited: 2, fixed32: 5 } as const

const MAX_FIELDS = 4096
/** Ten groups of seven bits hold 64. */
const MAX_VARINT_BYTES = 10
const MAX_FIELD_NUMBER = 2 ** 29 - 1

/** The length-delimited fields in their order; numbers of other wire types are passed over. @throws ProtobufError */
export function readFields(bytes: Buffer): ProtobufField[] {
  const fields: ProtobufField[] = []
  let count = 0
  for (let offset = 0; offset < bytes.length; count += 1) {
    if (count === MAX_FIELDS) throw new ProtobufError(`more than ${MAX_FIELDS} fields`)
    const tag = readVarint(bytes, offset)
    const number = Math.floor(tag.value / 8)
    if (number === 0 || number > MAX_FIELD_NUMBER) throw new ProtobufError(`a field of number ${number}`)
    const { start, end } = extentOf(bytes, tag.value % 8, tag.end)
    if (end > bytes.length) throw new ProtobufError(`field ${number} reaches behind the end`)
    if (tag.value % 8 === WIRE.lengthDelimited) fields.push({ number, content: bytes.subarray(start, end) })
    offset = end
  }
  return fields
}

/** Where the content of a value begins and ends. */
function extentOf(bytes: Buffer, wireType: number, offset: number): { start: number; end: number } {
  switch (wireType) {
    case WIRE.varint:
      return { start: offset, end: readVarint(bytes, offset).end }
    case WIRE.fixed64:
      return { start: offset, end: offset + 8 }
    case WIRE.fixed32:
      return { start: offset, end: offset + 4 }
    case WIRE.lengthDelimited: {
      const length = readVarint(bytes, offset)
      return { start: length.end, end: length.end + length.value }
    }
    default:
      throw new ProtobufError(`wire type ${wireType}`)
  }
}

/** Beyond 2^53 a value is not exact; no tag and no length that passes the checks is as large. */
function readVarint(bytes: Buffer, offset: number): { value: number; end: number } {
  let value = 0
  for (let index = 0; index < MAX_VARINT_BYTES; index += 1) {
    const byte = bytes[offset + index]
    if (byte === undefined) throw new ProtobufError('the input ends within a number')
    value += (byte & 0x7f) * 2 ** (7 * index)
    if (byte < 0x80) return { value, end: offset + index + 1 }
  }
  throw new ProtobufError('a number of more than ten bytes')
}

/**
 * The field of this number, which must not be there twice: where the format says that the last one counts, two readers
 * could disagree. Undefined: it has its default, an empty value.
 * @throws ProtobufError
 */
export function onlyField(fields: readonly ProtobufField[], number: number): Buffer | undefined {
  const [field, ...more] = fields.filter(candidate => candidate.number === number)
  if (more.length > 0) throw new ProtobufError(`field ${number} occurs more than once`)
  return field && field.content.length > 0 ? field.content : undefined
}
