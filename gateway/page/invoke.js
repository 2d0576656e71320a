// A call of the function, made from here: without the page's session, as anybody would call it.

import { field, h, say, section, show } from './dom.js'
import { bytes, milliseconds } from './format.js'

const SHOWN = 256 * 1024

export function invokePanel(path, onCall) {
  const method = h('select', {}, ['POST', 'GET', 'PUT', 'PATCH', 'DELETE'].map((name) => h('option', {}, name)))
  const rest = h('input', { placeholder: '/path?query', spellcheck: false, autocomplete: 'off' })
  const type = h('input', { value: 'text/plain', spellcheck: false, autocomplete: 'off' })
  const body = h('textarea', { rows: 3, spellcheck: false })
  const result = h('div', { className: 'result', role: 'status' })
  const send = h('button', { className: 'primary' }, 'Call')
  const form = h(
    'form',
    { onsubmit: call, onkeydown: (event) => event.key === 'Enter' && (event.ctrlKey || event.metaKey) && form.requestSubmit() },
    h('div', { className: 'fields' }, field('Method', method), field('Path and query', rest), field('Content type', type)),
    field('Body', body),
    h('div', { className: 'actions' }, send, h('span', { className: 'hint' }, 'Ctrl+Enter')),
  )

  async function call(event) {
    event.preventDefault()
    send.disabled = true
    say(send, 'Calling…')
    const began = performance.now()
    try {
      const carries = method.value !== 'GET' && body.value !== ''
      const target = `/function/${path}${rest.value && !/^[/?]/.test(rest.value) ? '/' : ''}${rest.value}`
      const answer = await fetch(target, {
        method: method.value,
        body: carries ? body.value : undefined,
        headers: carries && type.value ? { 'Content-Type': type.value } : {},
        credentials: 'omit',
        cache: 'no-store',
        redirect: 'manual',
      })
      const headMs = performance.now() - began
      const content = await answer.arrayBuffer()
      tell(answer, content, headMs, performance.now() - began)
    } catch (error) {
      show(result, h('p', { className: 'wrong' }, `No answer: ${error.message}`))
    }
    send.disabled = false
    say(send, 'Call')
    onCall()
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
