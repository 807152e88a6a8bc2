import t from 'tap'
import { type Command, type CommandContext, UsageError } from '../../../cli/command.ts'
import { PosternError } from '../../../shared/errors.ts'
import { typed as typedAt } from '../../support/command-line.ts'

/** Runs the words against the commands; `code` is the exit code. */
const typed = (words: string, ...commands: Command[]) =>
  typedAt(words.split(' ').filter(Boolean), {
    commands,
    version: '1.2.3',
    connect: () => Promise.reject(new PosternError('PSTN_CONFIG_INVALID', 'no cluster')),
  })

const command = (name: string, act: (context: CommandContext) => Promise<number>): Command => ({
  name,
  usage: '<what>',
  summary: 'Does it.',
  options: { loud: { type: 'boolean', help: 'shout' } },
  run: act,
})

const echo = command('say it', async ({ args, options, out }) => {
  if (out.json) out.document({ args })
  else out.table(['WORD', 'LOUD'], [[args.join(), String(options.loud)]])
  return 0
})

t.test('a command is found by the longest name, and gets its arguments and options', async t => {
  const { code, out } = await typed(
    'say it hello --loud',
    command('say', async () => 1),
    echo,
  )
  t.same([code, out], [0, 'WORD   LOUD\nhello  true\n'])
})

t.test('--json makes the answer one document', async t => {
  const { out } = await typed('say it hello --json', echo)
  t.same(JSON.parse(out), { args: ['hello'] })
})

t.test('--help of a command says how to use it, and runs nothing', async t => {
  const { code, out } = await typed(
    'say it --help',
    command('say it', async () => 1),
  )
  t.equal(code, 0)
  t.match(out, /^usage: postern say it <what>\nDoes it\.\n\n {2}--loud +shout\n/)
})

t.test('without words every command is listed', async t => {
  const { code, out } = await typed('', echo)
  t.equal(code, 0)
  t.match(out, 'say it <what>  Does it.')
})

t.test('the version is printed alone', async t => {
  t.same(await typed('version', echo), { code: 0, out: '1.2.3\n', err: '' })
})

t.test('a misspelt command is refused with what it may have meant', async t => {
  const { code, err } = await typed('say at', echo)
  t.same([code, err], [2, 'postern: there is no command "say at"; did you mean say it?\n'])
})

t.test('an unknown option is refused with the usage', async t => {
  const { code, err } = await typed('say it --lod', echo)
  t.equal(code, 2)
  t.match(err, /--lod.*usage: postern say it <what>/s)
})

t.test('a usage error is exit code 2, a failure is 1 with its code', async t => {
  const wrong = command('a', () => Promise.reject(new UsageError('name a pod')))
  t.same(await typed('a', wrong), { code: 2, out: '', err: 'postern: name a pod\n' })
  const failing = command('b', async ({ kube }) => {
    await kube()
    return 0
  })
  t.same(await typed('b', failing), { code: 1, out: '', err: 'postern: PSTN_CONFIG_INVALID: no cluster\n' })
})
