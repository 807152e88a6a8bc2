#!/usr/bin/env node
// The command line: what operators ask of a mesh and tell it to do.
import { VERSION } from '../shared/version.ts'
import { caRevokeRoot } from './ca/revoke-root.ts'
import { caRotate } from './ca/rotate.ts'
import { caStatus } from './ca/status.ts'
import { certs } from './certs/list.ts'
import { certsRenew } from './certs/renew.ts'
import { certsRevoke } from './certs/revoke.ts'
import type { Command } from './command.ts'
import { connectCluster } from './kubeconfig.ts'
import { partners } from './partners/list.ts'
import { policyConvert } from './policy/convert.ts'
import { policyDiff } from './policy/diff.ts'
import { policyExplain } from './policy/explain.ts'
import { policyStatus } from './policy/status.ts'
import { policyTest } from './policy/test.ts'
import { policyValidate } from './policy/validate.ts'
import { run } from './run.ts'

const COMMANDS: readonly Command[] = [
  caStatus,
  caRotate,
  caRevokeRoot,
  certsRevoke,
  certsRenew,
  certs,
  partners,
  policyValidate,
  policyTest,
  policyExplain,
  policyDiff,
  policyConvert,
  policyStatus,
]

const interrupted = new AbortController()
process.once('SIGINT', () => interrupted.abort())
process.exitCode = await run(process.argv.slice(2), {
  commands: COMMANDS,
  sink: { out: text => process.stdout.write(text), err: text => process.stderr.write(text) },
  signal: interrupted.signal,
  version: VERSION,
  connect: connectCluster,
})
