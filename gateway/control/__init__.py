"""The control API: what people and programs deploy, scale, watch and remove functions with.

OpenFaaS's routes under `/system`, `/build` and `/publickey`, ours under `/api/v1`. A request passes `origin` (was it
sent by a foreign web page?), `auth` (whose is it?), then the module of its resource; `errors` turns what goes wrong
into one line of text. Each resource lists its operations as data, from which `app` makes the routes and `openapi` the
document. Calls of functions never come here: the edge answers them.
"""
