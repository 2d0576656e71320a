// One asynchronous call: where it stands, what came of it, and replaying or cancelling it.

import { request } from './api.js'
import { announce, confirm, h, say, show } from './dom.js'
import { bytes, milliseconds, moment } from './format.js'

export const TONES = { waiting: 'busy', running: 'busy', succeeded: 'good', dead: 'bad', cancelled: 'idle' }

const LOOK_S = 2
const HINT = 'Too long to be shown, or no text.'

/** Whether nothing more happens to a call by itself. */
export const ended = (call) => !['waiting', 'running'].includes(call.state)

/** Where a call stands, in words. */
export function fateOf(call) {
  if (call.state === 'waiting') {
    if (call.dueAt * 1000 <= Date.now()) return call.attempts ? `waiting for attempt ${call.attempts + 1}` : 'waiting'
    return call.attempts ? `attempt ${call.attempts + 1} at ${moment(call.dueAt)}` : `delayed until ${moment(call.dueAt)}`
  }
  if (call.state === 'running') return `running, attempt ${call.attempts}`
  return call.response?.status ? `${call.state}, ${call.response.status}` : call.state
}

const addressOf = (id, query = '') => `/async-function/${encodeURIComponent(id)}${query}`

/** Ask as anybody may who knows the id: never with the session, since a function may have that name and get the request. */
async function ask(method, path, signal) {
  const answer = await fetch(path, { method, credentials: 'omit', cache: 'no-store', signal })
  if (!answer.ok) throw new Error((await answer.text()).trim())
  return answer
}

/** Yield a call each time that it is another, until it has ended. */
export async function* following(id, signal) {
  for (let before = ''; ; ) {
    const call = await (await ask('GET', addressOf(id, before && `?wait=${LOOK_S}s`), signal)).json()
    const seen = JSON.stringify([call.state, call.attempts, call.dueAt])
    if (seen !== before) yield call
    before = seen
    if (ended(call)) return
  }
}

/** Ask whether a call is to be cancelled, and cancel it. Returns whether it was. */
export async function cancel(call) {
  const text = call.state === 'running' ? 'The attempt that runs is broken off, as if its client had left.' : 'It will not be carried out.'
  if (!(await confirm('Cancel this call?', `${text} A call that was cancelled cannot be replayed.`, 'Cancel the call', 'Keep it'))) return false
  await ask('DELETE', addressOf(call.id))
  announce('The call is cancelled')
  return true
}

/** Show what there is to know of a call. */
export function outcomeOf(call) {
  const ran = call.startedAt && call.endedAt ? 1000 * (call.endedAt - call.startedAt) : null
  const began = call.startedAt ?? call.endedAt
  const items = [
    ['Function', call.function],
    ['Request', `${call.method} ${call.path}${call.bodyBytes ? `, ${bytes(call.bodyBytes)}` : ''}`],
    ['Call', call.id],
    ['Submitted', moment(call.submittedAt)],
    ['Until the last attempt', began ? milliseconds(1000 * Math.max(0, began - call.submittedAt)) : ''],
    ['The last attempt', ran === null ? '' : milliseconds(ran)],
    ['Attempts', call.attempts],
    ['Trace', call.trace],
    ['Ended', call.endedAt && ended(call) ? moment(call.endedAt) : ''],
    ['Expires', call.expiresAt && !ended(call) ? moment(call.expiresAt) : ''],
    ['Idempotency key', call.idempotencyKey ?? ''],
  ]
  const response = call.response
  return [
    h('p', { className: 'totals' }, h('span', { className: TONES[call.state] }, h('b', {}, fateOf(call)))),
    call.reason ? h('p', { className: 'wrong' }, call.reason) : null,
    h('dl', {}, items.filter(([, text]) => text !== '').map(([name, text]) => [h('dt', {}, name), h('dd', {}, h('code', {}, String(text)))])),
    response && ended(call) ? answerOf(call, response) : null,
  ]
}

function answerOf(call, response) {
  const known = response.body !== undefined || !response.bodyBytes
  return [
    h('pre', { tabIndex: 0, 'aria-label': 'Response' }, known ? response.body || '(empty)' : HINT),
    response.bodyBytes
      ? h('p', {}, h('a', { href: addressOf(call.id, '/result'), download: `${call.id}.result` }, `Save the result, ${bytes(response.bodyBytes)}`), response.cut ? ' (it was longer: the rest was not kept)' : '')
      : null,
    h(
      'details',
      {},
      h('summary', {}, 'Headers'),
      h('pre', {}, (response.headers ?? []).map(([name, value]) => `${name}: ${value}`).join('\n')),
    ),
  ]
}

/** Open a call; `changed` is called when something was done with it, `onLogs` (where there is one) is to show what it wrote. */
export function openCall(call, changed, onLogs) {
  const stop = new AbortController()
  const content = h('div', { className: 'result' })
  const state = h('span', { className: 'sr', role: 'status' })
  const again = h('button', { type: 'button', hidden: true, onclick: () => act(replay) }, 'Replay')
  const off = h('button', { type: 'button', className: 'danger', hidden: true, onclick: () => act(() => cancel(call)) }, 'Cancel the call')
  const logs = h('button', { type: 'button', hidden: !onLogs, onclick: () => (dialog.close(), onLogs(call.id)) }, 'Logs')
  const dialog = h(
    'dialog',
    { className: 'call', 'aria-label': 'Asynchronous call', onclose: () => (stop.abort(), dialog.remove()) },
    h('h2', {}, 'Asynchronous call'),
    state,
    content,
    h('div', { className: 'actions' }, again, off, logs, h('button', { type: 'button', onclick: () => dialog.close() }, 'Close')),
  )

  function tell(newer) {
    call = newer
    say(state, fateOf(call))
    show(content, outcomeOf(call))
    again.hidden = call.state !== 'dead'
    off.hidden = ended(call)
  }

  async function replay() {
    await request('POST', `/api/v1/async/calls/${encodeURIComponent(call.id)}/replay`)
    announce('The call waits again, with all its attempts')
    return true
  }

  async function act(what) {
    try {
      if (!(await what())) return
      Promise.resolve(changed()).catch(() => {})
      follow()
    } catch (error) {
      announce(error.message, true)
    }
  }

  async function follow() {
    try {
      for await (const newer of following(call.id, stop.signal)) tell(newer)
    } catch (error) {
      if (error.name !== 'AbortError') say(state, error.message)
    }
  }

  tell(call)
  document.body.append(dialog)
  dialog.showModal()
  follow()
}
