// A tar of a few small text files, as POST /build takes it (POSIX.1-1988 ustar).

const BLOCK = 512

/** Return the bytes of a tar that holds `files`, a list of [name, text]. */
export function tar(files) {
  const parts = files.flatMap(([name, text]) => {
    const content = new TextEncoder().encode(text)
    return [header(name, content.length), content, new Uint8Array((BLOCK - (content.length % BLOCK)) % BLOCK)]
  })
  return new Blob([...parts, new Uint8Array(2 * BLOCK)], { type: 'application/octet-stream' })
}

function header(name, size) {
  const block = new Uint8Array(BLOCK)
  const put = (at, text) => block.set(new TextEncoder().encode(text), at)
  const octal = (at, length, value) => put(at, value.toString(8).padStart(length - 1, '0'))
  put(0, name)
  octal(100, 8, 0o644)
  octal(108, 8, 0)
  octal(116, 8, 0)
  octal(124, 12, size)
  octal(136, 12, 0)
  put(148, '        ')
  put(156, '0')
  put(257, 'ustar')
  put(263, '00')
  octal(148, 7, block.reduce((sum, byte) => sum + byte, 0))
  block[154] = 0
  return block
}
