'use strict'
// Standard output and error: whole lines, each with the id of the call that wrote it. With frames on, a line of a call is
// `\x1e MARK \x1f TEXT \n` (without the spaces); the mark is the call's id, with ` TRACE-ID` behind it where the call is traced.
// The call is found by AsyncLocalStorage, so it is right after an await.

const { AsyncLocalStorage } = require('node:async_hooks')

const LINE_LIMIT = 16 * 1024 * 1024

const calls = new AsyncLocalStorage()
const writers = []

class LineWriter {
  constructor (stream, frames) {
    this.frames = frames
    this.unfinished = new Map()
    this.toStream = stream.write.bind(stream)
  }

  write (chunk, encoding, callback) {
    if (typeof encoding === 'function') [encoding, callback] = [undefined, encoding]
    const text = typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString('utf8')
    const id = calls.getStore()?.mark ?? ''
    const end = text.lastIndexOf('\n') + 1
    let lines = ''
    if (end) {
      lines = (this.unfinished.get(id) ?? '') + text.slice(0, end)
      this.unfinished.delete(id)
    }
    if (end < text.length) {
      const line = (this.unfinished.get(id) ?? '') + text.slice(end)
      if (line.length > LINE_LIMIT) {
        lines += line + '\n'
        this.unfinished.delete(id)
      } else this.unfinished.set(id, line)
    }
    return lines ? this.emit(id, lines, callback) : (callback && process.nextTick(callback), true)
  }

  endCall (id) {
    const line = this.unfinished.get(id)
    if (line === undefined) return
    this.unfinished.delete(id)
    this.emit(id, line + '\n')
  }

  emit (id, lines, callback) {
    if (this.frames && id) {
      const frame = `\x1e${id}\x1f`
      lines = frame + lines.slice(0, -1).replaceAll('\n', '\n' + frame) + '\n'
    }
    return this.toStream(lines, callback)
  }
}

// The stack of an error without this runtime's frames, as its author reads it; with PINNACE_DEBUG=1 as Node has it.
function stackOf (error) {
  const stack = String(error?.stack ?? error)
  if (process.env.PINNACE_DEBUG === '1') return stack
  return stack.split('\n').filter(line => !(line.startsWith('    at ') && line.includes(__dirname))).join('\n')
}

// Replace what process.stdout and process.stderr do with text. Call it before the handler is loaded.
function install (frames) {
  for (const stream of [process.stdout, process.stderr]) {
    const writer = new LineWriter(stream, frames)
    writers.push(writer)
    stream.write = (chunk, encoding, callback) => writer.write(chunk, encoding, callback)
    stream.on('error', () => {}) // nobody reads the log any more; that must not end the process
  }
  process.on('exit', () => {
    for (const writer of writers) for (const id of [...writer.unfinished.keys()]) writer.endCall(id)
  })
}

// Write what the call left without a line end.
function endCall (id) {
  for (const writer of writers) if (writer.unfinished.size) writer.endCall(id)
}

module.exports = { calls, install, endCall, stackOf }
