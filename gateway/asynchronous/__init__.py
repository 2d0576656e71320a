"""Asynchronous calls: kept until they were carried out, and their results for a while after that.

A call comes to the acceptor (`acceptor`), which answers when the store (`store`: the contract, `sqlite_store`) has it; workers
(`workers`) take what is due, call the function through the edge, and write down what came of it, or when to try again
(`retry`, `carrier`, `caller`). What is known of a call is told by the acceptor to whoever knows its id, and by the control API.
"""
