// A call of the function, made from here: without the page's session, as anybody would call it.

import { announce, field, h, say, section, show } from './dom.js'
import { bytes, milliseconds } from './format.js'
import { cancel, ended, following, outcomeOf } from './queued_call.js'

const SHOWN = 256 * 1024

export function invokePanel(path, signal, onCall) {
  const method = h('select', {}, ['POST', 'GET', 'PUT', 'PATCH', 'DELETE'].map((name) => h('option', {}, name)))
  const rest = h('input', { placeholder: '/path?query', spellcheck: false, autocomplete: 'off' })
  const type = h('input', { value: 'text/plain', spellcheck: false, autocomplete: 'off' })
  const body = h('textarea', { rows: 3, spellcheck: false })
  const later = h('input', { type: 'checkbox', onchange: () => (wait.hidden = !later.checked) })
  const delay = h('input', { type: 'number', min: 0, step: 'any', placeholder: '0' })
  const wait = field('Not before (seconds from now)', delay)
  wait.hidden = true
  const result = h('div', { className: 'result', role: 'status' })
  const send = h('button', { className: 'primary' }, 'Call')
  const form = h(
    'form',
    { onsubmit: call, onkeydown: (event) => event.key === 'Enter' && (event.ctrlKey || event.metaKey) && form.requestSubmit() },
    h('div', { className: 'fields' }, field('Method', method), field('Path and query', rest), field('Content type', type)),
    field('Body', body),
    h('div', { className: 'fields' }, wait),
    h('div', { className: 'actions' }, send, h('label', { className: 'check' }, later, 'Asynchronously'), h('span', { className: 'hint' }, 'Ctrl+Enter')),
  )

  let followed = null

  async function call(event) {
    event.preventDefault()
    followed = null
    send.disabled = true
    say(send, 'Calling…')
    const began = performance.now()
    try {
      const carries = method.value !== 'GET' && body.value !== ''
      const target = `/${later.checked ? 'async-function' : 'function'}/${path}${rest.value && !/^[/?]/.test(rest.value) ? '/' : ''}${rest.value}`
      const answer = await fetch(target, {
        method: method.value,
        body: carries ? body.value : undefined,
        headers: {
          ...(carries && type.value ? { 'Content-Type': type.value } : {}),
          ...(later.checked && delay.value ? { 'X-Delay-Seconds': delay.value } : {}),
        },
        credentials: 'omit',
        cache: 'no-store',
        redirect: 'manual',
      })
      const headMs = performance.now() - began
      const content = await answer.arrayBuffer()
      if (later.checked && answer.status === 202) follow(answer.headers.get('x-call-id'))
      else tell(answer, content, headMs, performance.now() - began)
    } catch (error) {
      show(result, h('p', { className: 'wrong' }, `No answer: ${error.message}`))
    }
    send.disabled = false
    say(send, 'Call')
    onCall()
  }

  async function follow(id) {
    const mine = (followed = {})
    try {
      for await (const call of following(id, signal)) {
        if (followed !== mine) return // another call was made meanwhile
        const off = () => cancel(call).catch((error) => announce(error.message, true))
        show(result, outcomeOf(call), ended(call) ? null : h('button', { type: 'button', className: 'danger', onclick: off }, 'Cancel the call'))
      }
      onCall()
    } catch (error) {
      if (followed === mine && !signal.aborted) show(result, h('p', { className: 'wrong' }, error.message))
    }
  }

  function tell(answer, content, headMs, wholeMs) {
    const id = answer.headers.get('x-call-id')
    const inside = answer.headers.get('x-duration-seconds')
    const text = new TextDecoder().decode(content.slice(0, SHOWN))
    const good = answer.status > 0 && answer.status < 400
    show(
      result,
      h(
        'p',
        { className: 'totals' },
        h('span', { className: good ? 'good' : 'bad' }, h('b', {}, answer.type === 'opaqueredirect' ? 'redirect' : answer.status), ` ${answer.statusText}`),
        h('span', {}, h('b', {}, milliseconds(wholeMs)), ' in all'),
        h('span', {}, h('b', {}, milliseconds(headMs)), ' to the first byte'),
        inside ? h('span', {}, h('b', {}, milliseconds(inside * 1000)), ' of it in the platform') : null,
        h('span', {}, h('b', {}, bytes(content.byteLength))),
      ),
      h('pre', { tabIndex: 0, 'aria-label': 'Response' }, pretty(text, answer.headers.get('content-type')) || '(empty)'),
      content.byteLength > SHOWN ? h('p', { className: 'muted' }, `Only the first ${bytes(SHOWN)} are shown.`) : null,
      h(
        'details',
        {},
        h('summary', {}, 'Headers'),
        h('pre', {}, [...answer.headers].map(([name, value]) => `${name}: ${value}`).join('\n')),
      ),
      id ? h('p', { className: 'muted' }, 'Call ', h('code', {}, id)) : null,
    )
  }

  return { element: section('Call it', null, form, result) }
}

function pretty(text, type) {
  if (!/\bjson\b/.test(type ?? '')) return text
  try {
    return JSON.stringify(JSON.parse(text), null, 2)
  } catch {
    return text
  }
}
