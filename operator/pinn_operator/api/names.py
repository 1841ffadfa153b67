"""The names the operator writes into the cluster: group, labels, annotations, field manager.

They are here once because a label misspelt in one place is a child nobody finds again.
"""

GROUP = "pinn.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "PinnDeployment"
PLURAL = "pinndeployments"
SINGULAR = "pinndeployment"
SHORT_NAME = "pinn"
CATEGORY = "all"
CRD_NAME = f"{PLURAL}.{GROUP}"

FINALIZER = f"{GROUP}/finalizer"
FIELD_MANAGER = "pinn-operator"
SCALING_MANAGER = "pinn-operator-scaling"
"""Who owns the number of servers from when the operator lets go of it until an autoscaler changes it."""

LABEL_OBJECT = f"{GROUP}/deployment"
LABEL_REVISION = f"{GROUP}/revision"
LABEL_SERVING = f"{GROUP}/serving"
LABEL_PLACEMENT = f"{GROUP}/placement"

ANNOTATION_PROMOTE = f"{GROUP}/promote"
ANNOTATION_ABORT = f"{GROUP}/abort"
ANNOTATION_RETRY = f"{GROUP}/retry"

MAX_NAME = 45


def secret_name(name: str) -> str:
    """The Secret with the token of an object's admin ports."""
    return f"{name}-admin"


def memory_name(name: str) -> str:
    """The ConfigMap in which the operator keeps what it knows about an object's rollout."""
    return f"{name}-rollout"


def requested(value: str) -> tuple[str, str]:
    """What a request by annotation, `revision@token` or `revision/step@token`, is about: the revision, and the step, empty where
    it names none."""
    revision, _, step = value.partition("@")[0].partition("/")
    return revision, step
