"""The client side of the Kubernetes API: requests, caches, queues, events, election; health and metrics."""

from .credentials import CredentialError
from .election import LeadershipLost, lead
from .events import EventRecorder
from .http import Client, ConnectionFailed, ObjectList
from .informer import Informer
from .kubeconfig import KubeconfigError
from .queue import WorkQueue
from .serving import serve

__all__ = [
    "Client",
    "ConnectionFailed",
    "CredentialError",
    "EventRecorder",
    "Informer",
    "KubeconfigError",
    "LeadershipLost",
    "ObjectList",
    "WorkQueue",
    "lead",
    "serve",
]
