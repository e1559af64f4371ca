"""The iptables backend: kube-proxy's chains, changed by difference.

``iptables``, ``iptables-restore`` and ``iptables-save`` (``ip6tables`` and so on for IPv6) are run as found
on the PATH, over nf_tables or legacy alike.
"""

from .backend import IptablesBackend

__all__ = ["IptablesBackend"]
