// The version of this build, as package.json has it; in a bundle it is a constant.
import manifest from '../package.json' with { type: 'json' }

export const VERSION: string = manifest.version
