"""What the platform's functions do now and did of late, for people: `faas top`, the page and the API.

`series` keeps figures over time in bounds, `percentiles` reads them from buckets, `monitor` looks once a second at what is
counted anyway and keeps a picture of all functions (`rows`), and `waterfall` says where a call's time went. `ends` says in a
function's log why a process of it died.
"""
