"""Kubernetes by kubectl: create, get, delete; and what its Jobs and pods say, in words.

Never tried on a real cluster: tested with kubectl itself against a stand-in for the API server, and with stubs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from clusterflow.errors import ClusterflowError
from clusterflow.execution.kubernetes_job import BLOCK, OWNER, QUEUE_NAME, owner_of
from clusterflow.execution.machines import KubernetesMachine
from clusterflow.execution.scheduler_calls import QueuedJob, call, rubbish

_NO_IMAGE = {
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "RegistryUnavailable",
}
_NO_START = {
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "StartError",
}
_LONGEST = 400  # characters of a message

Item = Mapping[str, Any]


class Kubernetes:
    """Jobs of one namespace that mount the same volumes as the machine says."""

    def __init__(self, machine: KubernetesMachine) -> None:
        # Longer than any answer takes, shorter than the limit of the call, so that kubectl says itself what is wrong.
        self._options = ["--request-timeout=50s"]
        self._options += [f"--context={machine.context}"] if machine.context else []
        self._options += [f"--namespace={machine.namespace}"] if machine.namespace else []
        self._owner = owner_of(machine)

    def submit(self, script: Path) -> str:
        """Creates the Job of a manifest; returns its name."""
        # No validation by kubectl: it would fetch megabytes of schemas each time, and the API server checks anyway.
        how = ["--validate=false", "--output=name"]
        said = call(["kubectl", "create", *self._options, *how, f"--filename={script}"])
        found = re.fullmatch(r"job(?:\.batch)?/([a-z0-9.-]+)", said.strip())
        if not found:
            raise rubbish("kubectl create", said, "the name of a Job")
        return found[1]

    def jobs(self) -> list[QueuedJob]:
        """All Jobs that were made by drivers with these volumes: waiting, running, and ended ones not yet deleted."""
        items = self._get("jobs,pods", f"--selector={OWNER}={self._owner}")
        try:
            jobs = [item for item in items if item["kind"] == "Job" and "deletionTimestamp" not in item["metadata"]]
            pods = [item for item in items if item["kind"] == "Pod"]
            found = [told(job, [p for p in pods if _label(p, BLOCK) == _label(job, BLOCK)]) for job in jobs]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise rubbish("kubectl get", json.dumps(items), "Jobs and pods with their state") from None
        if any(job.phase == "waiting" and not job.reason for job in found):
            warnings = self._warnings()
            found = [explained(job, warnings) for job in found]
        return found

    def cancel(self, ids: Sequence[str]) -> None:
        """Deletes Jobs and their pods; those that are gone already are no error."""
        if ids:
            how = ["--wait=false", "--cascade=background", "--ignore-not-found=true"]
            call(["kubectl", "delete", "jobs", *self._options, *how, *ids])

    def _get(self, kinds: str, which: str) -> list[Item]:
        said = call(["kubectl", "get", kinds, *self._options, which, "--output=json"])
        try:
            items: list[Item] = json.loads(said)["items"]
            if not isinstance(items, list):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            raise rubbish("kubectl get", said, "JSON with a list of items") from None
        return items

    def _warnings(self) -> list[tuple[str, str, str]]:
        """Name of a Job or pod, reason and message of warnings, the last one last. Empty where events may not be read:
        they only explain."""
        try:
            events = self._get("events", "--field-selector=type=Warning")
            events.sort(key=lambda e: str(e.get("lastTimestamp") or e.get("eventTime") or ""))
            return [(e["involvedObject"]["name"], e["reason"], e.get("message", "")) for e in events]
        except (ClusterflowError, KeyError, TypeError, AttributeError):
            return []


def told(job: Item, pods: Sequence[Item]) -> QueuedJob:
    """What a Job and its pods say about the block.

    Raises
    ------
    KeyError, TypeError, ValueError, AttributeError
        They are not what Kubernetes says of a Job and its pods.
    """
    name, queue_name = str(job["metadata"]["name"]), _label(job, QUEUE_NAME)
    if ended := _how_it_ended(job, pods):
        return QueuedJob(name, queue_name, "ended", ended)
    starts = [_unix(pod["status"]["startTime"]) for pod in pods if pod["status"].get("phase") == "Running"]
    if starts:
        return QueuedJob(name, queue_name, "running", began=min(starts))
    reasons = [found for pod in pods if (found := _why_it_waits(pod))[0]]
    reason, hopeless = max(reasons, key=lambda found: found[1], default=("", False))
    return QueuedJob(name, queue_name, "waiting", reason, hopeless)


def explained(job: QueuedJob, warnings: Sequence[tuple[str, str, str]]) -> QueuedJob:
    """A Job that waits for no stated reason, with that of the last warning about it or one of its pods.

    No pod at all means that none may be made: a quota, which can become free, or an account that does not exist.
    """
    if job.phase != "waiting" or job.reason:
        return job
    for name, reason, message in reversed(warnings):
        if name == job.id or name.startswith(f"{job.id}-"):
            hopeless = reason == "FailedCreate" and "quota" not in message
            return QueuedJob(job.id, job.name, job.phase, _said(reason, message), hopeless)
    return job


def _how_it_ended(job: Item, pods: Sequence[Item]) -> str:
    """ "" while it has not."""
    over = [pod["status"] for pod in pods if pod["status"].get("phase") in ("Failed", "Succeeded")]
    for status in sorted(over, key=lambda s: s["phase"]):  # failed ones first
        if why := _pod_end(status):
            return why
    conditions = [c for c in (job.get("status") or {}).get("conditions") or () if c["status"] == "True"]
    for condition in conditions:
        if condition["type"] in ("Failed", "Complete"):
            return _said(condition.get("reason") or condition["type"], condition.get("message", ""))
    return "its pod has ended" if over else ""


def _pod_end(status: Item) -> str:
    """Why a pod is over, from the most telling to the least."""
    if reason := status.get("reason"):  # Evicted, DeadlineExceeded, NodeLost
        return _said(reason, status.get("message", ""))
    for condition in status.get("conditions") or ():
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            return _said(condition.get("reason", ""), condition.get("message", ""))
    for container in status.get("containerStatuses") or ():
        end = container.get("state", {}).get("terminated")
        if end and end.get("reason") == "OOMKilled":
            return "it was killed because it needs more memory than its limit (OOMKilled); raise memory_per_node"
        if end:
            return _said(f"its container ended with status {end['exitCode']}", end.get("message", ""))
    return ""


def _why_it_waits(pod: Item) -> tuple[str, bool]:
    """Reason, and whether waiting does not mend it."""
    status = pod["status"]
    for container in status.get("containerStatuses") or ():
        waits = container.get("state", {}).get("waiting") or {}
        reason, message = waits.get("reason", ""), waits.get("message", "")
        if reason in _NO_IMAGE:
            return _said(f"the image {container['image']} cannot be pulled: {reason}", message), True
        if reason in _NO_START:
            return _said(f"its container cannot be started: {reason}", message), True
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            message = condition.get("message", "")
            hopeless = bool(re.search(r'persistentvolumeclaim "[^"]*" not found', message))
            return _said(condition.get("reason", ""), message), hopeless
    return "", False


def _said(reason: str, message: str) -> str:
    text = ", ".join(part for part in (reason, " ".join(str(message).split())) if part)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def _label(item: Item, name: str) -> str:
    return str(item["metadata"]["labels"][name])


def _unix(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
