// The revisions of one function: where its calls go, and how to send them elsewhere.

import { ofFunction, request } from './api.js'
import { announce, confirm, h } from './dom.js'
import { ago } from './format.js'

/** Return what shows the revisions in `details`; `act` runs something that may fail, `moved` is called when calls were moved. */
export function revisionsTable(f, details, act, moved) {
  const serving = details.revisions.reduce((most, one) => (one.percent >= most.percent ? one : most))
  const newest = details.revisions.at(-1)
  const line = (one) => row(one, serving, () => act(() => send(f, one, serving, newest, moved)))
  const rows = [...details.revisions].reverse().map(line)
  const heads = ['Revision', 'Traffic', 'Tags', 'Replicas', 'Deployed']
  return [
    details.rollout ? progress(details) : null,
    h(
      'div',
      { className: 'scroll' },
      h(
        'table',
        { className: 'revisions' },
        h('thead', {}, h('tr', {}, heads.map((head) => h('th', { scope: 'col' }, head)))),
        h('tbody', {}, rows),
      ),
    ),
  ]
}

function progress(details) {
  const { revision } = details.rollout
  const percent = details.revisions.find((one) => one.name === revision)?.percent ?? 0
  return h(
    'p',
    { className: 'rollout' },
    h('progress', { max: 100, value: percent, 'aria-label': `Calls that go to ${revision}` }),
    ` ${revision} gets ${percent} % of the calls; it takes over step by step, or is given up when it does worse.`,
  )
}

function row(one, serving, send) {
  const whole = one === serving && one.percent === 100
  const line = h(
    'tr',
    {},
    h('th', { scope: 'row' }, one.name, one.latest ? h('span', { className: 'muted' }, ' @latest') : null),
    h('td', { className: 'num' }, `${one.percent} %`),
    h('td', {}, one.tags.map((tag) => [h('code', {}, tag), ' '])),
    h('td', { className: 'num' }, String(one.replicas)),
    h('td', { className: 'num muted' }, ago(one.createdAt)),
  )
  const button = h(
    'button',
    { type: 'button', 'aria-label': `Send all calls to ${one.name}`, onclick: send },
    one.number < serving.number ? 'Roll back' : 'Send calls',
  )
  const why = (one.failure || one.trouble || '').replace(`${one.name}: `, '')
  const failure = why ? h('p', { className: 'wrong' }, why) : null
  const more = h('td', { colSpan: 4 }, h('code', { className: 'muted' }, one.image), failure)
  return [line, h('tr', { className: 'more' }, more, h('td', { className: 'num' }, whole ? null : button))]
}

async function send(f, one, serving, newest, moved) {
  const back = one.number < serving.number
  const follow = one === newest && !one.failure
  const then = follow ? 'Later deploys move them again.' : 'Deploys then move no calls, until they are sent to the newest again.'
  const text = `All calls go to ${one.name} from the next one on; those in flight finish where they are. ${then}`
  if (!(await confirm(`${back ? 'Roll back' : 'Send all calls'} to ${one.name}?`, text, back ? 'Roll back' : 'Send calls'))) return
  if (follow) await request('POST', ofFunction(f, '/promote'))
  else await request('POST', ofFunction(f, '/rollback'), { json: { to: one.name } })
  announce(`All calls go to ${one.name}`)
  moved()
}
