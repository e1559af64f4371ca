"""Buoy: Kubernetes Services, complete, on plain Linux."""

__version__ = "0.1.0"

KUBERNETES_VERSION = "v1.36.3"
"""The Kubernetes release whose API, defaults, messages and events Buoy follows."""
