"""Custom resources: what a CustomResourceDefinition says, and the kinds that come of it.

After k8s.io/apiextensions-apiserver. A schema is checked when its definition is written (`structural`), and
then compiled (`schema`) into what prunes, defaults (`fitting`) and validates (`validation`) objects.
"""
