// Asynchronous calls: how full the queues are, which calls wait, run or were given up, and what can be done with them.

import { get, ofFunction, request } from './api.js'
import { announce, confirm, h, say, section, show, showAnew } from './dom.js'
import { bytes, count, milliseconds, moment, plural } from './format.js'
import { fateOf, openCall, TONES } from './queued_call.js'

const POLL_MS = 2000
const PAGE = 25
const STATES = { '': 'All', waiting: 'Waiting', running: 'Running', dead: 'Dead', succeeded: 'Succeeded', cancelled: 'Cancelled' }
const HEADS = [['Call'], ['State'], ['Submitted', 'wide'], ['Attempts', 'num wide'], ['']]

/** All queues, and the calls of one or of all of them. */
export function queuesView() {
  const stop = new AbortController()
  const totals = h('p', { className: 'totals' })
  const queues = h('div', {})
  const list = callList(null, stop.signal, refresh)

  async function refresh() {
    const found = await get('/api/v1/async/queues', { signal: stop.signal })
    const sum = (figure) => found.reduce((n, row) => n + row[figure], 0)
    const lateS = Math.max(0, ...found.map((row) => row.lateS))
    show(totals, figuresOf({ waiting: sum('waiting'), running: sum('running'), dead: sum('dead'), lateS }))
    showAnew(queues, found.length ? queueTable(found, refresh) : h('p', { className: 'muted' }, 'No call waits, runs or is dead.'))
    await list.refresh()
  }

  const element = h(
    'div',
    {},
    h('div', { className: 'title' }, h('h1', {}, 'Asynchronous calls'), totals),
    section('Queues', null, queues),
    list.element,
  )
  return { element, ...polling(refresh, stop, element) }
}

/** The asynchronous calls of one function; hidden where the gateway keeps none. `onLogs` shows what a call wrote. */
export function queuePanel(f, signal, onLogs) {
  const figures = h('p', { className: 'totals' })
  const list = callList(f, signal, refresh, figures, onLogs)
  list.element.hidden = true

  async function refresh() {
    const found = await get('/api/v1/async/queues', { signal }).catch((error) => (error.status === 404 ? null : Promise.reject(error)))
    if (!found) return
    const own = found.find((row) => row.queue === `${f.name}.${f.namespace}`)
    showAnew(figures, own ? figuresOf(own) : null, own?.dead ? replayAll(own, refresh) : null)
    await list.refresh()
    list.element.hidden = false
  }

  return { element: list.element, refresh }
}

const overdue = (row) => (row.lateS ? milliseconds(1000 * row.lateS) : '–')

const figuresOf = (row) =>
  [
    [count(row.waiting), ' waiting'],
    [count(row.running), ' running'],
    [count(row.dead), ' dead'],
    [overdue(row), ' overdue'],
  ].map(([figure, name]) => h('span', {}, h('b', {}, figure), name))

function polling(refresh, stop, element) {
  let timer = 0
  let busy = false
  async function poll() {
    if (busy || document.hidden) return
    busy = true
    try {
      await refresh()
    } catch (error) {
      if (error.status === 404) {
        clearInterval(timer)
        show(element, h('h1', {}, 'Asynchronous calls'), h('p', { className: 'panel' }, 'This gateway keeps no asynchronous calls.'))
      } // else the bar on top says that nobody answers
    }
    busy = false
  }
  return {
    enter() {
      poll()
      timer = setInterval(poll, POLL_MS)
    },
    leave() {
      clearInterval(timer)
      stop.abort()
    },
  }
}

function queueTable(found, refresh) {
  const row = (one) =>
    h(
      'tr',
      {},
      h('th', { scope: 'row' }, whose(one)),
      h('td', { className: 'num' }, count(one.waiting)),
      h('td', { className: 'num' }, count(one.running)),
      h('td', { className: `num ${one.dead ? 'bad' : ''}` }, count(one.dead)),
      h('td', { className: 'num' }, overdue(one)),
      h('td', { className: 'num wide' }, bytes(one.bytes)),
      h('td', { className: 'num' }, one.dead && !kindOf(one) ? replayAll(one, refresh) : null),
    )
  const heads = headings([['Queue'], ['Waiting', 'num'], ['Running', 'num'], ['Dead', 'num'], ['Overdue', 'num'], ['Size', 'num wide'], ['']])
  return h(
    'div',
    { className: 'scroll' },
    h(
      'table',
      {},
      h('thead', {}, h('tr', {}, heads)),
      h('tbody', {}, found.map(row)),
    ),
  )
}

const headings = (columns) => columns.map(([text, className]) => (text ? h('th', { scope: 'col', className: className ?? '' }, text) : h('td', {})))

const kindOf = (row) => row.queue.split('#')[1] ?? ''

function whose(row) {
  const href = `#/f/${encodeURIComponent(row.namespace)}/${encodeURIComponent(row.name)}`
  const place = row.namespace === 'openfaas-fn' ? null : h('span', { className: 'muted' }, ` ${row.namespace}`)
  return [h('a', { href }, row.name), place, kindOf(row) ? h('span', { className: 'muted' }, ` ${kindOf(row)}s`) : null]
}

function replayAll(row, refresh) {
  const f = { name: row.name, namespace: row.namespace }
  const ask = async () => {
    const text = `${plural(row.dead, 'call')} of ${row.name} that ${row.dead === 1 ? 'was' : 'were'} given up will be tried again, with all their attempts.`
    if (!(await confirm(`Replay all dead calls of ${row.name}?`, text, 'Replay all'))) return
    await told(async () => {
      const { replayed } = await (await request('POST', ofFunction(f, '/replay'))).json()
      announce(`${plural(replayed, 'call')} of ${row.name} ${replayed === 1 ? 'waits' : 'wait'} again`)
    })
    refresh().catch(() => {})
  }
  return h('button', { type: 'button', 'aria-label': `Replay all dead calls of ${row.name}`, onclick: ask }, 'Replay all')
}

/** Do something that may be refused, and say so where it is. */
async function told(what) {
  try {
    await what()
  } catch (error) {
    announce(error.message, true)
  }
}

function callList(f, signal, changed, above = null, onLogs = null) {
  let state = ''
  let drawn = ''
  let extra = [] // pages that were asked for, behind the first one
  const none = h('p', { className: 'muted' })
  const body = h('tbody', {})
  const table = h(
    'table',
    { className: 'queued' },
    h('caption', { className: 'sr' }, 'Asynchronous calls, the newest first'),
    h('thead', {}, h('tr', {}, headings(HEADS))),
    body,
  )
  const more = h('button', { type: 'button', hidden: true, onclick: () => told(further) }, 'Older ones')
  const tabs = h(
    'div',
    { className: 'tabs', role: 'group', 'aria-label': 'Which calls' },
    Object.entries(STATES).map(([value, text]) =>
      h(
        'button',
        {
          type: 'button',
          'aria-pressed': String(value === state),
          onclick: (event) => {
            state = value
            extra = []
            for (const button of tabs.children) button.setAttribute('aria-pressed', String(button === event.target))
            told(refresh)
          },
        },
        text,
      ),
    ),
  )

  async function page(before) {
    const query = new URLSearchParams({ limit: String(PAGE) })
    if (f) query.set('name', `${f.name}.${f.namespace}`)
    if (state) query.set('state', state)
    if (before) query.set('before', before)
    return get(`/api/v1/async/calls?${query}`, { signal })
  }

  async function further() {
    extra.push(more.value)
    await refresh()
  }

  async function refresh() {
    const asked = state
    const pages = await Promise.all(['', ...extra].map(page))
    if (asked !== state) return
    const calls = [...new Map(pages.flatMap((one) => one.calls).map((call) => [call.id, call])).values()]
    more.value = pages.at(-1).next
    more.hidden = !more.value
    none.hidden = calls.length > 0
    table.hidden = !calls.length
    say(none, state ? `No call is ${state}.` : 'No asynchronous call is kept.')
    const seen = JSON.stringify(calls)
    if (seen === drawn) return
    drawn = seen
    showAnew(body, calls.map(row))
  }

  function row(call) {
    const open = () => openCall(call, changed, onLogs)
    const name = f ? null : h('b', {}, call.function.replace(/\.openfaas-fn$/, ''), ' ')
    return h(
      'tr',
      {},
      h('th', { scope: 'row' }, name, h('code', {}, `${call.method} ${call.path}`), call.queue.includes('#') ? h('span', { className: 'muted' }, ` ${call.queue.split('#')[1]}`) : null),
      h('td', {}, h('i', { className: `dot ${TONES[call.state]}` }), fateOf(call), call.reason ? h('span', { className: 'why' }, ` ${call.reason}`) : null),
      h('td', { className: 'muted wide' }, moment(call.submittedAt)),
      h('td', { className: 'num wide' }, count(call.attempts)),
      h('td', {}, h('button', { type: 'button', className: 'quiet', 'aria-label': `Open call ${call.id}`, title: call.id, onclick: open }, 'open')),
    )
  }

  const scroll = h('div', { className: 'scroll' }, table)
  return { element: section(f ? 'Asynchronous calls' : 'Calls', tabs, above, none, scroll, h('div', { className: 'actions' }, more)), refresh }
}
