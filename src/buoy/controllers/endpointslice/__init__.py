"""The endpointslice controller: for each Service, slices of the Pods behind it."""

from .controller import EndpointSliceController

__all__ = ["EndpointSliceController"]
