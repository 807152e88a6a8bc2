// How the images start Node, for what runs their programs outside of an image: tests on network namespaces and bench/.
// A test compares it with images/entrypoint.sh.

/**
 * V8's young generation grows to 16 MiB a half under load and stays there; with 4 the collector has as little to do, since
 * little survives of a connection (docs/adr/0006).
 */
export const NODE_FLAGS: readonly string[] = [
  '--disable-warning=ExperimentalWarning',
  '--max-semi-space-size=4',
]
