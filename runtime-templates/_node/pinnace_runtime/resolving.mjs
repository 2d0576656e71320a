// A resolver for ES modules that finds installed packages where NODE_PATH says, after the usual places (module.register).

import { pathToFileURL } from 'node:url'

const parent = pathToFileURL(process.env.NODE_PATH.replace(/node_modules\/?$/, 'package.json')).href

export async function resolve (specifier, context, nextResolve) {
  try {
    return await nextResolve(specifier, context)
  } catch (error) {
    if (error?.code !== 'ERR_MODULE_NOT_FOUND' || /^(\.|\/|file:|node:)/.test(specifier)) throw error
    return nextResolve(specifier, { ...context, parentURL: parent }).catch(() => { throw error })
  }
}
