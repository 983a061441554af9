"""The table of stages and the order in which their tasks are sent name the same kinds."""

from clusterflow.campaign.tasks import ORDER
from clusterflow.execution.stages import STAGES


def test_every_kind_of_task_has_its_place_in_line():
    assert sorted(ORDER) == sorted([*STAGES, "label"])
