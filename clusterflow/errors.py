"""Every error that clusterflow raises on purpose.

::

    ClusterflowError                 exit 1
    ├── InputError                   exit 2   what the user gave cannot be used
    │   ├── ConfigError                       the campaign or machine file (line, value, what is allowed)
    │   └── StructureError                    atoms that make no sense, with their indices
    ├── ScienceError                          one piece of work failed; the campaign goes on
    │   ├── ExtractionError                   no chemically valid fragment could be cut
    │   ├── LabelError                        a reference calculation that must not be trained on
    │   │   └── LabelTimeoutError                 … that may succeed with more time
    │   ├── TimeLimitError                    a task that ran longer than its limit
    │   ├── ExploreError                      dynamics that gave no sane frame at all
    │   └── TrainError                        training diverged or gave nothing usable
    ├── StateError                            journal, labels, lease or published results are damaged or in use
    │   ├── JournalError
    │   ├── LeaseError                        another driver owns the campaign
    │   └── LevelOfTheoryError       exit 2   would mix labels of different levels
    └── ExecutionError                        the machinery (worker, block, engine) failed, not the science
        └── WorkerLostError                   worth another attempt

A message has three parts: what happened, with numbers; where; what to do next. All of them survive pickling, because
they cross process borders.
"""

from __future__ import annotations


class ClusterflowError(Exception):
    """Base of all errors raised on purpose.

    Parameters
    ----------
    what
        What happened, with numbers.
    where
        File and line, fragment, working folder: where to look.
    todo
        What the user can do next.
    """

    exit_code = 1
    core_seconds = 0.0
    """What the work that failed had cost, where that is known."""

    def __init__(self, what: str, *, where: str = "", todo: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.todo = what, where, todo

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.todo:
            lines.append(f"  next:  {self.todo}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are pickled by their positional arguments; ours also have keywords.
        return _rebuild, (type(self), self.what, self.where, self.todo, self.core_seconds)


def _rebuild(cls: type[ClusterflowError], what: str, where: str, todo: str, core_seconds: float) -> ClusterflowError:
    error = cls(what, where=where, todo=todo)
    error.core_seconds = core_seconds
    return error


class InputError(ClusterflowError):
    """What the user gave cannot be used."""

    exit_code = 2


class ConfigError(InputError):
    """A campaign or machine file that is not valid."""


class StructureError(InputError):
    """Atoms that make no chemical or geometric sense; the message names them."""


class ScienceError(ClusterflowError):
    """One walker, fragment, label or training failed; it is recorded and the campaign goes on."""


class ExtractionError(ScienceError):
    """No chemically valid fragment could be cut around the chosen atoms."""


class LabelError(ScienceError):
    """A reference calculation whose result must not be trained on."""


class LabelTimeoutError(LabelError):
    """A reference calculation that its time limit ended: no property of the structure, so not remembered for others."""


class TimeLimitError(ScienceError):
    """A task that ran longer than its limit; sending it again would take as long."""


class ExploreError(ScienceError):
    """Dynamics that produced no sane frame."""


class TrainError(ScienceError):
    """Training that diverged or gave no usable potential."""


class StateError(ClusterflowError):
    """The record of what has been done is damaged, incomplete or in use."""


class JournalError(StateError):
    """The journal is damaged before its last line."""


class LeaseError(StateError):
    """Another driver owns this campaign, or this one has lost it."""


class LevelOfTheoryError(StateError):
    """The request would mix labels of different levels of theory."""

    exit_code = 2


class ExecutionError(ClusterflowError):
    """The machinery failed, not the science."""


class WorkerLostError(ExecutionError):
    """A worker died or vanished with its task; another attempt may succeed."""
