// The list of all functions.

import { get } from './api.js'
import { chart, sparkline } from './charts.js'
import { h, say, show } from './dom.js'
import { count, milliseconds, percent, plural, rate } from './format.js'
import { key, live } from './live.js'

const DEAD_EVERY_MS = 5000

// name of the column, what is sorted by, whether it is a number, whether small screens have it
const COLUMNS = [
  ['Function', (r) => r.name, false, true],
  ['Replicas', (r) => r.ready, true, true],
  ['Calls/s', (r) => r.rate, true, true],
  ['', null, false, false],
  ['p50', (r) => r.p50Ms ?? -1, true, false],
  ['p99', (r) => r.p99Ms ?? -1, true, true],
  ['Errors', (r) => (r.minuteCalls ? r.minuteErrors / r.minuteCalls : 0), true, true],
  ['In flight', (r) => r.inFlight, true, false],
  ['Waiting', (r) => r.waiting, true, false],
  ['Cold starts', (r) => r.coldStarts, true, false],
  ['Calls', (r) => r.calls, true, false],
]

let sort = { column: 0, down: false }
let words = ''

/** The state of a function in one word, and in a colour. */
export function condition(row) {
  if (row.phase === 'Failed' || row.failing) return ['bad', 'failing']
  if (row.phase === 'Progressing' || row.starting) return ['busy', 'starting']
  if (row.ready) return ['good', 'ready']
  return ['idle', 'at zero']
}

class Line {
  constructor(row) {
    this.dot = h('i', { className: 'dot' })
    this.state = h('span', { className: 'sr' })
    this.link = h('a', { href: `#/f/${encodeURIComponent(row.namespace)}/${encodeURIComponent(row.name)}` }, row.name)
    this.why = h('span', { className: 'why' })
    this.space = row.namespace === 'openfaas-fn' ? null : h('span', { className: 'muted' }, row.namespace)
    this.given = h('a', { className: 'dead', href: `${this.link.hash}/async`, hidden: true })
    this.dead = 0
    this.spark = sparkline()
    this.cells = COLUMNS.map(([title, , number, small], i) =>
      i ? h('td', { className: `${number ? 'num' : ''} ${small ? '' : 'wide'}`.trim() }) : h('th', { scope: 'row' }),
    )
    this.cells[0].append(...[this.dot, this.link, this.state, this.space, this.given, this.why].filter(Boolean))
    this.cells[3].append(this.spark.element)
    this.element = h('tr', {}, this.cells)
    this.update(row)
  }

  update(row) {
    this.row = row
    const [tone, word] = condition(row)
    if (this.tone !== tone) this.dot.className = `dot ${tone}`
    this.tone = tone
    say(this.state, `, ${word}`)
    say(this.why, tone === 'bad' ? row.message : '')
    const figures = [
      row.ready === row.desired ? count(row.ready) : `${row.ready}/${row.desired}`,
      rate(row.rate),
      null,
      milliseconds(row.p50Ms),
      milliseconds(row.p99Ms),
      percent(row.minuteErrors, row.minuteCalls),
      count(row.inFlight),
      count(row.waiting),
      count(row.coldStarts),
      count(row.calls),
    ]
    figures.forEach((text, i) => {
      if (text === null) return
      say(this.cells[i + 1], text)
      const zero = text === '0' || text === '–'
      if (this.cells[i + 1].classList.contains('zero') !== zero) this.cells[i + 1].classList.toggle('zero', zero)
    })
    this.cells[6].classList.toggle('bad', row.minuteErrors > 0)
    this.cells[8].classList.toggle('busy', row.waiting > 0)
    this.draw()
  }

  /** Show how many of its asynchronous calls were given up; the link leads to where they are replayed. */
  bury(dead) {
    this.dead = dead
    this.given.hidden = !dead
    say(this.given, dead ? plural(dead, 'dead call') : '')
  }

  draw() {
    this.spark.draw(this.row.recent)
  }
}

export function functionsView() {
  const rows = new Map()
  const stop = new AbortController()
  let dead = new Map() // asynchronous calls that were given up, by the function's key
  let timer = 0
  const totals = h('p', { className: 'totals' })
  const search = h('input', {
    type: 'search',
    placeholder: 'Filter',
    'aria-label': 'Filter by name or namespace (press / to come here)',
    value: words,
    oninput: () => ((words = search.value), arrange()),
  })
  const whole = chart('All calls', [{ name: 'calls/s', tone: 'main', area: true }], rate)
  const heads = COLUMNS.map(([title, by, number, small], i) =>
    h(
      'th',
      { scope: 'col', className: `${number ? 'num' : ''} ${small ? '' : 'wide'}`.trim() },
      by ? h('button', { type: 'button', onclick: () => sortBy(i) }, title) : h('span', { className: 'sr' }, 'Last minute'),
    ),
  )
  const body = h('tbody', {})
  const table = h('table', { className: 'functions' }, h('caption', { className: 'sr' }, 'Functions'), h('thead', {}, h('tr', {}, heads)), body)
  const nothing = h(
    'div',
    { className: 'panel empty', hidden: true },
    h('h2', {}, 'No functions yet'),
    h('p', {}, 'Deploy one ', h('a', { href: '#/deploy' }, 'from here'), ', or in a terminal:'),
    h('pre', {}, 'faas new hello --lang python3-http\nfaas deploy'),
  )
  const none = h('p', { className: 'muted', hidden: true }, 'No function is called so.')

  function sortBy(column) {
    sort = { column, down: sort.column === column ? !sort.down : COLUMNS[column][2] }
    arrange()
  }

  function arrange() {
    const by = COLUMNS[sort.column][1]
    const compare = (a, b) => {
      const [x, y] = [by(a.row), by(b.row)]
      const order = typeof x === 'string' ? x.localeCompare(y) : x - y
      return (sort.down ? -order : order) || a.row.name.localeCompare(b.row.name) || a.row.namespace.localeCompare(b.row.namespace)
    }
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean)
    const told = ({ row, dead }) => `${row.name}.${row.namespace} ${condition(row)[1]}${dead ? ' dead' : ''}`.toLowerCase()
    const fits = (line) => wanted.every((word) => told(line).includes(word))
    const shown = [...rows.values()].filter(fits).sort(compare)
    const elements = shown.map((line) => line.element)
    if (elements.length !== body.children.length || elements.some((element, i) => element !== body.children[i])) show(body, elements)
    heads.forEach((head, i) => {
      if (i === sort.column) head.setAttribute('aria-sort', sort.down ? 'descending' : 'ascending')
      else head.removeAttribute('aria-sort')
    })
    nothing.hidden = rows.size > 0 || live.state !== 'live'
    table.hidden = !shown.length
    none.hidden = !rows.size || shown.length > 0
  }

  function total() {
    const all = [...live.rows.values()]
    const sum = (figure) => all.reduce((n, row) => n + figure(row), 0)
    const failing = all.filter((row) => condition(row)[0] === 'bad').length
    const errors = sum((r) => r.minuteErrors)
    const buried = [...rows.values()].reduce((n, line) => n + line.dead, 0)
    show(
      totals,
      h('span', {}, h('b', {}, count(all.length)), all.length === 1 ? ' function' : ' functions'),
      h('span', {}, h('b', {}, count(sum((r) => r.ready))), ' replicas ready'),
      h('span', {}, h('b', {}, rate(sum((r) => r.rate))), ' calls/s'),
      h('span', { className: errors ? 'bad' : '' }, h('b', {}, count(errors)), ' errors in the last minute'),
      failing ? h('span', { className: 'bad' }, h('b', {}, count(failing)), ' failing') : null,
      buried ? h('a', { className: 'bad', href: '#/async' }, h('b', {}, count(buried)), buried === 1 ? ' dead call' : ' dead calls') : null,
    )
    const calls = new Array(60).fill(0)
    for (const row of all) row.recent.forEach((n, i) => (calls[i] += n))
    whole.draw({ from: Math.floor(live.at) - 60, step: 1, columns: [calls] })
  }

  function changed({ detail }) {
    for (const name of detail.changed) {
      const row = live.rows.get(name)
      const line = rows.get(name)
      if (line) line.update(row)
      else rows.set(name, new Line(row))
      rows.get(name).bury(dead.get(name) ?? 0)
    }
    for (const name of detail.gone) rows.delete(name)
    arrange()
    total()
  }

  function second() {
    for (const line of rows.values()) line.draw()
    total()
  }

  async function lookForDead() {
    if (document.hidden) return
    try {
      const queues = await get('/api/v1/async/queues', { signal: stop.signal })
      dead = new Map(queues.filter((queue) => queue.dead && !queue.queue.includes('#')).map((queue) => [key(queue), queue.dead]))
    } catch (error) {
      if (error.status === 404) clearInterval(timer) // this gateway keeps no asynchronous calls
      return
    }
    for (const [name, line] of rows) line.bury(dead.get(name) ?? 0)
    arrange()
    total()
  }

  return {
    element: h(
      'div',
      {},
      h('div', { className: 'title' }, h('h1', {}, 'Functions'), totals, search),
      h('div', { className: 'panel whole' }, whole.element),
      nothing,
      none,
      h('div', { className: 'scroll', tabIndex: 0, role: 'region', 'aria-label': 'Functions' }, table),
    ),
    search,
    enter() {
      live.addEventListener('change', changed)
      live.addEventListener('second', second)
      changed({ detail: { changed: [...live.rows.keys()], gone: [] } })
      timer = setInterval(lookForDead, DEAD_EVERY_MS)
      lookForDead()
    },
    leave() {
      clearInterval(timer)
      stop.abort()
      live.removeEventListener('change', changed)
      live.removeEventListener('second', second)
    },
  }
}
