"""The load balancer's controller: it gives addresses to Services, one instance a cluster.

`process` ties `allocation` to the API; `status` says what the configuration's objects, and Services, are to
show.
"""
