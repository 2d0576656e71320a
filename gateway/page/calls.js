// The last calls, and where the time of each went.

import { get, ofFunction } from './api.js'
import { h, section, show } from './dom.js'
import { clock, milliseconds } from './format.js'

const WORDS = { queue: 'waited', start: 'replica started', send: 'sent', run: 'ran' }

const word = (phase) => WORDS[phase.name] ?? phase.name

/** What a bar shows of a phase: a start as its parts, drawn to fill it, where they are known. */
function parts(call, phase) {
  const known = phase.name === 'start' ? call.startParts : []
  const sum = known.reduce((ms, part) => ms + part.durationMs, 0)
  if (!sum) return [{ name: phase.name, word: word(phase), ms: phase.durationMs }]
  return known.map((part) => ({ name: phase.name, word: part.name, ms: (phase.durationMs * part.durationMs) / sum }))
}

function told(call, phase) {
  const text = `${word(phase)} ${milliseconds(phase.durationMs)}`
  if (phase.name !== 'start' || !call.startParts.length) return text
  return `${text} (${call.startKind}: ${call.startParts.map((part) => `${part.name} ${milliseconds(part.durationMs)}`).join(', ')})`
}

export function callsPanel(f, signal, onCall) {
  const list = h('ol', { className: 'calls' })
  const none = h('p', { className: 'muted' }, 'No call yet since the platform started.')
  const key = h(
    'p',
    { className: 'legend' },
    Object.entries(WORDS).map(([name, text]) => h('span', { className: `key phase-${name}` }, h('i', { 'aria-hidden': 'true' }), text)),
  )
  let drawn = ''

  async function refresh() {
    const calls = await get(ofFunction(f, '/calls'), { signal })
    const seen = calls.map((call) => call.id).join()
    if (seen === drawn) return
    drawn = seen
    none.hidden = calls.length > 0
    key.hidden = !calls.length
    const longest = Math.max(1, ...calls.map((call) => call.durationMs))
    show(list, calls.map((call) => line(call, longest)))
  }

  function line(call, longest) {
    const whole = call.durationMs || 1
    const bar = h('span', { className: 'bar', 'aria-hidden': 'true' })
    bar.style.width = `${Math.max(2, (100 * call.durationMs) / longest)}%`
    for (const { name, word, ms } of call.phases.flatMap((phase) => parts(call, phase))) {
      const part = h('i', { className: `phase-${name}`, title: `${word}: ${milliseconds(ms)}` })
      part.style.flexGrow = String(Math.max(0.004, ms / whole))
      bar.append(part)
    }
    const said = call.phases.map((phase) => told(call, phase)).join(', ')
    return h(
      'li',
      {},
      h('span', { className: 'muted' }, clock(call.startedAt)),
      h('span', { className: call.status >= 500 ? 'bad' : call.status === 499 ? 'muted' : 'good' }, `${call.method} ${call.status}`),
      h('span', { className: 'took' }, milliseconds(call.durationMs)),
      bar,
      call.phases.length > 1 ? h('span', { className: 'said' }, call.cold ? h('b', {}, 'cold start: ') : null, said) : null,
      h(
        'button',
        { type: 'button', className: 'quiet', 'aria-label': `Logs of call ${call.id}`, title: call.id, onclick: () => onCall(call.id) },
        'logs',
      ),
    )
  }

  return { element: section('Last calls', null, key, none, list), refresh }
}
