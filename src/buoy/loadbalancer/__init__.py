"""The load balancer: addresses for Services of type LoadBalancer, and their announcement on the wire.

It does the jobs of MetalLB and OpenELB. `model` is what their configurations come to; `config` reads them, in
MetalLB's custom resources, in MetalLB's older ConfigMap and in OpenELB's custom resources, all at once;
`allocation` decides, purely, which Service has which address; `controller` ties both to the API. The speaker,
one a node, announces the addresses that Services have.
"""
