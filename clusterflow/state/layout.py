"""Where things are in a campaign's run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clusterflow.errors import InputError


@dataclass(frozen=True, slots=True)
class CampaignFolder:
    """The run folder.

    Truth: ``config.json``, ``inputs/``, ``journal.jsonl``, ``labels/`` and ``tasks/``. Everything else (``work``,
    ``dataset.extxyz``, ``model``, ``report.html``, ``metrics.json``,
    ``calibration.json``, ``events.log``, ``parsl``) is scratch or can be rebuilt.
    """

    root: Path

    @property
    def config(self) -> Path:
        """The validated configuration as it was last run, with all defaults."""
        return self.root / "config.json"

    @property
    def inputs(self) -> Path:
        """The built structures (and seed dataset) as they were when the campaign was opened."""
        return self.root / "inputs"

    @property
    def start_model(self) -> Path:
        """Copy of the model that `train: {start_from: …}` names, as a model folder."""
        return self.inputs / "start_model"

    @property
    def journal(self) -> Path:
        return self.root / "journal.jsonl"

    @property
    def tasks(self) -> Path:
        """Published results, ``tasks/<kind>/<key>/``."""
        return self.root / "tasks"

    @property
    def work(self) -> Path:
        """Scratch of running tasks and the logs of failed ones."""
        return self.root / "work"

    @property
    def computed(self) -> Path:
        """One line per label that a worker has computed (key, host, process): shows that none was computed twice."""
        return self.root / "computed.log"

    @property
    def events(self) -> Path:
        """The journal as plain lines, for the eye and for log collectors."""
        return self.root / "events.log"

    @property
    def environment(self) -> Path:
        return self.root / "environment.json"

    @property
    def dataset(self) -> Path:
        return self.root / "dataset.extxyz"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.json"

    @property
    def calibration(self) -> Path:
        return self.root / "calibration.json"

    @property
    def model(self) -> Path:
        """The final potential, a copy for the user."""
        return self.root / "model"

    @property
    def labels_pointer(self) -> Path:
        """Text file with the path of a label store shared with other campaigns."""
        return self.root / "labels_folder.txt"

    @property
    def labels(self) -> Path:
        """The label store: ``labels/``, or the shared one that ``labels_folder.txt`` names."""
        if self.labels_pointer.is_file():
            return Path(self.labels_pointer.read_text(encoding="utf-8").strip())
        return self.root / "labels"

    @property
    def bank_pointer(self) -> Path:
        """Text file with the path of a bank of labels shared with other campaigns."""
        return self.root / "bank.txt"

    @property
    def bank(self) -> Path | None:
        """The bank that `bank:` names, if it names one."""
        return Path(self.bank_pointer.read_text(encoding="utf-8").strip()) if self.bank_pointer.is_file() else None

    def result(self, kind: str, key: str) -> Path:
        """Folder that the published result of a task has or will have."""
        return self.tasks / kind / key

    def scratch(self, kind: str, key: str) -> Path:
        """Folder where a task works before it publishes; its name is short because some programs dislike long paths."""
        return self.work / f"{kind}-{key[:16]}"

    def require(self) -> CampaignFolder:
        """Itself, if a campaign lives there.

        Raises
        ------
        InputError
            No journal there.
        """
        if not self.journal.is_file():
            raise InputError(
                f"There is no campaign in '{self.root}'.",
                where=str(self.root.absolute()),
                todo="Give the run folder of a campaign (it holds journal.jsonl), or start it: `clusterflow run FILE`; "
                "a property file: `clusterflow property FILE`.",
            )
        return self
