// The control API. The browser is asked to add nothing by itself: the token that this tab holds goes into each request.

const KEPT = 'pinnace-session'

let token = sessionStorage.getItem(KEPT) ?? ''
let onRefused = () => {}

/** The gateway's answer was an error: `status`, and its one line as the message. */
export class Refused extends Error {
  constructor(status, text) {
    super(text || `HTTP ${status}`)
    this.status = status
  }
}

/** Call `listener` when the login is asked for. */
export function whenRefused(listener) {
  onRefused = listener
}

function keep(session) {
  token = session.token
  if (token) sessionStorage.setItem(KEPT, token)
  else sessionStorage.removeItem(KEPT)
}

export const loggedIn = () => token !== ''

export function logOut() {
  keep({ token: '' })
}

/** Get a session with the login. */
export async function logIn(user, password) {
  const login = btoa(String.fromCharCode(...new TextEncoder().encode(`${user}:${password}`)))
  await begin(`Basic ${login}`)
}

/** Get a session with the token of a link, which `faas dashboard` makes. */
export const redeem = (link) => begin(`Bearer ${link}`)

async function begin(authorization) {
  const answer = await fetch('/api/v1/session', { method: 'POST', credentials: 'omit', headers: { Authorization: authorization } })
  if (!answer.ok) throw new Refused(answer.status, answer.status === 401 ? 'This login is not known here.' : await answer.text())
  keep(await answer.json())
}

/** Send a request. Throws Refused for an error status. */
export async function request(method, path, { body, json, headers = {}, signal } = {}) {
  const sent = { ...headers }
  if (token) sent.Authorization = `Bearer ${token}`
  if (json !== undefined) sent['Content-Type'] = 'application/json'
  const answer = await fetch(path, {
    method,
    headers: sent,
    body: json !== undefined ? JSON.stringify(json) : body,
    credentials: 'omit',
    cache: 'no-store',
    signal,
  })
  if (answer.status === 401) onRefused()
  if (!answer.ok) throw new Refused(answer.status, (await answer.text()).trim())
  return answer
}

export const get = async (path, options) => (await request('GET', path, options)).json()

/** Yield the lines of an answer as they come. */
export async function* lines(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  try {
    for (;;) {
      const { value, done } = await reader.read()
      if (done) break
      const found = (rest + value).split('\n')
      rest = found.pop()
      yield* found
    }
    if (rest) yield rest
  } finally {
    reader.cancel().catch(() => {})
  }
}

/** Yield server-sent events as `{id, event, data}`. EventSource cannot carry a token. */
export async function* events(path, last, signal) {
  const headers = { Accept: 'text/event-stream', ...(last ? { 'Last-Event-ID': last } : {}) }
  const answer = await request('GET', path, { headers, signal })
  let found = {}
  for await (const line of lines(answer)) {
    if (line === '') {
      if (found.data !== undefined) yield found
      found = {}
      continue
    }
    const colon = line.indexOf(':')
    if (colon > 0) found[line.slice(0, colon)] = line.slice(colon + 1).replace(/^ /, '')
  }
}

/** The path of a function's part of the API. */
export const ofFunction = (f, part = '', query = '') =>
  `/api/v1/functions/${encodeURIComponent(f.name)}${part}?namespace=${encodeURIComponent(f.namespace)}${query}`
