'use strict'
// HTTP around the handler: limits, deadlines, probes, and an end that loses no accepted call.

const http = require('node:http')
const logs = require('./logs')
const { Context, InvalidRequest, makeEvent, makeReply } = require('./event')
const { parseDurationMs } = require('./settings')

const KEEP_ALIVE_MS = 600_000 // longer than a proxy in front keeps idle connections, so that it is the proxy that closes them
const HEAD_WITHIN_MS = 10_000
const HEAD_LIMIT = 64 * 1024
const FIRST_CALL_WITHIN_MS = 1000
const QUIET_TURNS = 3
const REFUSED_BODY_WITHIN_MS = 1000
const BACKLOG = 1024
const CALL_ID = /^[A-Za-z0-9._-]{1,128}$/
// A traceparent (W3C Trace Context) that says that its call is recorded.
const TRACED = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f][13579bdf](-|$)/
const MARK = { 'X-OpenFaaS-Internal': 'runtime' }

class FunctionServer {
  constructor (settings) {
    this.settings = settings
    this.handler = null
    this.draining = false
    this.inflight = new Set()
    this.connections = new Map() // socket → { served, busy }
    this.accepted = 0
    this.idle = () => {}
    const options = { maxHeaderSize: HEAD_LIMIT, headersTimeout: HEAD_WITHIN_MS, requestTimeout: 0, keepAliveTimeout: KEEP_ALIVE_MS }
    this.http = http.createServer({ ...options, connectionsCheckingInterval: 1000 })
    this.http.on('request', (request, response) => this.receive(request, response))
    this.http.on('checkContinue', (request, response) => this.receive(request, response, true))
    this.http.on('connection', socket => {
      this.accepted += 1
      this.connections.set(socket, { served: false, busy: 0 })
      socket.on('close', () => {
        this.connections.delete(socket)
        this.idle()
      })
    })
  }

  listen (handler) {
    this.handler = handler
    const { listenFd, port } = this.settings
    return new Promise((resolve, reject) => {
      this.http.once('error', error => reject(new Error(`cannot listen on port ${port}: ${error.message}`)))
      this.http.listen(listenFd === null ? { port, backlog: BACKLOG } : { fd: listenFd }, resolve)
    })
  }

  receive (request, response, expectsContinue = false) {
    const connection = this.connections.get(request.socket)
    if (connection) {
      connection.served = true
      connection.busy += 1
      response.on('close', () => {
        connection.busy -= 1
        if (this.draining && !connection.busy) request.socket.end()
      })
    }
    if (this.draining) response.setHeader('Connection', 'close')
    if (request.url === '/_/health') return say(response, 200, 'OK\n')
    if (request.url === '/_/ready') return this.draining ? say(response, 503, 'draining\n') : say(response, 200, 'OK\n')
    const { maxInflight } = this.settings
    if (maxInflight && this.inflight.size >= maxInflight) {
      const text = `Concurrent request limit exceeded. Max concurrent requests: ${maxInflight}\n`
      return refuse(request, response, 429, text)
    }
    if (expectsContinue) response.writeContinue()
    new Call(this, request, response).begin()
  }

  // An exception that nobody caught: the state of the process is unknown. The call that it belongs to fails, the others
  // may end, then the process does, and another takes its place.
  broken (error) {
    process.stderr.write(`${logs.stackOf(error)}\n`)
    const call = logs.calls.getStore()
    if (call instanceof Call) call.answerFailure()
    if (!this.http.listening) process.exit(1)
    this.drain().then(() => process.exit(1))
  }

  // Finish what was accepted. Resolves with whether every call was finished.
  async drain () {
    if (this.draining) return new Promise(() => {})
    this.draining = true
    // What lies in the backlog is accepted (libuv takes one connection in a turn of the loop) and what has arrived is read.
    const giveUpAt = Date.now() + FIRST_CALL_WITHIN_MS
    for (let quiet = 0; quiet < QUIET_TURNS && Date.now() < giveUpAt; quiet++) {
      const before = this.accepted
      await new Promise(resolve => setTimeout(resolve, 1))
      if (this.accepted > before) quiet = 0
    }
    const ended = new Promise(resolve => {
      this.idle = () => { if (!this.connections.size) resolve(true) }
      setTimeout(() => resolve(false), this.settings.timeoutMs + 1000).unref()
    })
    this.http.close()
    this.shutIdle(true)
    setTimeout(() => this.shutIdle(false), FIRST_CALL_WITHIN_MS)
    this.idle()
    return ended
  }

  shutIdle (served) {
    for (const [socket, connection] of this.connections) {
      if (!connection.busy && (connection.served || !served)) socket.destroySoon()
    }
  }
}

// One call, from its head to its answer. It holds its place among `max_inflight` until the handler has ended.
class Call {
  constructor (server, request, response) {
    this.server = server
    this.request = request
    this.response = response
    const id = request.headers['x-call-id'] ?? ''
    this.id = CALL_ID.test(id) ? id : ''
    const trace = this.id && TRACED.exec(request.headers.traceparent ?? '')?.[1]
    this.mark = trace ? `${this.id} ${trace}` : this.id // what its log lines carry
    this.answered = false
    this.limitMs = limitMs(request.headers['x-timeout'], server.settings.timeoutMs)
  }

  begin () {
    this.server.inflight.add(this)
    this.timer = setTimeout(() => this.expire(), this.limitMs)
    this.response.on('close', () => clearTimeout(this.timer))
    logs.calls.run(this, () => this.run())
  }

  async run () {
    try {
      const body = await this.readBody()
      if (body !== null) await this.answer(body)
    } catch (error) {
      if (error instanceof InvalidRequest) this.send({ status: error.status, headers: TEXT, body: Buffer.from(`${error.message}\n`) })
      else this.failed(error)
    } finally {
      this.server.inflight.delete(this)
      if (this.id) logs.endCall(this.mark)
    }
  }

  // Return the whole body, or null when the client left before it was.
  readBody () {
    const { request } = this
    const length = request.headers['content-length']
    if (length === '0' || (length === undefined && !request.headers['transfer-encoding'])) return Promise.resolve(Buffer.alloc(0))
    return new Promise((resolve, reject) => {
      const pieces = []
      let size = 0
      request.on('data', piece => {
        size += piece.length
        if (size > this.server.settings.bodyLimit) {
          request.removeAllListeners('data')
          request.resume()
          return reject(new InvalidRequest(413, `the body is larger than ${this.server.settings.bodyLimit} bytes`))
        }
        pieces.push(piece)
      })
      request.on('end', () => resolve(pieces.length === 1 ? pieces[0] : Buffer.concat(pieces)))
      request.on('error', () => resolve(null))
      request.on('close', () => resolve(null))
    })
  }

  async answer (body) {
    const context = new Context(this.id)
    const event = makeEvent(this.request, body, this.server.settings.rawBody)
    const value = await new Promise((resolve, reject) => {
      const callback = (error, result) => error ? reject(error) : resolve(result)
      const result = this.server.handler(event, context, callback)
      if (result !== undefined || this.server.handler.length < 3) Promise.resolve(result).then(resolve, reject)
      else context.whenSettled(resolve)
    })
    const { settled } = context
    if (settled && 'error' in settled) {
      process.stderr.write(`${logs.stackOf(settled.error)}\n`)
      const text = String(settled.error?.message ?? settled.error)
      return this.send({ status: context.failureStatus, headers: { ...TEXT, ...context.headers() }, body: Buffer.from(text) })
    }
    const reply = makeReply(context, settled ? settled.value : value, this.server.settings.contentType)
    return reply.stream ? this.stream(reply) : this.send(reply)
  }

  send ({ status, headers, body }) {
    if (this.answered) return
    this.head(status, { ...headers, ...mayHaveBody(status, body.length) })
    this.response.end(body)
  }

  // Send each piece as it comes. The first comes before the head, so that a failure until then is a plain 500.
  async stream ({ status, headers, stream }) {
    const { response } = this
    const pieces = stream[Symbol.asyncIterator]()
    let piece = await pieces.next()
    try {
      if (this.answered) return
      this.head(status, headers)
      for (; !piece.done && !response.destroyed; piece = await pieces.next()) {
        if (!response.write(piece.value)) await drained(response)
      }
      response.end()
    } catch (error) {
      process.stderr.write(`${logs.stackOf(error)}\n`)
      if (!this.answered) return this.answerFailure()
      response.destroy() // so that the client sees that it is not whole
    } finally {
      await pieces.return?.()
    }
  }

  head (status, headers) {
    if (this.server.draining) this.response.shouldKeepAlive = false
    this.response.writeHead(status, headers) // throws for headers that may not go on the wire
    this.answered = true
  }

  failed (error) {
    process.stderr.write(`${error instanceof Error ? logs.stackOf(error) : `the handler threw ${String(error)}`}\n`)
    this.answerFailure()
  }

  answerFailure () {
    this.send({ status: 500, headers: TEXT, body: Buffer.from('Internal Server Error\n') })
  }

  expire () {
    const whose = this.limitMs < this.server.settings.timeoutMs ? "its caller's X-Timeout" : "the function's timeout"
    const late = `call took longer than ${whose}, ${this.limitMs / 1000} s`
    logs.calls.run(this, () => process.stderr.write(`[pinnace] the ${late}${this.id ? ` (call ${this.id})` : ''}\n`))
    if (this.answered) return this.response.destroy()
    const text = `The ${late}\n`
    this.response.shouldKeepAlive = false
    this.send({ status: 504, headers: { ...TEXT, ...MARK }, body: Buffer.from(text) })
  }
}

const TEXT = { 'Content-Type': 'text/plain; charset=utf-8' }

function drained (response) {
  return new Promise(resolve => response.once('drain', resolve).once('close', resolve))
}

function mayHaveBody (status, length) {
  return status === 204 || status === 304 ? {} : { 'Content-Length': length }
}

function say (response, status, text) {
  response.writeHead(status, { ...TEXT, 'Content-Length': Buffer.byteLength(text) })
  response.end(text)
}

// Answer before the body is read, and give the client a moment to see the answer.
function refuse (request, response, status, text) {
  response.writeHead(status, { ...TEXT, ...MARK, 'Content-Length': Buffer.byteLength(text), Connection: 'close' })
  response.end(text)
  request.resume()
  setTimeout(() => request.socket.destroy(), REFUSED_BODY_WITHIN_MS).unref()
}

// X-Timeout may only shorten the function's limit; what is no duration is ignored, as in of-watchdog.
function limitMs (wanted, limit) {
  const ms = wanted ? parseDurationMs(wanted) : null
  return ms ? Math.min(ms, limit) : limit
}

module.exports = { FunctionServer }
