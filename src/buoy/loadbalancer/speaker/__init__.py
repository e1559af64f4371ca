"""The speaker of one node.

It is two processes. `wire` never waits for anything but packets: it keeps in touch with the other speakers
and answers for the addresses that this node wins. `process` follows the API, decides with `announcements`
what there is to win, gives it to `wire`, and has the BGP daemon announce routes. `orders` is what they tell
each other.
"""
