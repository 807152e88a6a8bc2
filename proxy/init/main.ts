// The init container: installs the rules, proves that they capture, and ends. It runs as uid 0 with NET_ADMIN alone.
import { failure, type Logger } from '../../shared/log.ts'
import { applyRules } from './apply.ts'
import { proofTargets, proveOutbound } from './proof.ts'
import { type RuleOptions, rules } from './rules.ts'

/** Returns the exit status. A failure fails the pod: an application must never start uncaptured. */
export async function runInit(options: RuleOptions, log: Logger): Promise<0 | 1> {
  try {
    await applyRules(rules(options))
    const proofs = await proveOutbound(proofTargets(options))
    log.info({ proofs }, 'interception installed')
    return 0
  } catch (thrown) {
    log.error(failure(thrown, 'PSTN_INTERCEPTION'), 'interception failed')
    return 1
  }
}
