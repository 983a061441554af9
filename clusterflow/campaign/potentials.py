"""The potentials of a synchronous campaign: each is trained, gets its feature density, and is judged and calibrated."""

from __future__ import annotations

from collections.abc import Sequence

from clusterflow.campaign.convergence import IterationRecord, noise_of
from clusterflow.campaign.label_pool import LabelPool
from clusterflow.campaign.steps import StepDesk, Steps
from clusterflow.campaign.tasks import DAMPING, Payloads, PlanStopped


class Potentials:
    """One after the other. ``records``: what each has told; ``final``: whether the newest was trained with the
    relaxed stopping of the last one."""

    def __init__(self, desk: StepDesk, payloads: Payloads, pool: LabelPool) -> None:
        self._desk, self._payloads, self._pool = desk, payloads, pool
        self._others: list[str] = []
        """Keys of the newest members of the committee beside the first."""
        self._validation = 0
        """How many validation labels there were when the newest potential was judged: it was not trained on these."""
        self.records: list[IterationRecord] = []
        self.final = False

    def fit(self, iteration: int, start: str | None, *, final: bool, extra: bool = False) -> Steps[str]:
        """The potential of this iteration, and the others of its committee at the same time. Those that diverge get one
        more try, from scratch and gentler. ``extra``: a second, final one of the same iteration."""
        desk = self._desk
        desk.stage = "train"
        name = f"model/{iteration}" + ("/final" if extra else "")
        kept = desk.kept(name)
        final = final if kept is None else bool(kept["final"])  # a campaign that is made longer keeps its models
        fresh: list[str | None] = [None] * (self._payloads.config.train.committee - 1)
        starts = [start, *(self._others or fresh)]
        trained: dict[int, str] = {}
        failed: list[str] = []
        for attempt in range(len(DAMPING)):
            asked = {
                member: desk.ask(
                    "train",
                    "train",
                    self._payloads.train(
                        iteration,
                        self._pool.train,
                        self._pool.validation,
                        start=start,
                        final=final,
                        attempt=attempt,
                        extra=extra,
                        member=member,
                    ),
                )
                for member, start in enumerate(starts)
                if member not in trained
            }
            yield from desk.wait(asked.values())
            trained |= {member: key for member, key in asked.items() if desk.done(key)}
            failed = [key for member, key in asked.items() if member not in trained]
            if not failed:
                break
        else:
            found = desk.outcome(failed[0])
            reason = found.reason if found else ""
            raise PlanStopped(f"training of iteration {iteration} failed twice, the second time gentler: {reason}")
        model, *self._others = [trained[member] for member in range(len(starts))]
        found = desk.outcome(model)
        assert found is not None
        told = {"key": model, "final": final, "model_id": found.summary["model_id"]}
        desk.decide(name, {**told, **({"others": list(self._others)} if self._others else {})})
        self.final = final
        return model

    def evaluate(self, iteration: int, model: str, *, bought: int, extra: bool = False) -> Steps[IterationRecord]:
        """Feature density of the training split, and the errors on the test set; ``bought``: labels so far."""
        desk, payloads, pool = self._desk, self._payloads, self._pool
        desk.stage = "evaluate"
        mixture = desk.ask("novelty", "local", payloads.novelty(iteration, model, pool.train, others=self._others))
        yield from desk.result(mixture, f"Fitting the feature density of iteration {iteration}")
        key = desk.ask("evaluate", "local", payloads.evaluation(model, mixture, pool.test))
        self._validation = len(pool.validation)
        self._calibrate(iteration, model, mixture, pool.test, new=False)
        summary = yield from desk.result(key, f"Evaluating the model of iteration {iteration}")
        record = IterationRecord(
            iteration=iteration,
            model=model,
            mixture=mixture,
            evaluation=key,
            n_training=len(pool.train) + len(pool.validation),
            n_labels=bought,
            test_mae_p95=float(summary["mae_p95"]),
            **noise_of(summary),
        )
        self.records.append(record)
        desk.decide(
            f"evaluated/{iteration}" + ("/final" if extra else ""),
            {
                "iteration": iteration,
                "model": model,
                "mixture": mixture,
                "evaluation": key,
                "n_training": record.n_training,
            },
        )
        return record

    def evaluate_new(self, iteration: int, model: str, mixture: str, labels: Sequence[str]) -> None:
        """Errors of the model that asked for the new labels, on them: what novelty was worth. Nothing waits for it."""
        key = self._desk.ask("evaluate", "local", self._payloads.evaluation(model, mixture, labels))
        self._desk.decide(f"new_labels/{iteration}", {"evaluation": key})
        self._calibrate(iteration, model, mixture, labels, new=True)

    def _calibrate(self, iteration: int, model: str, mixture: str, labels: Sequence[str], *, new: bool) -> None:
        """What novelty means in eV/Å, and whether that holds on these labels. Nothing waits for it."""
        validation = self._pool.validation[: self._validation]
        told = self._payloads.calibration(iteration, model, mixture, validation, labels, new=new)
        self._desk.ask("calibrate", "local", told)
