// What a port of the application speaks, as far as anybody has declared it. Nothing is detected: a port that nobody
// declares carries opaque bytes, and only the bytes of a declared one are read as requests.
import { type Decode, mapOf, oneOf, portText } from './decode.ts'

/** `http1`: HTTP/1.1. `http2`: HTTP/2 without TLS of its own (h2c), gRPC included. */
export const PROTOCOLS = ['http1', 'http2'] as const
export type Protocol = (typeof PROTOCOLS)[number]

/** By application port; absent: opaque bytes. */
export type Protocols = { readonly [port: string]: Protocol }

export const decodeProtocols: Decode<Protocols> = mapOf(portText, oneOf<Protocol>(PROTOCOLS))

export const NO_PROTOCOLS: Protocols = Object.freeze({})

export const protocolOf = (protocols: Protocols, port: number): Protocol | undefined =>
  Object.hasOwn(protocols, port) ? protocols[port] : undefined
