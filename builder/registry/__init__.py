"""Registries over the OCI distribution API 1.1: names, credentials, connections, and images pushed and pulled whole.

It is built on `http.client`: a rebuild and a push have half a second together, and the protocol needs no more. Nothing
here waits without a limit, follows credentials to another host, or believes a digest that it has not computed.
"""
