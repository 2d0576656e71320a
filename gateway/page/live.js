// What all functions do, as the gateway tells it once a second. One stream serves the whole page.

import { events } from './api.js'

const RECENT = 60
const QUIET_MS = 1300 // a look that changed nothing is told by no event
const PAUSE_MS = [500, 1000, 2000, 5000]

/** A function's key here: its namespace and name. */
export const key = (f) => `${f.namespace}/${f.name}`

class Live extends EventTarget {
  rows = new Map()
  at = 0
  state = 'connecting' // connecting, live, lost
  #stop = null
  #last = ''
  #timer = 0
  #pushedAt = 0

  start() {
    if (this.#stop) return
    this.#stop = new AbortController()
    this.#timer = setInterval(() => Date.now() - this.#pushedAt > QUIET_MS && this.#second(), 500)
    this.#run(this.#stop.signal)
  }

  stop() {
    this.#stop?.abort()
    this.#stop = null
    clearInterval(this.#timer)
    this.rows.clear()
    this.#last = ''
  }

  async #run(signal) {
    for (let tries = 0; !signal.aborted; tries++) {
      try {
        for await (const event of events('/api/v1/events', this.#last, signal)) {
          tries = 0
          this.#take(event)
        }
      } catch (error) {
        if (signal.aborted) return
        if (error.status === 401) return
      }
      if (signal.aborted) return
      if (tries) this.#become('lost')
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS[Math.min(tries, PAUSE_MS.length - 1)]))
    }
  }

  #take(event) {
    const { at, functions, removed } = JSON.parse(event.data)
    this.#last = event.id
    this.at = at
    const whole = event.event === 'state'
    const gone = whole ? new Set(this.rows.keys()) : new Set(removed.map(([namespace, name]) => `${namespace}/${name}`))
    const changed = []
    for (const row of functions) {
      const name = key(row)
      const before = this.rows.get(name)
      gone.delete(name)
      row.recent = row.recent ? padded(row.recent) : (before?.recent ?? new Array(RECENT).fill(0))
      row.counted = before && !whole ? before.counted : row.calls
      this.rows.set(name, row)
      changed.push(name)
    }
    for (const name of gone) this.rows.delete(name)
    this.#become('live')
    if (!whole) this.#second()
    else this.#pushedAt = Date.now()
    this.dispatchEvent(new CustomEvent('change', { detail: { changed, gone: [...gone], whole } }))
  }

  #second() {
    this.#pushedAt = Date.now()
    for (const row of this.rows.values()) {
      row.recent.push(Math.max(0, row.calls - row.counted))
      row.recent.shift()
      row.counted = row.calls
    }
    this.dispatchEvent(new Event('second'))
  }

  #become(state) {
    if (this.state === state) return
    this.state = state
    this.dispatchEvent(new Event('state'))
  }
}

const padded = (recent) => [...new Array(Math.max(0, RECENT - recent.length)).fill(0), ...recent]

export const live = new Live()
