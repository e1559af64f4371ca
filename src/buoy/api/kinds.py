"""Every kind that Buoy serves."""

from .apps import CONTROLLER_REVISION, DAEMON_SET, DEPLOYMENT, REPLICA_SET, STATEFUL_SET
from .batch import CRON_JOB, JOB
from .config import CONFIG_MAP, SECRET
from .coordination import LEASE
from .custom.definition import CUSTOM_RESOURCE_DEFINITION
from .endpoints import ENDPOINT_SLICE, ENDPOINTS_KIND
from .event import CORE_EVENT, EVENT
from .kind import Kind
from .namespace import NAMESPACE
from .node import NODE
from .persistentvolume import PERSISTENT_VOLUME
from .persistentvolumeclaim import PERSISTENT_VOLUME_CLAIM
from .pod import POD
from .rbac import CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING
from .service import SERVICE
from .serviceaccount import SERVICE_ACCOUNT
from .storageclass import STORAGE_CLASS

KINDS: tuple[Kind, ...] = (
    NAMESPACE,
    NODE,
    POD,
    SERVICE,
    ENDPOINTS_KIND,
    CONFIG_MAP,
    SECRET,
    SERVICE_ACCOUNT,
    PERSISTENT_VOLUME,
    PERSISTENT_VOLUME_CLAIM,
    CORE_EVENT,
    EVENT,
    LEASE,
    DEPLOYMENT,
    REPLICA_SET,
    STATEFUL_SET,
    DAEMON_SET,
    CONTROLLER_REVISION,
    JOB,
    CRON_JOB,
    ENDPOINT_SLICE,
    STORAGE_CLASS,
    ROLE,
    CLUSTER_ROLE,
    ROLE_BINDING,
    CLUSTER_ROLE_BINDING,
    CUSTOM_RESOURCE_DEFINITION,
)
