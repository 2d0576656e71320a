// Small charts in SVG: lines over time with a scale, and sparklines.

import { h, say, svg } from './dom.js'
import { clock, minute } from './format.js'

const HEIGHT = 120
const TOP = 8
const BOTTOM = 20

/** A path through `values` in a box of that size; null values are gaps. */
function line(values, width, height, most, top = 0) {
  const step = width / Math.max(1, values.length - 1)
  let path = ''
  let open = false
  values.forEach((value, i) => {
    if (value === null || value === undefined) {
      open = false
      return
    }
    const y = top + height - (height * value) / most
    path += `${open ? 'L' : 'M'}${(i * step).toFixed(1)} ${y.toFixed(1)}`
    if (!open && (values[i + 1] === null || values[i + 1] === undefined)) path += 'h1.5'
    open = true
  })
  return path
}

/** A sparkline that `draw(values)` fills. It is decoration: the number beside it says the same. */
export function sparkline(width = 96, height = 22) {
  const area = svg('path', { class: 'area' })
  const stroke = svg('path', { class: 'stroke' })
  const element = svg('svg', { class: 'spark', viewBox: `0 0 ${width} ${height}`, width, height, 'aria-hidden': 'true' }, area, stroke)
  let drawn = ''
  const draw = (values) => {
    const most = Math.max(1, ...values)
    const path = values.some((v) => v) ? line(values, width, height - 3, most, 1.5) : ''
    if (path === drawn) return
    drawn = path
    stroke.setAttribute('d', path)
    area.setAttribute('d', path && `${path}L${width} ${height}L0 ${height}Z`)
  }
  return { element, draw }
}

/** The least round number that is not below `value`: 1, 2, 5, 10, … */
function round(value) {
  const power = 10 ** Math.floor(Math.log10(value))
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= value - 1e-9)
}

/**
 * A chart of lines over time. `lines` are `{name, tone, area}`; `draw({from, step, columns})` shows a column of values for each of
 * them. `format` says how values are written, `least` what the scale ends with at least. What is under the pointer, or else the newest value, stands in the legend.
 */
export function chart(title, lines, format, least = 1) {
  const values = lines.map(() => h('b', {}, '–'))
  const when = h('span', { className: 'when' })
  const legend = h(
    'div',
    { className: 'legend' },
    lines.map((l, i) => h('span', { className: `key ${l.tone}` }, h('i', { 'aria-hidden': 'true' }), `${l.name} `, values[i])),
    when,
  )
  const grid = svg('g', { class: 'grid' })
  const paths = lines.map((l) => ({
    area: l.area ? svg('path', { class: `area ${l.tone}` }) : null,
    stroke: svg('path', { class: `stroke ${l.tone}` }),
  }))
  const cursor = svg('line', { class: 'cursor', y1: TOP, y2: HEIGHT - BOTTOM, visibility: 'hidden' })
  const picture = svg('svg', { role: 'img', 'aria-label': title, height: HEIGHT }, grid, paths.map((p) => [p.area, p.stroke]), cursor)
  const element = h('figure', { className: 'chart' }, h('figcaption', {}, h('span', { className: 'title' }, title), legend), picture)
  let data = null
  let place = null

  function tell() {
    if (!data) return
    const last = data.columns[0].length - 1
    const i = place ?? last
    lines.forEach((_, n) => {
      let value = data.columns[n][i]
      if (place === null) for (let j = i; value === null && j > last - 60 / data.step && j >= 0; j--) value = data.columns[n][j]
      say(values[n], value === null || value === undefined ? '–' : format(value))
    })
    say(when, place === null ? '' : clock(data.from + (i + 1) * data.step))
    const x = place === null ? 0 : (place * picture.clientWidth) / last
    cursor.setAttribute('x1', x)
    cursor.setAttribute('x2', x)
    cursor.setAttribute('visibility', place === null ? 'hidden' : 'visible')
    picture.setAttribute('aria-label', `${title}: ${lines.map((l, n) => `${l.name} ${values[n].textContent}`).join(', ')}`)
  }

  function draw(next) {
    if (next) data = next
    const width = picture.clientWidth
    if (!data || !width) return
    const height = HEIGHT - TOP - BOTTOM
    const most = round(Math.max(least, ...data.columns.flat().filter((v) => v !== null)))
    picture.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`)
    paths.forEach((p, n) => {
      const path = line(data.columns[n], width, height, most, TOP)
      p.stroke.setAttribute('d', path)
      p.area?.setAttribute('d', path && `${path}L${width} ${TOP + height}L0 ${TOP + height}Z`)
    })
    const label = data.step * data.columns[0].length < 120 ? clock : minute
    const ticks = [0.25, 0.5, 0.75].map((part) => data.from + part * data.columns[0].length * data.step)
    grid.replaceChildren(
      svg('line', { x1: 0, x2: width, y1: TOP, y2: TOP }),
      svg('line', { x1: 0, x2: width, y1: TOP + height / 2, y2: TOP + height / 2 }),
      svg('line', { class: 'base', x1: 0, x2: width, y1: TOP + height, y2: TOP + height }),
      svg('text', { x: 0, y: TOP + 12 }, format(most)),
      ...ticks.map((at, i) => svg('text', { x: ((i + 1) * width) / 4, y: HEIGHT - 5, 'text-anchor': 'middle' }, label(at))),
    )
    tell()
  }

  picture.addEventListener('pointermove', (event) => {
    if (!data) return
    const last = data.columns[0].length - 1
    place = Math.min(last, Math.max(0, Math.round((event.offsetX / picture.clientWidth) * last)))
    tell()
  })
  picture.addEventListener('pointerleave', () => {
    place = null
    tell()
  })
  new ResizeObserver(() => draw()).observe(picture)
  return { element, draw }
}

/** Spread a history's rows over its whole window: `{from, step, at(column), held(column)}`. */
export function spread(history) {
  const { stepS, spanS, now } = history
  const steps = spanS / stepS
  const end = Math.floor(now / stepS) * stepS
  const from = end - spanS
  const place = (i) => Math.round((history.at[i] - from) / stepS) - 1
  const over = (column, empty, factor = 1) => {
    const values = new Array(steps).fill(empty)
    column.forEach((value, i) => {
      const p = place(i)
      if (p >= 0 && p < steps && value !== null) values[p] = value * factor
    })
    return values
  }
  return {
    from,
    step: stepS,
    perSecond: (column) => over(column, 0, 1 / stepS),
    counted: (column) => over(column, 0),
    gaps: (column) => over(column, null),
    held: (column) => {
      const values = new Array(steps).fill(null)
      let value = 0
      let i = 0
      for (let p = 0; p < steps; p++) {
        while (i < column.length && place(i) <= p) value = column[i++]
        values[p] = value
      }
      return values
    },
  }
}
