// The version of this build. package.json is not read for it: a bundle has none. A test compares the two.

export const VERSION = '0.1.0'
