// A new function, or a new revision of one: from an image's name, or from a handler pasted here.

import { get, lines, ofFunction, request } from './api.js'
import { field, h, say, show } from './dom.js'
import { tar } from './tar.js'
import { TEMPLATES } from './templates.js'

const DEFAULT = 'openfaas-fn'
const NAME = '[a-z0-9]([\\-a-z0-9]*[a-z0-9])?'

export function deployView() {
  const stop = new AbortController()
  const name = h('input', { required: true, pattern: NAME, maxLength: 50, spellcheck: false, autocomplete: 'off' })
  const namespace = h('select', {}, h('option', {}, DEFAULT))
  const language = h('select', { onchange: dress }, TEMPLATES.map((t) => h('option', {}, t.language)))
  const handler = h('textarea', { rows: 14, spellcheck: false, className: 'code', onkeydown: indent })
  const requirements = h('textarea', { rows: 3, spellcheck: false, className: 'code' })
  const image = h('input', { spellcheck: false, autocomplete: 'off', placeholder: 'hello:latest' })
  const environment = h('textarea', { rows: 3, spellcheck: false, className: 'code', placeholder: 'NAME=value' })
  const secrets = h('div', { className: 'checks' })
  const least = h('input', { type: 'number', min: 1, max: 10000, placeholder: '1' })
  const most = h('input', { type: 'number', min: 1, max: 10000, placeholder: '20' })
  const zero = h('input', { type: 'checkbox' })
  const memory = h('input', { placeholder: '128Mi', spellcheck: false })
  const cpu = h('input', { placeholder: '500m', spellcheck: false })
  const log = h('pre', { className: 'build', tabIndex: 0, role: 'log', 'aria-label': 'Build', hidden: true })
  const told = h('p', { className: 'message', role: 'status', hidden: true })
  const send = h('button', { className: 'primary' }, 'Deploy')

  const paste = h('div', {}, field('Template', language), field('Handler', handler))
  const more = field('Dependencies', requirements, ' ')
  paste.append(more)
  const named = h('div', { hidden: true }, field('Image', image, ' '))
  const ways = h(
    'div',
    { className: 'tabs', role: 'group', 'aria-label': 'What to deploy' },
    ['Paste a handler', 'An image'].map((text, i) =>
      h('button', { type: 'button', 'aria-pressed': String(i === 0), onclick: () => choose(i) }, text),
    ),
  )
  let pasted = true
  let here = true // functions run on the gateway's machine; elsewhere what is built is pushed to a registry

  function choose(way) {
    pasted = way === 0
    paste.hidden = !pasted
    named.hidden = pasted && here
    image.required = !named.hidden
    const built = 'Where the image is pushed: in a registry that gateway and cluster reach.'
    const there = here ? 'One that was built on this gateway, or in a registry that it may use.' : 'One that the cluster can pull.'
    say(named.querySelector('.hint'), pasted ? built : there)
    ;[...ways.children].forEach((button, i) => button.setAttribute('aria-pressed', String(i === way)))
  }

  let filled = ''

  function dress() {
    const template = TEMPLATES[language.selectedIndex]
    if (handler.value === filled) handler.value = filled = template.text
    more.hidden = !template.requirements
    say(more.querySelector('.hint'), template.hint)
  }

  function indent(event) {
    if (event.key !== 'Tab' || event.shiftKey || !handler.value.slice(0, handler.selectionStart).endsWith('\n')) return
    event.preventDefault() // at the beginning of a line only, so that the keyboard can leave the field
    handler.setRangeText('    ', handler.selectionStart, handler.selectionEnd, 'end')
  }

  async function offer() {
    const options = { signal: stop.signal }
    const spaces = await get('/system/namespaces', options)
    show(namespace, spaces.map((space) => h('option', { selected: space === DEFAULT }, space)))
    await offerSecrets()
    here = (await get('/system/info', options)).provider.orchestration === 'local'
    if (!here) image.placeholder = 'registry.example.com/team/hello:1.0'
    choose(pasted ? 0 : 1)
  }

  async function offerSecrets() {
    const found = await get(`/system/secrets?namespace=${encodeURIComponent(namespace.value)}`, { signal: stop.signal })
    show(
      secrets,
      found.length
        ? found.map((secret) => h('label', {}, h('input', { type: 'checkbox', value: secret.name }), secret.name))
        : h('span', { className: 'muted' }, 'There are none in this namespace.'),
    )
  }

  namespace.addEventListener('change', () => offerSecrets().catch(() => {}))

  function request_(tag) {
    const labels = {}
    if (least.value) labels['com.openfaas.scale.min'] = least.value
    if (most.value) labels['com.openfaas.scale.max'] = most.value
    if (zero.checked) labels['com.openfaas.scale.zero'] = 'true'
    const limits = Object.fromEntries([['memory', memory.value.trim()], ['cpu', cpu.value.trim()]].filter(([, value]) => value))
    const envVars = {}
    for (const line of environment.value.split('\n').filter((text) => text.trim())) {
      const equals = line.indexOf('=')
      if (equals < 1) throw new Error(`Environment: ${line.trim()} is not NAME=value.`)
      envVars[line.slice(0, equals).trim()] = line.slice(equals + 1)
    }
    const chosen = [...secrets.querySelectorAll('input:checked')].map((input) => input.value)
    return {
      service: name.value,
      namespace: namespace.value,
      image: tag,
      labels,
      ...(Object.keys(envVars).length ? { envVars } : {}),
      ...(chosen.length ? { secrets: chosen } : {}),
      ...(Object.keys(limits).length ? { limits } : {}),
    }
  }

  function tell(text, bad = false) {
    told.hidden = false
    told.className = bad ? 'message wrong' : 'message'
    say(told, text)
  }

  async function build() {
    const template = TEMPLATES[language.selectedIndex]
    const place = namespace.value === DEFAULT ? '' : `${namespace.value}/`
    const tag = here ? `${place}${name.value}:latest` : image.value.trim()
    const files = [
      ['com.openfaas.docker.config', JSON.stringify({ image: tag })],
      ['context/template.yml', `language: ${template.language}\n`],
      [`context/function/${template.handler}`, handler.value],
    ]
    if (template.requirements && requirements.value.trim()) files.push([`context/function/${template.requirements}`, requirements.value])
    tell('Building…')
    log.hidden = false
    show(log)
    const answer = await request('POST', '/build', {
      body: tar(files),
      headers: { 'Content-Type': 'application/octet-stream' },
      signal: stop.signal,
    })
    let last = {}
    for await (const line of lines(answer)) {
      if (!line) continue
      last = JSON.parse(line)
      const text = (last.log ?? []).join('\n')
      if (text) {
        log.append(text.endsWith('\n') ? text : `${text}\n`)
        log.scrollTop = log.scrollHeight
      }
    }
    if (last.status !== 'success') throw new Error(last.error || 'The build failed; its log says why.')
    return tag
  }

  async function deploy(event) {
    event.preventDefault()
    send.disabled = true
    try {
      request_('') // what is wrong with it is told before anything is built
      const asked = request_(pasted ? await build() : image.value.trim())
      tell('Deploying…')
      const made = await (await put(asked)).json()
      tell(`Revision ${made.revision} is starting…`)
      const details = await settled(made)
      if (details.condition.phase !== 'Ready') throw new Error(details.condition.message || 'It does not become ready.')
      location.hash = `#/f/${encodeURIComponent(made.namespace)}/${encodeURIComponent(made.name)}`
    } catch (error) {
      if (error.name !== 'AbortError') tell(error.message, true)
    }
    send.disabled = false
  }

  async function put(json) {
    try {
      return await request('PUT', '/system/functions', { json, signal: stop.signal })
    } catch (error) {
      if (error.status !== 404) throw error
      return request('POST', '/system/functions', { json, signal: stop.signal })
    }
  }

  async function settled(made) {
    for (;;) {
      const details = await get(ofFunction(made, '', `&wait=20s&generation=${made.generation}`), { signal: stop.signal })
      const failing = details.replicas.find((r) => r.revision === made.revision && r.state === 'CrashLoopBackOff')
      if (failing) throw new Error(failing.reason || 'Its replicas end by themselves.')
      if (details.condition.phase !== 'Progressing') return details
    }
  }

  handler.value = filled = TEMPLATES[0].text
  dress()
  return {
    element: h(
      'form',
      { className: 'deploy', onsubmit: deploy },
      h('div', { className: 'title' }, h('h1', {}, 'Deploy')),
      h(
        'div',
        { className: 'columns' },
        h('div', { className: 'panel' }, ways, h('div', { className: 'fields' }, field('Name', name), field('Namespace', namespace)), paste, named),
        h(
          'div',
          { className: 'panel' },
          h('h2', {}, 'Settings'),
          h('div', { className: 'fields' }, field('Least replicas', least), field('Most replicas', most)),
          h('label', { className: 'check' }, zero, 'To zero when nobody calls it'),
          field('Environment', environment, 'One a line. Confidential values belong into secrets.'),
          h('fieldset', {}, h('legend', {}, 'Secrets'), secrets),
          h('div', { className: 'fields' }, field('Memory limit', memory), field('CPU limit', cpu)),
          h('div', { className: 'actions' }, send),
          told,
          log,
        ),
      ),
    ),
    enter() {
      offer().catch(() => {})
      name.focus()
    },
    leave() {
      stop.abort()
    },
  }
}
