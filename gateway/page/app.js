// The page as a whole: who is logged in, which view is shown, and whether the gateway still answers.

import { get, logIn, loggedIn, logOut, redeem, whenRefused } from './api.js'
import { announce, field, h, say, show } from './dom.js'
import { live } from './live.js'
import { deployView } from './deploy.js'
import { functionView } from './function.js'
import { functionsView } from './functions.js'
import { queuesView } from './queue.js'

const main = h('main', { id: 'main', tabIndex: -1 })
const links = [
  ['#/', 'Functions'],
  ['#/async', 'Queues'],
  ['#/deploy', 'Deploy'],
].map(([href, text]) => h('a', { href }, text))
const status = h('span', { className: 'status', role: 'status' })
const leave = h('button', { type: 'button', className: 'quiet', hidden: true, onclick: () => (logOut(), askForLogin()) }, 'Log out')
const theme = h('button', { type: 'button', className: 'quiet', onclick: turn })

let view = null
let open = false

document.body.append(
  h('a', { className: 'skip', href: '#main', onclick: (e) => (e.preventDefault(), main.focus()) }, 'Skip to content'),
  h(
    'header',
    { className: 'top' },
    h('a', { className: 'brand', href: '#/' }, mark(), 'Pinnace'),
    h('nav', { 'aria-label': 'Views' }, links),
    status,
    theme,
    leave,
  ),
  main,
  h('div', { id: 'news', role: 'log', 'aria-live': 'polite', 'aria-label': 'News' }),
)

function mark() {
  return h('img', { src: new URL('icon.svg', import.meta.url).href, alt: '', width: 22, height: 22 })
}

// Themes: the system's, unless somebody chose another here.

function turn() {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === 'dark'
    : matchMedia('(prefers-color-scheme: dark)').matches
  localStorage.setItem('pinnace-theme', dark ? 'light' : 'dark')
  dress()
}

function dress() {
  const chosen = localStorage.getItem('pinnace-theme')
  if (chosen) document.documentElement.dataset.theme = chosen
  const dark = chosen ? chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches
  say(theme, dark ? 'Light' : 'Dark')
  theme.setAttribute('aria-label', dark ? 'Use light colours' : 'Use dark colours')
}

// Who looks at this.

function askForLogin() {
  open = false
  live.stop()
  leave.hidden = true
  view?.leave?.()
  view = null
  say(status, '')
  document.title = 'Log in · Pinnace'
  const user = h('input', { name: 'user', autocomplete: 'username', required: true, value: 'admin', spellcheck: false })
  const password = h('input', { name: 'password', type: 'password', autocomplete: 'current-password', required: true })
  const wrong = h('p', { className: 'wrong', role: 'alert' })
  const send = async (event) => {
    event.preventDefault()
    say(wrong, '')
    try {
      await logIn(user.value, password.value)
      begin()
    } catch (error) {
      say(wrong, error.message)
      password.select()
    }
  }
  show(
    main,
    h(
      'form',
      { className: 'login panel', onsubmit: send },
      h('h1', {}, 'Log in'),
      h('p', { className: 'muted' }, 'With the gateway’s login. ', h('code', {}, 'faas dashboard'), ' opens this page without asking.'),
      field('User', user),
      field('Password', password),
      wrong,
      h('button', { className: 'primary' }, 'Log in'),
    ),
  )
  password.focus()
}

function begin() {
  open = true
  leave.hidden = !loggedIn()
  live.start()
  route()
}

// Views, by what stands after the # of the address.

function route() {
  if (!open) return
  const [, place, namespace, name, part] = location.hash.split('/').map(decodeURIComponent)
  view?.leave?.()
  const [title, made] =
    place === 'f' && name
      ? [name, functionView({ namespace, name }, part)]
      : place === 'deploy'
        ? ['Deploy', deployView()]
        : place === 'async'
          ? ['Queues', queuesView()]
          : ['Functions', functionsView()]
  view = made
  document.title = `${title} · Pinnace`
  const here = Math.max(0, ['', 'async', 'deploy'].indexOf(place))
  links.forEach((link, i) => (i === here ? link.setAttribute('aria-current', 'page') : link.removeAttribute('aria-current')))
  show(main, view.element)
  view.enter?.()
  scrollTo(0, 0)
}

addEventListener('hashchange', () => {
  route()
  main.focus({ preventScroll: true })
})

addEventListener('keydown', (event) => {
  const typing = event.target.closest?.('input, textarea, select, dialog')
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return
  if (event.key === '/' && view?.search) {
    event.preventDefault()
    view.search.focus()
  } else if (event.key === 'g') location.hash = '#/'
  else if (event.key === 'q') location.hash = '#/async'
  else if (event.key === 'd') location.hash = '#/deploy'
})

live.addEventListener('state', () => {
  status.className = `status ${live.state}`
  say(status, { connecting: 'connecting', live: 'live', lost: 'no answer; trying again' }[live.state])
})

whenRefused(() => {
  if (open) announce('The session is over: log in again.')
  logOut()
  askForLogin()
})

async function start() {
  dress()
  const link = /^#session=([\w.]+)$/.exec(location.hash)?.[1]
  if (link) {
    history.replaceState(null, '', location.pathname)
    try {
      await redeem(link)
    } catch {
      announce('That link is over; they are good for a minute. Log in instead.', true)
    }
  }
  try {
    await get('/system/info') // whether this gateway lets us in, with a session or because it asks nobody
    begin()
  } catch (error) {
    if (error.status !== 401) show(main, h('p', { className: 'panel wrong', role: 'alert' }, `The gateway does not answer: ${error.message}`))
  }
}

start()
