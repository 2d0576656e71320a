"""Word to who asked for it (`X-Callback-Url`) when an asynchronous call has ended.

A callback is a call of the queue itself, submitted in the same step in which the call ends (`callback`), so that no crash loses
it. Its request goes to an address outside (`target` and `addresses`: which ones may be; `sending`), signed (`signature`), and
is tried again for a while (`callbacks`).
"""
