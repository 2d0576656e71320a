"""The store of several gateways: calls in a Redis server (7.0 or newer), as `store.Store` promises.

`store` turns each method into an *operation*; a `lane` gathers operations and sends them together, as one run of the script,
which does them one after the other inside the server; `server` knows the connection, what its errors mean to people, and when
what was written is durable; `wire` is how operations and their answers look in bytes; `bodies` are those that have a place of
their own.

The `script` is written in Lua: `structures` says which keys there are, and gathers what changes in them; `calls` is what
happens to a call; `operations` submit, take and end; `lists` are what is looked at, and what time asks for; `run` goes through
a batch.
"""
