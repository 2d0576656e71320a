"""The metrics page: what the platform's parts count as plain integers, written when somebody asks.

`calls` is what edges counted, `functions` what is deployed and how it is scaled, `requests` what the control API was asked,
`builds` and `processes` what they say; `page` puts them together in slices, so that the loop is free in between. Names and
labels are in `telemetry.metrics`, the formats in `telemetry.exposition`.
"""
