'use strict'
// Serve the function in the working folder: `node PATH/pinnace_runtime/main.js`. What the platform gives and expects is
// the replica contract in docs/architecture.md. Node.js 18 or newer, nothing from outside of it.

const fs = require('node:fs')
const logs = require('./logs')
const { loadHandler, LoadFailed } = require('./loading')
const { readSettings } = require('./settings')
const { FunctionServer } = require('./server')

async function main () {
  const settings = readSettings(process.env)
  logs.install(settings.logFrames)
  const server = new FunctionServer(settings)
  process.on('uncaughtException', error => server.broken(error))
  let handler
  try {
    handler = await loadHandler(process.cwd())
    await server.listen(handler)
  } catch (error) {
    fail(error, settings)
  }
  let signals = 0
  for (const name of ['SIGTERM', 'SIGINT']) {
    process.on(name, () => {
      signals += 1
      if (signals === 1) server.drain().then(finished => process.exit(finished ? 0 : 1))
      else process.exit(1)
    })
  }
  notify(settings, { ready: true })
}

// Tell the platform and the log why the function cannot be served, and end the process.
function fail (error, settings) {
  const line = error instanceof LoadFailed ? error.message : `${error.name}: ${error.message}`
  const detail = error.detail ?? error.stack ?? ''
  process.stderr.write(detail ? `${detail}\n` : `${line}\n`)
  notify(settings, { failed: line.split('\n').join(' ').slice(0, 500), detail: detail.slice(-16384) })
  process.exit(1)
}

function notify (settings, message) {
  if (settings.notifyFd === null) return
  try {
    fs.writeSync(settings.notifyFd, JSON.stringify(message) + '\n')
    fs.closeSync(settings.notifyFd)
  } catch (error) {
    process.stderr.write(`the platform does not hear that this replica started: ${error.message}\n`)
  }
}

main().catch(error => {
  process.stderr.write(`${error.message}\n`)
  process.exit(1)
})
