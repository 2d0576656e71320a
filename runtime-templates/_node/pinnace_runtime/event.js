'use strict'
// What OpenFaaS's node handlers are given, and what they may answer.

class InvalidRequest extends Error {
  constructor (status, message) {
    super(message)
    this.status = status
  }
}

// Return the event for a request and its whole body. Throws InvalidRequest for a body that is not what it says it is.
function makeEvent (request, raw, rawBody) {
  const mark = request.url.indexOf('?')
  return {
    body: rawBody ? raw : parseBody(raw, request.headers['content-type'] ?? ''),
    rawBody: raw,
    headers: request.headers,
    method: request.method,
    query: parseQuery(mark < 0 ? '' : request.url.slice(mark + 1)),
    path: mark < 0 ? request.url : request.url.slice(0, mark)
  }
}

// As the body parsers of OpenFaaS's template: JSON and forms become objects, text a string; anything else stays bytes.
function parseBody (raw, contentType) {
  const type = contentType.split(';')[0].trim().toLowerCase()
  if (type === 'application/json' || type.endsWith('+json')) {
    if (!raw.length) return {}
    try {
      return JSON.parse(raw.toString('utf8'))
    } catch (error) {
      throw new InvalidRequest(400, `the body is not JSON: ${error.message}`)
    }
  }
  if (type === 'application/x-www-form-urlencoded') return parseQuery(raw.toString('utf8'))
  if (type === '' || type.startsWith('text/')) return raw.toString('utf8')
  return raw
}

// Names that come more than once become lists.
function parseQuery (text) {
  const found = Object.create(null)
  for (const [name, value] of new URLSearchParams(text)) {
    if (!(name in found)) found[name] = value
    else if (Array.isArray(found[name])) found[name].push(value)
    else found[name] = [found[name], value]
  }
  return { ...found }
}

// `context.status(200).headers({…}).succeed(result)` or `.fail(error)`. `settled` holds what the first of them was given.
class Context {
  constructor (callId) {
    this.callId = callId
    this.settled = null
    this._status = null
    this._headers = {}
  }

  status (code) {
    if (code === undefined) return this._status ?? 200
    this._status = code
    return this
  }

  headers (values) {
    if (values === undefined) return this._headers
    this._headers = values
    return this
  }

  succeed (value) {
    this.settle({ value })
  }

  fail (error) {
    this.settle({ error })
  }

  settle (outcome) {
    this.settled ??= outcome
    this._told?.()
  }

  // Call `told` once succeed or fail was called, now if it was already.
  whenSettled (told) {
    this._told = told
    if (this.settled) told()
  }

  get failureStatus () {
    return this._status !== null && this._status >= 400 ? this._status : 500
  }
}

// Return `{ status, headers, body | stream }` for what a handler answered. Throws TypeError for what cannot be sent.
function makeReply (context, value, contentType) {
  const headers = { ...context.headers() }
  const status = Number(context.status())
  if (!Number.isInteger(status) || status < 200 || status > 999) {
    throw new TypeError(`the status ${String(context.status())} is not a number from 200 to 999`)
  }
  const typed = Object.keys(headers).some(name => name.toLowerCase() === 'content-type')
  const say = type => { if (!typed) headers['Content-Type'] = contentType || type }
  if (value === undefined || value === null) return { status, headers, body: Buffer.alloc(0) }
  if (typeof value === 'string') {
    say('text/html; charset=utf-8') // as Express says, which OpenFaaS's template is made of
    return { status, headers, body: Buffer.from(value) }
  }
  if (Buffer.isBuffer(value) || value instanceof Uint8Array) {
    say('application/octet-stream')
    return { status, headers, body: Buffer.from(value.buffer, value.byteOffset, value.byteLength) }
  }
  if (typeof value[Symbol.asyncIterator] === 'function') { // a stream, an async generator
    say('application/octet-stream')
    return { status, headers, stream: value }
  }
  const text = JSON.stringify(value)
  if (text === undefined) throw new TypeError(`a ${typeof value} cannot be sent`)
  say('application/json')
  return { status, headers, body: Buffer.from(text) }
}

module.exports = { Context, InvalidRequest, makeEvent, makeReply }
