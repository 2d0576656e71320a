"""The edge: every client connection, and the way of a call from the client's socket to a replica and back.

In the order in which bytes travel:

    server      listens, limits connections, stops gracefully
    client      one client connection: calls start and answers go in the order in which requests came
    reader      requests out of its bytes, by way of the parser
    plain       heads that are as most are, requests' and responses', read by one regular expression each
    request     any other request's head: refuses what is malformed, writes the head that goes upstream
    upgrade     requests that ask to switch protocols
    routes      function name → traffic → revision, fed by `orchestration.events`
    dispatcher  one revision: ready replicas, free slots, the bounded queue of waiting calls
    call        one call on its way: body held or streamed, tried again where that is safe, ended once
    upstream    pooled connections to one replica
    response    any other response's head on its way to the client
    refusal     the answers that the edge makes itself

Beside the path: `flow` (back-pressure), `headers` (what crosses and what does not), `timeouts` (one sweep for every
deadline), `load`, `tally` and `figures` (exact figures for the autoscaler and for people), `tracing` (which calls are
traced, and what is known of them), `context` (what all connections share), `edge` (the whole).

Several edges share a port: `fleet` (all of them, seen from the control process), `process` (one of them, likewise),
`port` (which they share), `link` and `messages` (what goes between), `worker` (what runs in such a process), `report` (what
it tells) and `gathered` (that, added up), `releases` (which replicas that drain may stop), `slots` and `share` (hard limits
that hold over all of them).

Edges on several machines of a cluster: `hub` (the same, where one leads), `member` (the other end of its links) and `seats`
(what sits there), `handshake` (how both prove who they are), `tenure` (who may use which slots while a link is broken, or
nobody leads).
"""
