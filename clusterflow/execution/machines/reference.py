"""The reference page of machine files: `python -m clusterflow.execution.machines.reference`."""

from __future__ import annotations

import sys

from clusterflow.config.reference import page_of
from clusterflow.execution.machines.load import KINDS

_HEAD = """\
# Machine files

Made from the code by `python -m clusterflow.execution.machines.reference > docs/reference/machines.md`; a test keeps it
true. A machine file says where tasks run; `machine:` of a campaign file names one, or `local`. The examples in
[hpc/](../../hpc/README.md) have comments, and [How to run on a cluster](../how-to/clusters.md) says how they are used.

Every field that a scheduler reads is a word of letters, digits and `_ . : , @ = + -` that does not begin with a dash;
paths and modules may also hold `/`; names of Kubernetes follow its own, stricter rules. Nothing else is accepted, so no
text of a file can become a command. The one exception is `worker_setup`, which is shell and meant to be. Durations have
a unit (`90 s`, `30 min`, `12 h`, `3 d`).
"""


def machines_page() -> str:
    """Markdown text: the keys of every kind of machine."""
    return page_of(_HEAD, {f"kind: {kind}": model for kind, model in KINDS.items()})


if __name__ == "__main__":
    sys.stdout.write(machines_page())
