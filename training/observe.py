"""What is looked at after each epoch: results on the evaluation sets, pictures, weights to take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from hqdata.shards.dataset import Dataset
from training.config import TrainConfig
from training.data.selection import Selection
from training.distributed import Ranks
from training.evaluation import EvaluationOptions, evaluate
from training.journal import Display, Metrics
from training.loop import Trainer
from training.model.checkpoints import load_hq, save_hq, save_merged
from training.model.hq_sam import HqSam
from training.results import Results, make_results, to_markdown, write_results
from training.run_folder import RunFolder


class Observer:
    """Evaluates, writes weights, and draws, for one rank of a run.

    Args:
        config: of the run.
        trainer: what trains `model`.
        model: on `device`.
        selection: what it is trained on.
        ranks: this process among all.
        device: where it computes.
        metrics: where figures go; None on all ranks but the first.
        display: where they are told.
    """

    def __init__(
        self,
        config: TrainConfig,
        trainer: Trainer,
        model: HqSam,
        selection: Selection,
        ranks: Ranks,
        device: torch.device,
        metrics: Metrics | None,
        display: Display,
    ) -> None:
        self._config, self._trainer, self._model = config, trainer, model
        self._selection, self._ranks, self._device = selection, ranks, device
        self._metrics, self._display = metrics, display
        self._folder = RunFolder(config.run_folder())
        self._dataset: Dataset | None = None

    def check(self) -> None:
        """Opens the evaluation shards, so that a mistake shows before hours of training.

        Raises:
            DatasetError: they are no finished data set.
        """
        if self._config.eval_shards is not None:
            self._dataset = Dataset.open(self._config.eval_shards)

    def after_epoch(self, epoch: int) -> float | None:
        """Evaluates, if it is time to, and writes weights; returns the mean boundary IoU."""
        if self._ranks.is_first:
            save_hq(self._model, self._folder.last, self._metadata(epoch))
        is_due = epoch % self._config.eval_every == 0 or epoch == self._config.epochs
        if self._dataset is None or not is_due:
            return None
        result = evaluate(
            self._model,
            self._dataset,
            options=EvaluationOptions(batch_size=self._config.device_batch),
            device=self._device,
            rank=self._ranks.rank,
            world_size=self._ranks.world_size,
            gather=self._ranks.gather,
        )
        score = result.mean("hq").mbiou
        if not self._ranks.is_first:
            return score
        before = self._trainer.position.best
        if before is None or score > before:
            save_hq(self._model, self._folder.best, self._metadata(epoch))
        results = make_results(
            result,
            model=self._config.model,
            weights=f"after epoch {epoch}",
            trained_on=self._selection.sources,
            dataset=self._dataset.info.name,
            dataset_digest=self._dataset.info.digest,
            prompt="box",
            precision=self._model.precision,
        )
        self._write(epoch, results)
        return score

    def finish(self) -> Sequence[Path]:
        """Writes SAM and the best HQ weights as one file, on the first rank; returns what it wrote."""
        if not self._ranks.is_first:
            return ()
        chosen = self._folder.best if self._folder.best.is_file() else self._folder.last
        load_hq(self._model, chosen)
        save_merged(self._model, self._folder.merged)
        return (chosen, self._folder.merged)

    def _metadata(self, epoch: int) -> dict[str, str]:
        return {
            "epoch": str(epoch),
            "trained_on": ",".join(self._selection.sources),
            "selection_digest": self._selection.digest,
            "dataset_digest": self._selection.dataset.info.digest,
        }

    def _write(self, epoch: int, results: Results) -> None:
        stem = self._folder.root / "evaluation" / f"epoch-{epoch:03}"
        write_results(stem.with_suffix(".json"), results)
        stem.with_suffix(".md").write_text(to_markdown(results), encoding="utf-8")
        if self._metrics is not None:
            self._metrics.evaluation(self._trainer.position.step, epoch, results.result.figures())
        mean = {name: results.result.mean(name) for name in ("sam", "hq")}
        told = ", ".join(
            f"{title} {100 * mean[name].miou:.1f} / {100 * mean[name].mbiou:.1f}"
            for name, title in (("sam", "SAM"), ("hq", "HQ-SAM"))
        )
        self._display.say(f"epoch {epoch}: mean mIoU / mBIoU: {told}")
