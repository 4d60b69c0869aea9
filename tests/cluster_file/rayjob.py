"""A JSON schema of a RayJob, written by hand: the fields of KubeRay 1.7.0, closed to all others.

Names, kinds, enumerations and required fields are those of KubeRay's API reference, docs/reference/api.md of
ray-project/kuberay at commit 97509c3a7216cf3440af381646560a1885afb53b (release 1.7.0). Of Kubernetes' own types (the
pod template and what is in it) only what a sweep has use for is known here, from the Kubernetes API reference, v1.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
SWITCH: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number", "minimum": 0}
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
OBJECT: Schema = {"type": "object"}
QUANTITIES: Schema = {
    "type": "object",
    "additionalProperties": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"},
}


def one_of(*names: str) -> Schema:
    """One of these texts."""
    return {"enum": list(names)}


def listed(item: Schema) -> Schema:
    """A list with at least one entry."""
    return {"type": "array", "items": item, "minItems": 1}


def closed(required: str = "", **fields: Schema) -> Schema:
    """An object of these fields and no others; `required` names those that must be there."""
    return {"type": "object", "properties": fields, "required": required.split(), "additionalProperties": False}


RESOURCES = closed(requests=QUANTITIES, limits=QUANTITIES)

CONTAINER = closed(
    "name image",
    name=TEXT,
    image=TEXT,
    imagePullPolicy=one_of("Always", "IfNotPresent", "Never"),
    command=listed(TEXT),
    args=listed(TEXT),
    env=listed(OBJECT),
    envFrom=listed(OBJECT),
    ports=listed(closed("containerPort", containerPort=COUNT, name=TEXT, protocol=TEXT)),
    resources=RESOURCES,
    volumeMounts=listed(closed("name mountPath", name=TEXT, mountPath=TEXT, subPath=TEXT, readOnly=SWITCH)),
    securityContext=OBJECT,
)

VOLUME = closed(
    "name",
    name=TEXT,
    configMap=closed("name", name=TEXT, optional=SWITCH, defaultMode=COUNT, items=listed(OBJECT)),
    emptyDir=closed(medium=one_of("", "Memory"), sizeLimit=TEXT),
    persistentVolumeClaim=closed("claimName", claimName=TEXT, readOnly=SWITCH),
)

POD = closed(
    "containers",
    containers=listed(CONTAINER),
    initContainers=listed(CONTAINER),
    volumes=listed(VOLUME),
    serviceAccountName=TEXT,
    automountServiceAccountToken=SWITCH,
    nodeSelector=TEXTS,
    tolerations=listed(
        closed(
            key=TEXT,
            operator=one_of("Exists", "Equal"),
            value=TEXT,
            effect=one_of("NoSchedule", "PreferNoSchedule", "NoExecute"),
            tolerationSeconds=COUNT,
        )
    ),
    affinity=OBJECT,
    imagePullSecrets=listed(closed("name", name=TEXT)),
    priorityClassName=TEXT,
    runtimeClassName=TEXT,
    restartPolicy=one_of("Always", "OnFailure", "Never"),
    securityContext=OBJECT,
)

TEMPLATE = closed("spec", metadata=OBJECT, spec=POD)

AUTOSCALER = closed(
    resources=RESOURCES,
    image=TEXT,
    imagePullPolicy=one_of("Always", "IfNotPresent", "Never"),
    securityContext=OBJECT,
    idleTimeoutSeconds=COUNT,
    upscalingMode=one_of("Default", "Aggressive", "Conservative"),
    version=one_of("v1", "v2"),
    env=listed(OBJECT),
    envFrom=listed(OBJECT),
    volumeMounts=listed(OBJECT),
    command=listed(TEXT),
    args=listed(TEXT),
)

HEAD = closed(
    "template",
    template=TEMPLATE,
    headService=OBJECT,
    enableIngress=SWITCH,
    ingressOptions=OBJECT,
    resources=TEXTS,
    labels=TEXTS,
    rayStartParams=TEXTS,
    serviceType=one_of("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"),
)

WORKERS = closed(
    "groupName template minReplicas maxReplicas",
    suspend=SWITCH,
    groupName=TEXT,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    idleTimeoutSeconds=COUNT,
    priority=COUNT,
    resources=TEXTS,
    labels=TEXTS,
    rayStartParams=TEXTS,
    template=TEMPLATE,
    scaleStrategy=closed(workersToDelete=listed(TEXT)),
    numOfHosts=COUNT,
)

CLUSTER = closed(
    "headGroupSpec",
    upgradeStrategy=closed(type=one_of("Recreate", "None")),
    authOptions=closed(enableK8sTokenAuth=SWITCH, secretName=TEXT, mode=one_of("disabled", "token")),
    suspend=SWITCH,
    managedBy=TEXT,
    autoscalerOptions=AUTOSCALER,
    headServiceAnnotations=TEXTS,
    enableInTreeAutoscaling=SWITCH,
    gcsFaultToleranceOptions=OBJECT,
    historyServerOptions=OBJECT,
    networkPolicy=OBJECT,
    tlsOptions=closed(enabled=SWITCH),
    headGroupSpec=HEAD,
    rayVersion=TEXT,
    workerGroupSpecs=listed(WORKERS),
)

JOB = closed(
    "entrypoint rayClusterSpec",
    activeDeadlineSeconds=COUNT,
    backoffLimit=COUNT,
    rayClusterSpec=CLUSTER,
    submitterPodTemplate=TEMPLATE,
    metadata=TEXTS,
    clusterSelector=TEXTS,
    submitterConfig=closed(backoffLimit=COUNT),
    managedBy=one_of("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"),
    deletionStrategy=OBJECT,
    entrypoint=TEXT,
    runtimeEnvYAML=TEXT,
    jobId=TEXT,
    submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    entrypointResources=TEXT,
    entrypointNumCpus=NUMBER,
    entrypointNumGpus=NUMBER,
    ttlSecondsAfterFinished=COUNT,
    preRunningDeadlineSeconds={"type": "integer", "minimum": 1},
    shutdownAfterJobFinishes=SWITCH,
    suspend=SWITCH,
)

RAYJOB = closed(
    "apiVersion kind metadata spec",
    apiVersion=one_of("ray.io/v1"),
    kind=one_of("RayJob"),
    metadata=closed("name", name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS),
    spec=JOB,
)
