'use strict'
// What the platform tells a replica, read from the environment once.

const UNITS_MS = { ns: 1e-6, us: 1e-3, 'µs': 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 }
const DEFAULT_TIMEOUT_MS = 60_000
const LONGEST_TIMEOUT_MS = 24 * 3_600_000
const MIB = 1024 * 1024

function readSettings (env) {
  const timeout = (env.exec_timeout ?? '').trim()
  const timeoutMs = timeout ? parseDurationMs(timeout) : DEFAULT_TIMEOUT_MS
  if (timeoutMs === null) throw new Error(`exec_timeout='${timeout}': a duration such as 60s, 1m30s or 500ms`)
  return {
    listenFd: env.PINNACE_LISTEN_FD ? count('PINNACE_LISTEN_FD', env.PINNACE_LISTEN_FD) : null,
    notifyFd: env.PINNACE_NOTIFY_FD ? count('PINNACE_NOTIFY_FD', env.PINNACE_NOTIFY_FD) : null,
    port: count('PORT', env.PORT || '8080'),
    logFrames: env.PINNACE_LOG_FRAMES === '1',
    timeoutMs: Math.min(timeoutMs || LONGEST_TIMEOUT_MS, LONGEST_TIMEOUT_MS), // 0 is "off" in OpenFaaS; here every wait has a limit
    maxInflight: count('max_inflight', env.max_inflight || '0'),
    contentType: (env.content_type ?? '').trim(),
    rawBody: env.RAW_BODY === 'true',
    bodyLimit: (name => size(name, env[name] || '100mb'))(env.RAW_BODY === 'true' ? 'MAX_RAW_SIZE' : 'MAX_JSON_SIZE')
  }
}

// Return milliseconds for a Go duration (`1m30s`) or a bare number of seconds, null for anything else.
function parseDurationMs (text) {
  if (/^\d+(\.\d*)?$/.test(text)) return Number(text) * 1000
  if (!/^(\d+(\.\d*)?(ns|us|µs|ms|s|m|h))+$/.test(text)) return null
  let total = 0
  for (const [, number, unit] of text.matchAll(/(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)/g)) total += Number(number) * UNITS_MS[unit]
  return total
}

function count (name, text) {
  if (!/^\d{1,9}$/.test(text)) throw new Error(`${name}='${text}': a whole number, 0 or more`)
  return Number(text)
}

function size (name, text) {
  const found = /^(\d+(?:\.\d+)?)\s*(b|kb|mb|gb)?$/i.exec(text.trim())
  if (!found) throw new Error(`${name}='${text}': a size such as 100kb or 10mb`)
  return Math.floor(Number(found[1]) * { b: 1, kb: 1024, mb: MIB, gb: 1024 * MIB }[(found[2] ?? 'b').toLowerCase()])
}

module.exports = { readSettings, parseDurationMs }
