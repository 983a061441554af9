"""The versions of the potential in a streaming campaign: training, feature density and test errors of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from clusterflow.campaign.convergence import IterationRecord, noise_of
from clusterflow.campaign.desk import Desk
from clusterflow.campaign.label_pool import LabelPool
from clusterflow.campaign.tasks import DAMPING, Payloads, PlanStopped
from clusterflow.core.frames import canonical_json, digest


@dataclass(slots=True)
class Member:
    """A potential of the committee beside the first: number, key of its training, and of its model once it is done."""

    number: int
    training: str = ""
    model: str = ""
    attempt: int = 0


@dataclass(slots=True)
class Version:
    """One training. It saw the first ``n_train`` and ``n_validation`` labels of the pool; the keys of its results are
    "" until they are there (``model``: trained, ``mixture``: density fitted, ``record``: evaluated)."""

    number: int
    n_train: int
    n_validation: int
    final: bool
    attempt: int = 0
    training: str = ""
    model: str = ""
    architecture: str = ""
    density: str = ""
    mixture: str = ""
    evaluation: str = ""
    others: list[Member] = field(default_factory=list)
    record: IterationRecord | None = None


class Versions:
    """All versions, oldest first. The next one begins when the newest is evaluated."""

    def __init__(self, desk: Desk, payloads: Payloads, pool: LabelPool) -> None:
        self._desk, self._payloads, self._pool = desk, payloads, pool
        self.all: list[Version] = []
        model = payloads.config.train.build_model().to_json()
        self._architecture = digest(canonical_json(model))[:16]

    @property
    def newest(self) -> Version:
        return self.all[-1]

    @property
    def trained(self) -> Version | None:
        """The newest one that can be walked with."""
        return next((v for v in reversed(self.all[-2:]) if v.model), None)

    @property
    def scoring(self) -> Version | None:
        """The newest one that can score."""
        return next((v for v in reversed(self.all[-2:]) if v.mixture), None)

    def begin(self, *, final: bool) -> Version:
        """A training of everything that is in the pool's splits; ``final`` as it was decided when it was trained."""
        number = len(self.all)
        kept = self._desk.kept(f"model/{number}")
        version = Version(
            number,
            len(self._pool.train),
            len(self._pool.validation),
            final=bool(kept["final"]) if kept else final,
        )
        told = self._desk.kept(f"committee/{number}")
        models = told["models"] if told and told["architecture"] == self._architecture else []
        for k in range(1, self._payloads.config.train.committee):
            model = str(models[k - 1]) if k <= len(models) and self._done(str(models[k - 1])) else ""
            version.others.append(Member(k, training=model, model=model))
        if kept and (found := self._desk.outcome(str(kept["key"]))) is not None and found.status == "done":
            version.training = version.model = str(kept["key"])
            version.architecture = str(kept["architecture"])
        self.all.append(version)
        self._adopt_evaluation(version)
        return version

    def _done(self, key: str) -> bool:
        found = self._desk.outcome(key)
        return found is not None and found.status == "done"

    def _adopt_evaluation(self, version: Version) -> None:
        kept = self._desk.kept(f"evaluated/{version.number}")
        if kept is None or kept["model"] != version.model:
            return
        results = [self._desk.outcome(str(kept[k])) for k in ("mixture", "evaluation")]
        if all(o is not None and o.status == "done" for o in results):
            version.density = version.mixture = str(kept["mixture"])
            version.evaluation = str(kept["evaluation"])
            self._record(version)

    def advance(self) -> bool:
        """Takes the newest version as far as the outcomes allow; whether it has come to the end of a step.

        Raises
        ------
        PlanStopped
            It cannot be trained, scored with, or evaluated.
        """
        version = self.newest
        if version.record is not None:
            return False
        if not version.model:
            self._fit_others(version)  # at the same time
            return self._fit(version)
        if not version.mixture and not self._fit_others(version):
            return False
        labels = self._pool.train[: version.n_train]
        if not version.mixture:
            if not version.density:
                others = [m.model for m in version.others]
                payload = self._payloads.novelty(version.number, version.model, labels, others=others)
                version.density = self._desk.ask("novelty", "local", payload)
            if (
                self._desk.required(version.density, f"Fitting the feature density of iteration {version.number}")
                is None
            ):
                return False
            version.mixture = version.density
            return True
        if not version.evaluation:
            payload = self._payloads.evaluation(version.model, version.mixture, self._pool.test)
            version.evaluation = self._desk.ask("evaluate", "local", payload)
        if self._desk.required(version.evaluation, f"Evaluating the model of iteration {version.number}") is None:
            return False
        self._record(version)
        return True

    def _fit(self, version: Version) -> bool:
        """A diverged training gets one more try, from scratch and gentler."""
        while True:
            if not version.training:
                before = self.all[version.number - 1] if version.number else None
                warm = before is not None and before.architecture == self._architecture
                payload = self._payloads.train(
                    version.number,
                    self._pool.train[: version.n_train],
                    self._pool.validation[: version.n_validation],
                    start=before.model if before is not None and warm else None,
                    final=version.final,
                    attempt=version.attempt,
                )
                version.training = self._desk.ask("train", "train", payload)
            found = self._desk.outcome(version.training)
            if found is None:
                return False
            if found.status == "done":
                version.model, version.architecture = version.training, self._architecture
                told = {"key": version.model, "final": version.final, "model_id": found.summary["model_id"]}
                self._desk.decide(f"model/{version.number}", {**told, "architecture": self._architecture})
                return True
            if version.attempt + 1 == len(DAMPING):
                raise PlanStopped(
                    f"training of iteration {version.number} failed twice, the second time gentler: {found.reason}"
                )
            version.attempt += 1
            version.training = ""

    def calibrate(self, version: Version, number: int, labels: Sequence[str], *, new: bool) -> None:
        """What novelty means in eV/Å for this version, and whether that holds on ``labels``. Nothing waits for it."""
        validation = self._pool.validation[: version.n_validation]
        told = self._payloads.calibration(number, version.model, version.mixture, validation, labels, new=new)
        self._desk.ask("calibrate", "local", told)

    def _fit_others(self, version: Version) -> bool:
        """Trains the rest of the committee; whether all of it is there."""
        before = self.all[version.number - 1] if version.number else None
        for member in version.others:
            previous = before.others[member.number - 1].model if before and before.others else ""
            while not member.model:
                if not member.training:
                    payload = self._payloads.train(
                        version.number,
                        self._pool.train[: version.n_train],
                        self._pool.validation[: version.n_validation],
                        start=previous or None,
                        final=version.final,
                        attempt=member.attempt,
                        member=member.number,
                    )
                    member.training = self._desk.ask("train", "train", payload)
                found = self._desk.outcome(member.training)
                if found is None:
                    break
                if found.status == "done":
                    member.model = member.training
                elif member.attempt + 1 == len(DAMPING):
                    raise PlanStopped(
                        f"training member {member.number + 1} of the committee of iteration {version.number} failed "
                        f"twice, the second time gentler: {found.reason}"
                    )
                else:
                    member.attempt, member.training = member.attempt + 1, ""
        if not all(m.model for m in version.others):
            return False
        if version.others:
            models = [m.model for m in version.others]
            self._desk.decide(f"committee/{version.number}", {"models": models, "architecture": self._architecture})
        return True

    def _record(self, version: Version) -> None:
        found = self._desk.outcome(version.evaluation)
        assert found is not None
        version.record = IterationRecord(
            iteration=version.number,
            model=version.model,
            mixture=version.mixture,
            evaluation=version.evaluation,
            n_training=version.n_train + version.n_validation,
            n_labels=0,  # so far; the stream knows when it judges
            test_mae_p95=float(found.summary["mae_p95"]),
            **noise_of(found.summary),
        )
        self._desk.decide(
            f"evaluated/{version.number}",
            {
                "iteration": version.number,
                "model": version.model,
                "mixture": version.mixture,
                "evaluation": version.evaluation,
                "n_training": version.record.n_training,
            },
        )
        self.calibrate(version, version.number, self._pool.test, new=False)
