// The alert rules that ship, by Prometheus' own tool: each case is a time series and what it must raise, or not.
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { requireCommands } from '../../support/requirements.ts'
import { scratchDirectory } from '../../support/scratch.ts'
import { projectRoot } from '../../support/source-files.ts'

const RULES = join(projectRoot, 'deploy/prometheus/rules.yaml')
const CASES = join(projectRoot, 'test/vectors/alerts.yaml')

const rules = readFileSync(RULES, 'utf8')
const cases = readFileSync(CASES, 'utf8')
const lacking = requireCommands('promtool')

function promtool(...args: string[]) {
  const { status, stdout, stderr } = spawnSync('promtool', args, { encoding: 'utf8' })
  return { status, says: stdout + stderr }
}

t.test('the rules parse, and raise what they should when they should', { skip: lacking }, async t => {
  for (const { status, says } of [promtool('check', 'rules', RULES), promtool('test', 'rules', CASES)])
    t.equal(status, 0, says)
})

t.test('a rule that is wrong is seen', { skip: lacking }, async t => {
  const directory = scratchDirectory(t)
  const file = (name: string, text: string) => {
    writeFileSync(join(directory, name), text)
    return join(directory, name)
  }
  const wrong = file('rules.yaml', rules.replace('< 0.25', '< 0.9'))
  const { status, says } = promtool(
    'test',
    'rules',
    file('cases.yaml', cases.replace(/rule_files: .*/, `rule_files: [${wrong}]`)),
  )
  t.not(status, 0)
  t.match(says, 'PosternCertificateLate')
})

type Rules = {
  readonly groups: readonly { readonly rules: readonly { readonly alert: string; readonly expr: string }[] }[]
}
const alerts = (parse(rules) as Rules).groups.flatMap(group => group.rules)

t.test('each alert is tried, and explained where people look at night', async t => {
  const page = readFileSync(join(projectRoot, 'docs/operations.md'), 'utf8')
  for (const { alert } of alerts) {
    t.match(cases, `alertname: ${alert}\n`, alert)
    t.match(page, `\`${alert}\``, alert)
  }
})

t.test('each metric that a rule names exists', async t => {
  const metrics = readFileSync(join(projectRoot, 'docs/metrics.md'), 'utf8')
  const named = alerts.flatMap(({ expr }) => expr.match(/postern_[a-z_]+/g) ?? [])
  t.ok(named.length > alerts.length)
  for (const metric of named) t.match(metrics, `\`${metric}\``, metric)
})
