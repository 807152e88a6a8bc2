// From words to an exit code: finds the command, reads its options, prints help and errors. Pure but for what it is given.
import { parseArgs } from 'node:util'
import { PosternError } from '../shared/errors.ts'
import type { Kube } from '../shared/kube/rest.ts'
import { didYouMean } from '../shared/suggest.ts'
import { type Command, type Option, UsageError } from './command.ts'
import type { Cluster } from './kubeconfig.ts'
import { createOutput, formatTable, type Sink } from './output.ts'

export type Environment = {
  readonly commands: readonly Command[]
  readonly sink: Sink
  readonly signal: AbortSignal
  readonly version: string
  connect(cluster: Cluster): Promise<Kube>
}

const GLOBAL: Readonly<Record<string, Option>> = {
  kubeconfig: { type: 'string', help: 'a kubeconfig file in place of $KUBECONFIG and ~/.kube/config' },
  context: { type: 'string', help: 'a context of it in place of the current one' },
  json: { type: 'boolean', help: 'print one JSON document' },
  help: { type: 'boolean', help: 'say how to use it' },
}

/** 0 done; 1 bad news or a failure; 2 what was typed makes no sense. Never rejects. */
export async function run(words: readonly string[], environment: Environment): Promise<number> {
  const { sink, commands } = environment
  try {
    const command = find(words, commands)
    if (command) return await execute(command, words.slice(command.name.split(' ').length), environment)
    if (words[0] === 'version') return print(sink, `${environment.version}\n`)
    const isHelp = words.length === 0 || words.includes('--help') || words[0] === 'help'
    if (!isHelp) throw unknown(words, commands)
    return print(sink, overview(commands))
  } catch (thrown) {
    if (environment.signal.aborted) return 130
    const { message } = thrown instanceof Error ? thrown : new Error(String(thrown))
    const code = thrown instanceof PosternError ? `${thrown.code}: ` : ''
    sink.err(`postern: ${code}${message}\n`)
    return thrown instanceof UsageError ? 2 : 1
  }
}

async function execute(
  command: Command,
  words: readonly string[],
  { sink, connect, signal }: Environment,
): Promise<number> {
  const { values, positionals } = parse(command, words)
  if (values.help) return print(sink, helpOf(command))
  const cluster = { kubeconfig: text(values.kubeconfig), context: text(values.context) }
  let kube: Promise<Kube> | undefined
  try {
    return await command.run({
      args: positionals,
      options: values,
      out: createOutput(sink, values.json === true),
      cluster,
      kube: () => {
        kube ??= connect(cluster)
        return kube
      },
      signal,
    })
  } finally {
    const connected = await kube?.catch(() => undefined)
    connected?.[Symbol.dispose]()
  }
}

type Values = Record<string, string | boolean | (string | boolean)[] | undefined>

function parse(command: Command, words: readonly string[]): { values: Values; positionals: string[] } {
  try {
    const options = { ...GLOBAL, ...command.options }
    return parseArgs({ args: [...words], options, allowPositionals: true })
  } catch (thrown) {
    const reason = thrown instanceof Error ? thrown.message : String(thrown)
    throw new UsageError(`${reason}\n${usageOf(command)}`)
  }
}

const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)

/** The longest name that the words begin with. */
function find(words: readonly string[], commands: readonly Command[]): Command | undefined {
  const typed = `${words.join(' ')} `
  return commands
    .filter(({ name }) => typed.startsWith(`${name} `))
    .sort((a, b) => b.name.length - a.name.length)[0]
}

function unknown(words: readonly string[], commands: readonly Command[]): UsageError {
  const typed = words.filter(word => !word.startsWith('-')).join(' ')
  const names = commands.map(({ name }) => name)
  const hint = didYouMean(typed, names) || `; there are ${names.join(', ')}`
  return new UsageError(`there is no command ${JSON.stringify(typed)}${hint}`)
}

function print(sink: Sink, what: string): number {
  sink.out(what)
  return 0
}

const usageOf = ({ name, usage = '' }: Command): string => `usage: postern ${name} ${usage}`.trimEnd()

function helpOf(command: Command): string {
  const options = Object.entries({ ...command.options, ...GLOBAL })
  const rows = options.map(([name, { type, help }]) => [`  --${name}${type === 'string' ? ' …' : ''}`, help])
  return `${usageOf(command)}\n${command.summary}\n\n${formatTable(rows)}`
}

function overview(commands: readonly Command[]): string {
  const rows = commands.map(({ name, usage = '', summary }) => [`  ${name} ${usage}`.trimEnd(), summary])
  return `usage: postern <command> [--help]\n\n${formatTable([...rows, ['  version', 'the version of this program']])}`
}
