"""Machine files of kind kubernetes. ``hpc/kubernetes.yaml`` is one with comments.

The rules for names are those of Kubernetes itself, so that a mistake is found here with its line, and no text can be
anything but a name. Manifests are made from these fields by `json.dumps`, never by putting text together.
"""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, field_validator

from clusterflow.config.section import Section
from clusterflow.execution.machines.batch import BatchLane, BatchMachine, lane_or_name
from clusterflow.execution.machines.words import FileWord, Shell


def _matching(pattern: str, meaning: str) -> AfterValidator:
    compiled = re.compile(rf"(?:{pattern})\Z", re.ASCII)

    def check(value: str) -> str:
        if not compiled.match(value):
            shown = repr(value if len(value) <= 80 else f"{value[:80]}…")
            raise ValueError(f"{shown} is not {meaning}")
        return value

    return AfterValidator(check)


_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_SUBDOMAIN = r"[a-z0-9](?:[a-z0-9.-]{0,198}[a-z0-9])?"

Namespace: TypeAlias = Annotated[
    str, _matching(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", "a name of at most 63 characters a-z, 0-9 and -")
]
ObjectName: TypeAlias = Annotated[str, _matching(_SUBDOMAIN, "a name of at most 200 characters a-z, 0-9, - and .")]
"""Of a claim or a service account."""
Image: TypeAlias = Annotated[
    str, _matching(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,199}", "an image such as registry.example/group/clusterflow:1.0")
]
LabelKey: TypeAlias = Annotated[
    str, _matching(rf"(?:{_SUBDOMAIN}/)?{_LABEL}", "a label's key such as example.com/pool")
]
LabelValue: TypeAlias = Annotated[
    str, _matching(_LABEL, "a label's value: at most 63 letters, digits, - _ . (quote numbers and true)")
]
MountPath: TypeAlias = Annotated[
    str,
    _matching(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9_.,@=+-]+){1,20}", "an absolute path such as /data"),
    Field(max_length=200),
]
UserId: TypeAlias = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]


class Volume(Section):
    """A persistent volume claim, and where pods see it."""

    claim: ObjectName
    """Name of the claim (``ReadWriteMany`` if driver or blocks may be on several nodes)."""
    mount: MountPath
    """Where it is mounted; the driver must see the run folder at the same path."""
    read_only: bool = False


class Toleration(Section):
    """A taint of nodes that the pods of a lane put up with."""

    key: LabelKey
    """Key of the taint."""
    value: LabelValue | None = None
    """Its value; not given: whatever it is."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Not given: all of them."""


class KubernetesLane(BatchLane):
    """A lane whose blocks are Jobs of Kubernetes; a node is a pod here."""

    image: Image | None = None
    """Another image than that of the machine."""
    node_selector: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    """Labels that a node must have."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints that the pods put up with."""


class KubernetesLanes(Section):
    """The four lanes; a lane may name another whose blocks it shares (``train: md``)."""

    md: lane_or_name(KubernetesLane)  # type: ignore[valid-type]
    """Dynamics with the potential."""
    label: lane_or_name(KubernetesLane)  # type: ignore[valid-type]
    """Reference calculations."""
    train: lane_or_name(KubernetesLane) = "md"  # type: ignore[valid-type]
    """Training of the potential."""
    local: lane_or_name(KubernetesLane) = "label"  # type: ignore[valid-type]
    """Scoring, selection, extraction and evaluation."""


class KubernetesMachine(BatchMachine):
    """A cluster with Kubernetes."""

    python: FileWord | Literal["auto"] = "python3"
    """Python with clusterflow in the image; ``auto``: the path of the driver's own."""
    worker_setup: Shell = ""
    """Lines of shell that run in each pod before its workers start; the only shell in this file."""
    kind: Literal["kubernetes"]
    """Which kind of machine this file describes."""
    context: FileWord | None = None
    """Context of kubectl; not given: the current one."""
    namespace: Namespace | None = None
    """Namespace of the Jobs; not given: that of the context."""
    image: Image
    """Image with clusterflow and bash."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """Not given: Kubernetes decides by the image's tag."""
    service_account: ObjectName | None = None
    """Account of the pods, e.g. for its image pull secrets; its token is never mounted."""
    volumes: Annotated[tuple[Volume, ...], Field(min_length=1, max_length=20)]
    """Claims that every pod mounts; the run folder must lie on one of them."""
    run_as_user: UserId | Literal["auto"] = "auto"
    """Number of the user in the pods; ``auto``: the driver's, since only the owner of a run folder can enter it."""
    fs_group: UserId | None = None
    """Group that the volumes are given to, if their storage supports that."""
    lanes: KubernetesLanes
    """What each kind of work asks for."""

    @field_validator("volumes")
    @classmethod
    def _mounts_differ(cls, value: tuple[Volume, ...]) -> tuple[Volume, ...]:
        mounts = [volume.mount for volume in value]
        twice = sorted({m for m in mounts if mounts.count(m) > 1})
        if twice:
            raise ValueError(f"more than one is mounted at {', '.join(twice)}")
        return value

    @property
    def user(self) -> int:
        """Number of the user in the pods."""
        return os.getuid() if self.run_as_user == "auto" else self.run_as_user

    def holds(self, path: str) -> bool:
        """Whether a path lies on one of the volumes, and can be written to in pods."""
        there = [v for v in self.volumes if PurePosixPath(path).is_relative_to(v.mount)]
        return bool(there) and not max(there, key=lambda v: len(v.mount)).read_only
