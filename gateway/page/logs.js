// What the function wrote, as it comes; or what one call of it wrote.

import { lines, request } from './api.js'
import { h, say, section, show } from './dom.js'

const TAIL = 200
const MOST_LINES = 2000
const RETRY_MS = 2000

export function logsPanel(f, signal) {
  const output = h('div', { className: 'logs', tabIndex: 0, role: 'log', 'aria-label': `Output of ${f.name}`, 'aria-live': 'off' })
  const state = h('span', { className: 'muted' })
  const call = h('button', { type: 'button', className: 'chip', hidden: true, onclick: () => only('') })
  let run = null
  let id = ''
  let pending = []

  function only(callId) {
    id = callId
    call.hidden = !id
    say(call, id ? `call ${id} ✕` : '')
    call.setAttribute('aria-label', `Show all calls again, not only ${id}`)
    show(output)
    start()
    if (id) output.scrollIntoView({ block: 'nearest' })
  }

  async function start() {
    run?.abort()
    const mine = (run = new AbortController())
    signal.addEventListener('abort', () => mine.abort(), { once: true })
    let since = ''
    while (!mine.signal.aborted) {
      try {
        const query = new URLSearchParams({ name: f.name, namespace: f.namespace, follow: 'true', tail: since ? '0' : String(TAIL) })
        if (since) query.set('since', since)
        if (id) query.set('call', id)
        say(state, 'following')
        const answer = await request('GET', `/system/logs?${query}`, { signal: mine.signal })
        for await (const line of lines(answer)) {
          if (!line) continue
          const entry = JSON.parse(line)
          if (entry.timestamp === since) continue
          since = entry.timestamp
          pending.push(entry)
          if (pending.length === 1) requestAnimationFrame(flush)
        }
      } catch (error) {
        if (mine.signal.aborted || error.status === 404) break
        say(state, 'interrupted; trying again')
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
    }
  }

  function flush() {
    const [entries, last] = [pending.slice(-MOST_LINES), output]
    pending = []
    const follows = last.scrollHeight - last.scrollTop - last.clientHeight < 40
    output.append(...entries.map(row))
    while (output.children.length > MOST_LINES) output.firstChild.remove()
    if (follows) output.scrollTop = output.scrollHeight
  }

  function row(entry) {
    const at = new Date(entry.timestamp)
    const time = `${at.toTimeString().slice(0, 8)}.${String(at.getMilliseconds()).padStart(3, '0')}`
    const of = entry.callId
    return h(
      'div',
      {},
      h('time', { dateTime: entry.timestamp, title: `${entry.timestamp} ${entry.instance}` }, time),
      h('span', { className: 'text' }, entry.text),
      of && !id ? h('button', { type: 'button', className: 'quiet', title: `Only call ${of}`, 'aria-label': `Only call ${of}`, onclick: () => only(of) }, of.slice(-6)) : null,
    )
  }

  return { element: section('Logs', h('span', { className: 'tools' }, call, state), output), start, only }
}
