// Elements are made from data, never from text: the page's policy forbids markup in strings.

const SVG = 'http://www.w3.org/2000/svg'

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value)
    else if (name in element && name !== 'list' && name !== 'form' && !(element instanceof SVGElement)) element[name] = value
    else element.setAttribute(name, value === true ? '' : value)
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false))
  return element
}

/** Make an element: `h('p', {className: 'note'}, 'text', other)`. `on…` attributes are listeners. */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children)
}

/** Make an SVG element. */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children)
}

/** Put `text` into an element, and touch the document only when it is another. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text
}

/** Let an element have exactly these children. */
export function show(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false))
}

/** The same; what had the focus keeps it, where something with its label is there again. */
export function showAnew(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement.getAttribute('aria-label') : null
  show(element, ...children)
  if (focused) element.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true })
}

/** A field with its label above it, and what there is to say about it below. */
export function field(label, control, hint) {
  control.id ||= `field-${++fields}`
  const told = hint ? h('span', { className: 'hint', id: `${control.id}-hint` }, hint) : null
  if (told) control.setAttribute('aria-describedby', told.id)
  return h('div', { className: 'field' }, h('label', { htmlFor: control.id }, label), control, told)
}

let fields = 0

/** A section with a heading; `tools` stand beside it. */
export function section(title, tools, ...children) {
  const id = `section-${++fields}`
  return h(
    'section',
    { className: 'panel', 'aria-labelledby': id },
    h('header', {}, h('h2', { id }, title), tools),
    ...children,
  )
}

/** Tell something that happened, also to those who listen to the page. */
export function announce(text, bad = false) {
  const place = document.getElementById('news')
  const note = h('div', { className: bad ? 'toast bad' : 'toast' }, text)
  place.append(note)
  setTimeout(() => note.remove(), bad ? 10000 : 5000)
}

/** Ask before something that cannot be undone. Resolves to whether it was confirmed. */
export function confirm(title, text, verb, otherwise = 'Cancel') {
  return new Promise((resolve) => {
    const dialog = h(
      'dialog',
      { 'aria-label': title, onclose: () => (resolve(dialog.returnValue === 'yes'), dialog.remove()) },
      h('h2', {}, title),
      h('p', {}, text),
      h(
        'div',
        { className: 'actions' },
        h('button', { type: 'button', onclick: () => dialog.close('no') }, otherwise),
        h('button', { type: 'button', className: 'danger', onclick: () => dialog.close('yes') }, verb),
      ),
    )
    document.body.append(dialog)
    dialog.showModal()
  })
}
