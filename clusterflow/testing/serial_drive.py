"""A campaign from opening to its end in this process, as `clusterflow run` does it with the serial engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from clusterflow.campaign.loop import Loop
from clusterflow.campaign.outputs import write_outputs
from clusterflow.campaign.session import open_session
from clusterflow.campaign.tasks import Plan
from clusterflow.config.campaign import Campaign
from clusterflow.core.protocols import Engine
from clusterflow.execution import apps
from clusterflow.execution.serial_engine import SerialEngine
from clusterflow.state.snapshot import Snapshot


def drive(
    config: Campaign,
    *,
    engine: Callable[[Engine], Engine] = lambda e: e,
    stop: Callable[[], bool] = lambda: False,
    environment: Mapping[str, Any] | None = None,
) -> tuple[Plan, Snapshot]:
    """The last plan and what the journal then says; ``engine`` may wrap the serial one. Writes the outputs but no
    report."""
    with open_session(config, environment or {}) as session:
        loop = Loop(
            config=config,
            inputs=session.inputs,
            snapshot=session.snapshot,
            journal=session.journal,
            engine=engine(SerialEngine(apps.run_task, session.folder.root)),
            published=lambda task: apps.published(task, session.folder),
            watch=lambda *_: None,
            stop=stop,
        )
        plan = loop.run()
        write_outputs(session.folder, session.snapshot)
        event = session.journal.append("finished", reason=plan.finished or plan.failed, failed=bool(plan.failed))
        session.snapshot.apply(event)
        return plan, session.snapshot
