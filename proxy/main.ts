#!/usr/bin/env node
// The sidecar's process: `run` (the default) is the proxy, `init` installs the interception and ends. Whatever is not
// handled anywhere ends the process with a log line; the kubelet starts it again, and its state volume has survived.
import { systemClock } from '../shared/clock.ts'
import { PosternError } from '../shared/errors.ts'
import { createLogger, failure, flushed, type Logger } from '../shared/log.ts'
import { VERSION } from '../shared/version.ts'
import { podListeners } from './accept/pod-listeners.ts'
import { startProxy } from './app.ts'
import { type ProxyConfig, readConfig } from './config.ts'
import { runInit } from './init/main.ts'

async function run(config: ProxyConfig, log: Logger): Promise<void> {
  await using proxy = await startProxy({
    config,
    listeners: podListeners(),
    log,
    clock: systemClock,
    random: Math.random,
    version: VERSION,
  })
  const { promise: terminated, resolve } = Promise.withResolvers<void>()
  for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => resolve())
  await Promise.race([terminated, proxy.ended])
  await proxy.drain()
}

async function main(command = 'run'): Promise<number> {
  if (command !== 'run' && command !== 'init') {
    throw new PosternError('PSTN_CONFIG_INVALID', `unknown command ${command}: one of run, init`)
  }
  const config = readConfig()
  const { settings, pod } = config
  const component = command === 'run' ? 'proxy' : 'init'
  const log = createLogger(component, settings.logLevel, { pod: pod.name, namespace: pod.namespace })
  if (command === 'init') return runInit(settings, log)
  await run(config, log)
  log.info('ended')
  await flushed(log)
  return 0
}

function die(thrown: unknown): never {
  createLogger('proxy', 'error').fatal(failure(thrown, 'PSTN_CONFIG_INVALID'), 'giving up')
  process.exit(1)
}

process.on('uncaughtException', die)
process.on('unhandledRejection', die)
process.exit(await main(process.argv[2]).catch(die))
