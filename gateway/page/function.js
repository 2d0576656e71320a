// One function: what it does, why it has so many replicas, and what can be done with it.

import { get, ofFunction, request } from './api.js'
import { callsPanel } from './calls.js'
import { chart, spread } from './charts.js'
import { announce, confirm, h, say, section, show } from './dom.js'
import { ago, count, milliseconds, rate } from './format.js'
import { condition } from './functions.js'
import { invokePanel } from './invoke.js'
import { key, live } from './live.js'
import { logsPanel } from './logs.js'
import { queuePanel } from './queue.js'
import { revisionsTable } from './revisions.js'

const WINDOWS = { '5m': '5 min', '1h': '1 hour', '24h': '1 day' }
const POLL_MS = 2000
const WARM_MS = 75000

/** One function; where `part` is `async`, the view opens at its asynchronous calls. */
export function functionView(f, part) {
  const path = f.namespace === 'openfaas-fn' ? f.name : `${f.name}.${f.namespace}`
  const query = `?namespace=${encodeURIComponent(f.namespace)}`
  const stop = new AbortController()
  let window_ = '5m'
  let changedAt = Date.now()
  let busy = false
  let again = false
  let gone = false

  // What it is, and what can be done with it.

  const dot = h('i', { className: 'dot' })
  const word = h('span', {})
  const message = h('p', { className: 'message', role: 'status' })
  const figures = h('p', { className: 'totals' })
  const wanted = h('input', { type: 'number', min: 0, max: 10000, value: 1, 'aria-label': 'Replicas', className: 'short' })
  const scale = h(
    'form',
    { className: 'inline', onsubmit: (event) => (event.preventDefault(), act(() => rescale(Number(wanted.value)))) },
    wanted,
    h('button', {}, 'Scale'),
  )
  const remove = h('button', { type: 'button', className: 'danger', onclick: () => act(removed) }, 'Remove')
  const address = `${location.origin}/function/${path}`
  const actions = h('div', { className: 'actions' }, scale, remove)

  async function act(what) {
    try {
      await what()
    } catch (error) {
      announce(error.message, true)
    }
  }

  async function rescale(replicas) {
    const answer = await request('POST', `/system/scale-function/${encodeURIComponent(f.name)}${query}`, { json: { replicas } })
    announce((await answer.text()).trim())
    refresh()
  }

  async function removed() {
    const text = `Calls in flight finish; then its replicas end. Its logs stay for a while. Nothing else of it is kept.`
    if (!(await confirm(`Remove ${path}?`, text, `Remove ${f.name}`))) return
    await request('DELETE', `/system/functions${query}`, { json: { functionName: f.name } })
    gone = true
    announce(`${path} is removed`)
    location.hash = '#/'
  }

  // Figures over time.

  const charts = [
    [
      chart('Calls', [{ name: 'calls/s', tone: 'main', area: true }, { name: 'errors/s', tone: 'bad' }], rate, 0.5),
      (s, d) => [s.perSecond(d.calls), s.perSecond(d.errors)],
    ],
    [
      chart('Latency', [{ name: 'p50', tone: 'main' }, { name: 'p95', tone: 'second' }, { name: 'p99', tone: 'third' }], milliseconds),
      (s, d) => [s.gaps(d.p50Ms), s.gaps(d.p95Ms), s.gaps(d.p99Ms)],
    ],
    [
      chart('Replicas and load', [{ name: 'ready', tone: 'second', area: true }, { name: 'in flight', tone: 'main' }, { name: 'waiting', tone: 'third' }], (n) => count(Math.round(n))),
      (s, d) => [s.held(d.ready), s.counted(d.inFlight), s.counted(d.waiting)],
    ],
    [chart('Cold starts', [{ name: 'calls that waited for a start', tone: 'main', area: true }], (n) => count(Math.round(n))), (s, d) => [s.counted(d.cold)]],
  ]
  const windows = h(
    'div',
    { className: 'tabs', role: 'group', 'aria-label': 'How far to look back' },
    Object.entries(WINDOWS).map(([value, text]) =>
      h(
        'button',
        {
          type: 'button',
          'aria-pressed': String(value === window_),
          onclick: (event) => {
            window_ = value
            for (const button of windows.children) button.setAttribute('aria-pressed', String(button === event.target))
            redraw()
          },
        },
        text,
      ),
    ),
  )

  async function redraw() {
    const history = await get(ofFunction(f, '/history', `&window=${window_}`), { signal: stop.signal })
    const spreadOut = spread(history)
    for (const [one, columns] of charts) one.draw({ from: spreadOut.from, step: spreadOut.step, columns: columns(spreadOut, history) })
  }

  // What there is to read.

  const replicas = h('div', {})
  const scaling = h('div', {})
  const revisions = h('div', {})
  const settings = h('div', {})
  const calls = callsPanel(f, stop.signal, (id) => logs.only(id))
  const logs = logsPanel(f, stop.signal)
  const queue = queuePanel(f, stop.signal, (id) => logs.only(id))
  const invoke = invokePanel(path, stop.signal, () => {
    changedAt = Date.now()
    queue.refresh().catch(() => {})
    setTimeout(poll, 1100)
  })

  function header(row) {
    const [tone, text] = condition(row)
    dot.className = `dot ${tone}`
    say(word, text)
    say(message, row.message || '')
    message.hidden = !row.message
    show(
      figures,
      ...[
        [`${row.ready}/${row.desired}`, 'replicas'],
        [rate(row.rate), 'calls/s'],
        [milliseconds(row.p50Ms), 'p50'],
        [milliseconds(row.p99Ms), 'p99'],
        [count(row.minuteErrors), 'errors in the last minute'],
        [count(row.inFlight), 'in flight'],
        [count(row.waiting), 'waiting'],
        [count(row.coldStarts), 'cold starts'],
        [count(row.calls), 'calls'],
      ].map(([figure, name]) => h('span', {}, h('b', {}, figure), ` ${name}`)),
    )
  }

  async function refresh() {
    if (busy) {
      again = true
      return
    }
    busy = true
    try {
      const options = { signal: stop.signal }
      const [details, explained] = await Promise.all([
        get(ofFunction(f), options),
        get(ofFunction(f, '/scaling'), options).catch((error) => (error.status === 404 ? null : Promise.reject(error))),
      ])
      tell(details, explained)
    } catch (error) {
      if (error.status === 404) lost()
      else if (error.name !== 'AbortError') say(message, error.message)
    }
    busy = false
    if (again) {
      again = false
      setTimeout(refresh, 500)
    }
  }

  function tell(details, explained) {
    if (document.activeElement !== wanted) wanted.value = details.desiredReplicas
    show(replicas, replicaTable(details.replicas))
    show(scaling, explained ? scalingText(explained) : h('p', { className: 'muted' }, 'Nothing scales it here.'))
    show(revisions, revisionsTable(f, details, act, refresh))
    show(settings, settingsList(details, address))
  }

  function lost() {
    if (gone) return
    gone = true
    dot.className = 'dot idle'
    say(word, 'not here')
    say(message, `There is no function ${path}; it may have been removed.`)
    message.hidden = false
    actions.hidden = true
  }

  async function poll() {
    if (stop.signal.aborted || document.hidden || gone) return
    try {
      await Promise.all([redraw(), calls.refresh(), queue.refresh()])
    } catch (error) {
      if (error.status === 404) lost()
    }
  }

  function changed({ detail }) {
    const mine = key(f)
    if (detail.changed.includes(mine)) {
      changedAt = Date.now()
      header(live.rows.get(mine))
      refresh()
    } else if (detail.gone.includes(mine)) lost()
  }

  const element = h(
    'div',
    { className: 'function' },
    h('p', { className: 'crumbs' }, h('a', { href: '#/' }, 'Functions'), ' / ', f.namespace),
    h('div', { className: 'title' }, h('h1', {}, f.name), h('span', { className: 'condition' }, dot, word), actions),
    message,
    figures,
    section('Over time', windows, h('div', { className: 'charts' }, charts.map(([one]) => one.element))),
    h(
      'div',
      { className: 'columns' },
      h('div', {}, invoke.element, calls.element, queue.element),
      h(
        'div',
        {},
        section('Replicas', null, replicas),
        section('Scaling', null, scaling),
        section('Revisions and traffic', null, revisions),
        section('Settings', null, settings),
      ),
    ),
    logs.element,
  )

  let timer = 0
  return {
    element,
    enter() {
      live.addEventListener('change', changed)
      const row = live.rows.get(key(f))
      if (row) header(row)
      Promise.all([refresh(), poll()]).then(() => part === 'async' && queue.element.scrollIntoView())
      logs.start()
      timer = setInterval(() => Date.now() - changedAt < WARM_MS && poll(), POLL_MS)
    },
    leave() {
      live.removeEventListener('change', changed)
      clearInterval(timer)
      stop.abort()
    },
  }
}

const TONES = { Running: 'good', Pending: 'busy', Draining: 'idle', CrashLoopBackOff: 'bad' }

function table(heads, rows) {
  return h(
    'div',
    { className: 'scroll' },
    h(
      'table',
      {},
      h('thead', {}, h('tr', {}, heads.map((head) => h('th', { scope: 'col' }, head)))),
      h('tbody', {}, rows),
    ),
  )
}

function replicaTable(replicas) {
  if (!replicas.length) return h('p', { className: 'muted' }, 'None: the next call starts one.')
  const took = (r) => (r.readyAt && r.startedAt ? ` (${ago(r.readyAt)})` : '')
  const row = (r) =>
    h(
      'tr',
      {},
      h('th', { scope: 'row' }, h('code', {}, r.id)),
      h('td', {}, h('i', { className: `dot ${TONES[r.state] ?? 'idle'}` }), r.state, h('span', { className: 'muted' }, took(r))),
      h('td', {}, r.restarts ? `${r.restarts} restarts` : ''),
      h('td', { className: 'why' }, r.reason || r.lastEnd || ''),
    )
  return table(['Replica', 'State', 'Restarts', 'Why'], replicas.map(row))
}

function scalingText(scaling) {
  const s = scaling.settings
  const each = Number((s.target * s.utilisation).toPrecision(3))
  const parts = [
    `${s.minReplicas} to ${s.maxReplicas} replicas`,
    `${s.metric} ${each} each`,
    s.zero ? `to zero after ${milliseconds(1000 * s.zeroAfterS)} idle${s.learns ? ', or as learnt' : ''}` : 'never to zero',
  ]
  const changes = scaling.changes.slice(0, 8)
  return [
    h('p', {}, parts.join(' · ')),
    scaling.latest ? h('p', { className: 'reason' }, scaling.latest.reason) : null,
    scaling.trouble ? h('p', { className: 'wrong' }, scaling.trouble) : null,
    scaling.learnt ? h('p', { className: 'muted' }, scaling.learnt) : null,
    changes.length
      ? h(
          'ol',
          { className: 'changes' },
          changes.map((c) =>
            h('li', {}, h('span', { className: 'muted' }, ago(c.at)), h('b', {}, `${c.previous} → ${c.replicas}`), h('span', {}, c.reason)),
          ),
        )
      : null,
  ]
}

function settingsList(details, address) {
  const spec = details.spec
  const pairs = (map) => Object.entries(map ?? {}).map(([name, value]) => h('li', {}, h('code', {}, `${name}=${value}`)))
  const names = (list) => list.map((name) => h('li', {}, h('code', {}, name)))
  const items = [
    ['Address', [h('li', {}, h('code', {}, address))]],
    ['Command', spec.envProcess ? names([spec.envProcess]) : []],
    ['Environment', names(Object.keys(spec.envVars ?? {}).sort())],
    ['Secrets', names(spec.secrets ?? [])],
    ['Limits', pairs(spec.limits)],
    ['Requests', pairs(spec.requests)],
    ['Labels', pairs(spec.labels)],
    ['Annotations', pairs(spec.annotations)],
    ['Notes', details.notes.map((note) => h('li', {}, note))],
  ]
  return h(
    'dl',
    {},
    items.filter(([, found]) => found.length).map(([name, found]) => [h('dt', {}, name), h('dd', {}, h('ul', {}, found))]),
  )
}
