"""Replays traffic against the decider that runs live, and counts what it would have cost.

A *trace* (`azure2019`, `azure2021`, `call_log`, `load_record`, `synthetic`) gives calls. `engine` lets them meet one function's
replicas as the edge would (`edge`), and asks a *policy* for counts. `comparison` runs policies over the same calls, `measures`
holds what came out, `report`, `chart`, `page` and `picture` show it.

Functions do not share anything here, so each is replayed from beginning to end by itself, and only one of them is in memory.
"""
