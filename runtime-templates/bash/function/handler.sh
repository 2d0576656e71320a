#!/usr/bin/env bash
# One call: the body comes on standard input, standard output is the answer, standard error the log.
# Http_Method, Http_Path, Http_Query and Http_… for each header say more of the request.
set -euo pipefail

name=$(cat)
echo "Hello, ${name:-world}"
