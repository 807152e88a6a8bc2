// The injector's process: configuration, start, and an orderly end at SIGTERM.
import { systemClock } from '../shared/clock.ts'
import { clockSkew } from '../shared/clock-skew.ts'
import { connectKube } from '../shared/kube/rest.ts'
import { endsWithin, shutdownSignal } from '../shared/lifecycle.ts'
import { createLogger, failure, type Logger } from '../shared/log.ts'
import { VERSION } from '../shared/version.ts'
import { startInjector } from './app.ts'
import { type InjectorConfig, readConfig } from './config.ts'

/** Below the pod's terminationGracePeriodSeconds. */
const DRAIN_LIMIT_MS = 25_000

async function run(config: InjectorConfig, log: Logger, shutdown: AbortSignal): Promise<void> {
  const skew = clockSkew(systemClock)
  using kube = connectKube({ ...config.api, onDate: skew.observe })
  const parts = { config, kube, skew, log, clock: systemClock, random: Math.random, version: VERSION }
  await using injector = await startInjector(parts, shutdown)
  if (!shutdown.aborted) {
    await new Promise(resolve => shutdown.addEventListener('abort', resolve, { once: true }))
  }
  log.info('draining')
  if (!(await endsWithin(injector.drain(), DRAIN_LIMIT_MS, systemClock))) log.warn('not drained in time')
}

const shutdown = shutdownSignal()
let log = createLogger('injector', 'info')
try {
  const config = readConfig()
  log = createLogger('injector', config.logLevel, { replica: config.replica })
  await run(config, log, shutdown)
  log.info('ended')
} catch (thrown) {
  if (shutdown.aborted) log.info('ended before it was ready')
  else {
    log.error(failure(thrown, 'PSTN_CONFIG_INVALID'), 'the injector cannot run')
    process.exitCode = 1
  }
}
