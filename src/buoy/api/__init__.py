"""The Kubernetes resources: shapes, defaults, validation, columns. Pure; no I/O below this package."""
