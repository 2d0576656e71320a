// What a pasted handler can be written in: the template, its files' names, and its own handler to begin with.

export const TEMPLATES = [
  {
    language: 'python3-http',
    handler: 'handler.py',
    requirements: 'requirements.txt',
    hint: 'Packages, one a line, as for pip.',
    text: `def handle(event, context):
    return {"statusCode": 200, "body": "Hello from Pinnace!"}
`,
  },
  {
    language: 'python3',
    handler: 'handler.py',
    requirements: 'requirements.txt',
    hint: 'Packages, one a line, as for pip.',
    text: `def handle(req):
    return req
`,
  },
  {
    language: 'python3-asgi',
    handler: 'handler.py',
    requirements: 'requirements.txt',
    hint: 'Packages, one a line, as for pip.',
    text: `async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"Hello from Pinnace!"})
`,
  },
  {
    language: 'node',
    handler: 'handler.js',
    requirements: 'package.json',
    hint: 'A whole package.json, or nothing.',
    text: `'use strict'

module.exports = async (event, context) => {
  return context
    .status(200)
    .headers({ 'Content-Type': 'text/plain' })
    .succeed('Hello from Pinnace!')
}
`,
  },
  {
    language: 'bash',
    handler: 'handler.sh',
    requirements: '',
    hint: '',
    text: `#!/usr/bin/env bash
# One call: the body comes on standard input, standard output is the answer, standard error the log.
# Http_Method, Http_Path, Http_Query and Http_… for each header say more of the request.
set -euo pipefail

name=$(cat)
echo "Hello, \${name:-world}"
`,
  },
]
