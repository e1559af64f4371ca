"""Configurations of the load balancer, in the three forms that people have them, read into a `Config`. Pure.

`metallb` reads MetalLB's custom resources and `configmap` the ConfigMap of MetalLB 0.12 into the same
declarations (`specs`), which `build` checks and resolves; `openelb` reads OpenELB's custom resources.
`reading` puts the forms together: one with a fault leaves the others, and its own last good state, in force.
"""

from .problems import Problem
from .reading import NOTHING, Reading, Sources, read
from .resources import FORMS, RESOURCES, Form

__all__ = ["FORMS", "NOTHING", "RESOURCES", "Form", "Problem", "Reading", "Sources", "read"]
