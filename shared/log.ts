// One JSON line per event, through pino. Keys are fixed so that a search works across sidecars and injectors.
import { type Logger as PinoLogger, pino } from 'pino'
import { asPosternError, type Code } from './errors.ts'

export type Logger = PinoLogger
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/** `component` is `proxy`, `injector` or `init`; `fields` are repeated on each line (pod, namespace). */
export function createLogger(
  component: string,
  level: LogLevel,
  fields: Record<string, string> = {},
): Logger {
  return pino({
    level,
    base: { component, ...fields },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: label => ({ level: label }) },
    messageKey: 'msg',
  })
}

/** The fields of a failure line: stable code and message, never a stack for what is expected. */
export function failure(thrown: unknown, fallback: Code): { code: Code; error: string } {
  const { code, message } = asPosternError(thrown, fallback)
  return { code, error: message }
}
