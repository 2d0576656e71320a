// Figures as people read them: few digits, a unit, and nothing where there is nothing to say.

const WHOLE = new Intl.NumberFormat('en')

export const count = (n) => (n < 100000 ? WHOLE.format(n) : n < 1e6 ? `${Math.round(n / 1000)}k` : `${(n / 1e6).toFixed(1)}M`)

export function rate(n) {
  if (!n) return '0'
  if (n < 10) return n.toFixed(1)
  return count(Math.round(n))
}

export function milliseconds(ms) {
  if (ms === null || ms === undefined) return '–'
  if (ms < 1) return `${ms.toFixed(2)} ms`
  if (ms < 10) return `${ms.toFixed(1)} ms`
  if (ms < 1000) return `${Math.round(ms)} ms`
  if (ms < 60000) return `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`
  const rest = Math.round((ms % 60000) / 1000)
  return `${Math.floor(ms / 60000)} min${rest ? ` ${rest} s` : ''}`
}

export function percent(part, whole) {
  if (!whole || !part) return '0'
  const value = (100 * part) / whole
  return value < 0.1 ? '<0.1 %' : value < 10 ? `${value.toFixed(1)} %` : `${Math.round(value)} %`
}

export function ago(time) {
  if (!time) return ''
  const s = Math.max(0, (Date.now() - Date.parse(time)) / 1000)
  if (s < 120) return `${Math.round(s)} s ago`
  if (s < 7200) return `${Math.round(s / 60)} min ago`
  if (s < 172800) return `${Math.round(s / 3600)} h ago`
  return `${Math.round(s / 86400)} days ago`
}

const TIME = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false })
const MINUTE = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', hour12: false })

export const clock = (seconds) => TIME.format(new Date(seconds * 1000))
export const minute = (seconds) => MINUTE.format(new Date(seconds * 1000))

const DAY = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' })

/** A time of today, or a day and a time. */
export function moment(seconds) {
  const at = new Date(seconds * 1000)
  return at.toDateString() === new Date().toDateString() ? TIME.format(at) : `${DAY.format(at)} ${MINUTE.format(at)}`
}

export function bytes(n) {
  if (n < 1024) return `${n} B`
  if (n < 1048576) return `${(n / 1024).toFixed(1)} KiB`
  return `${(n / 1048576).toFixed(1)} MiB`
}

export const plural = (n, noun) => `${count(n)} ${noun}${n === 1 ? '' : 's'}`
