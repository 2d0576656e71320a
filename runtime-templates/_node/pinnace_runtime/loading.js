'use strict'
// Load the user's handler, and say in one line what is wrong when that fails.

const fs = require('node:fs')
const module_ = require('node:module')
const path = require('node:path')
const { pathToFileURL } = require('node:url')

const NAMES = ['handler.js', 'handler.mjs', 'handler.cjs']

class LoadFailed extends Error {
  constructor (message, detail = '') {
    super(message)
    this.detail = detail
  }
}

// Return the function that `function/handler.js` in the code folder exports. Throws LoadFailed.
async function loadHandler (code) {
  const folder = path.join(code, 'function')
  const name = NAMES.find(each => fs.existsSync(path.join(folder, each)))
  if (!name) throw new LoadFailed('function/handler.js is missing')
  const file = path.join(folder, name)
  let loaded
  try {
    loaded = isModule(file) ? await importModule(file) : require(file)
  } catch (error) {
    throw new LoadFailed(`${place(error, folder)}${what(error)}`, detailOf(error))
  }
  for (const candidate of [loaded, loaded?.default, loaded?.handler, loaded?.handle]) {
    if (typeof candidate === 'function') return candidate
  }
  throw new LoadFailed(`${name} exports no function: module.exports = async (event, context) => …`)
}

function isModule (file) {
  if (file.endsWith('.mjs')) return true
  if (file.endsWith('.cjs')) return false
  try {
    return JSON.parse(fs.readFileSync(path.join(path.dirname(file), 'package.json'), 'utf8')).type === 'module'
  } catch {
    return false
  }
}

async function importModule (file) {
  // `import` does not look at NODE_PATH, where the installed packages are.
  if (process.env.NODE_PATH && module_.register) module_.register(pathToFileURL(path.join(__dirname, 'resolving.mjs')))
  return import(pathToFileURL(file))
}

// `handler.js line 3: ` for an error whose stack or message names a file of the function's.
function place (error, folder) {
  const [, ...mentions] = String(error?.stack ?? '').split(folder + path.sep)
  for (const mention of mentions) { // the first may be in the message, without a line
    const found = /^([^\s:()]+):(\d+)/.exec(mention)
    if (found) return `${found[1]} line ${found[2]}: `
  }
  return ''
}

function what (error) {
  if (!(error instanceof Error)) return `it threw ${String(error)}`
  return `${error.name}: ${String(error.message).split('\n')[0]}`
}

function detailOf (error) {
  return error instanceof Error ? String(error.stack ?? error) : String(error)
}

module.exports = { loadHandler, LoadFailed }
