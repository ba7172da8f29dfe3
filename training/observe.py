"""What is looked at after each epoch: results on the evaluation sets, pictures, weights to take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from hqdata.errors import DatasetError
from hqdata.shards.dataset import Dataset
from training.config import TrainConfig
from training.data.selection import Selection
from training.data.shards import is_url
from training.distributed import Ranks
from training.evaluation import EvaluationOptions, evaluate
from training.journal import Display, Metrics, read_metrics
from training.loop import Trainer
from training.model.checkpoints import load_hq, save_hq, save_merged
from training.model.hq_sam import HqSam
from training.page import PageData, write_page
from training.pictures import choose_rows, draw_sheet, make_examples, write_png
from training.results import Results, make_results, read_results, to_markdown, write_results
from training.run_folder import RunFolder, RunInfo

_MAX_SHEETS = 2
"""Sheets of pictures on the page: the last epoch's, and the first one's to see what was learnt."""


class Observer:
    """Evaluates, writes weights, and draws, for one rank of a run.

    Args:
        config: of the run.
        trainer: what trains `model`.
        model: on `device`.
        selection: what it is trained on.
        evaluation: what it is evaluated on, if on anything.
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
        evaluation: Dataset | None,
        ranks: Ranks,
        device: torch.device,
        metrics: Metrics | None,
        display: Display,
    ) -> None:
        self._config, self._trainer, self._model = config, trainer, model
        self._selection, self._ranks, self._device = selection, ranks, device
        self._metrics, self._display = metrics, display
        self._folder = RunFolder(config.run_folder())
        self._dataset = evaluation

    def after_epoch(self, epoch: int) -> float | None:
        """Evaluates, if it is time to, and writes weights; returns the mean boundary IoU."""
        if self._ranks.is_first:
            save_hq(self._model, self._folder.last, self._metadata(epoch))
        is_due = epoch % self._config.eval_every == 0 or epoch == self._config.epochs
        if self._dataset is None or not is_due:
            if self._ranks.is_first:
                self._draw(epoch)
                self._write_page()
            return None
        result = evaluate(
            self._model,
            self._dataset,
            options=EvaluationOptions(
                batch_size=self._config.device_batch,
                num_workers=2 if self._config.workers is None else self._config.workers,
            ),
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
            recipe=self._selection.recipe,
            dataset=self._dataset.info.name,
            dataset_digest=self._dataset.info.digest,
            prompt="box",
            precision=self._model.precision,
        )
        self._write(epoch, results)
        self._draw(epoch)
        self._write_page()
        return score

    def finish(self) -> Sequence[Path]:
        """Writes SAM and the best HQ weights as one file, on the first rank.

        Returns:
            What there is to take and to look at.
        """
        if not self._ranks.is_first:
            return ()
        chosen = self._folder.best if self._folder.best.is_file() else self._folder.last
        load_hq(self._model, chosen)
        save_merged(self._model, self._folder.merged)
        self._write_page()
        return (chosen, self._folder.merged, self._folder.page)

    def best_results(self) -> Results | None:
        """The evaluation with the highest mean boundary IoU so far."""
        found = [read_results(path) for path in sorted(self._folder.evaluation.glob("*.json"))]
        return max(found, key=lambda one: one.result.mean("hq").mbiou, default=None)

    def _metadata(self, epoch: int) -> dict[str, str]:
        selection = self._selection
        return {
            "epoch": str(epoch),
            "sam_sha256": self._folder.read_info().sam_sha256,
            "trained_on": ",".join(selection.sources),
            "selection_digest": selection.digest,
            "dataset_digest": selection.dataset.info.digest,
            **({"recipe": selection.recipe} if selection.recipe is not None else {}),
        }

    def _write(self, epoch: int, results: Results) -> None:
        stem = self._folder.evaluation / f"epoch-{epoch:03}"
        write_results(stem.with_suffix(".json"), results)
        stem.with_suffix(".md").write_text(to_markdown(results), encoding="utf-8")
        if self._metrics is not None:
            self._metrics.evaluation(self._trainer.position.step, epoch, results.result.figures())
        sam, hq = results.result.mean("sam"), results.result.mean("hq")
        self._display.say(
            f"epoch {epoch}: mean mIoU / mBIoU: SAM {100 * sam.miou:.1f} / {100 * sam.mbiou:.1f}, "
            f"HQ-SAM {100 * hq.miou:.1f} / {100 * hq.mbiou:.1f}"
        )

    def _draw(self, epoch: int) -> None:
        number, seed = self._config.num_pictures, self._config.seed
        if not number:
            return
        if self._dataset is not None:
            dataset, rows = self._dataset, choose_rows(self._dataset, number, seed)
        elif is_url(self._config.shards):
            return  # single pictures would cost whole shards
        else:
            dataset = self._selection.dataset
            selected = set(self._selection.rows.tolist())
            rows = [r for r in choose_rows(dataset, len(dataset), seed) if r in selected][:number]
        try:
            sheet = draw_sheet(make_examples(self._model, dataset, rows, device=self._device))
        except DatasetError as error:
            # Whether the run goes on without a sample is not for its pictures to say.
            self._display.say(f"no pictures of this epoch: {error}")
            return
        write_png(self._folder.pictures / f"epoch-{epoch:03}.png", sheet)
        if self._metrics is not None:
            self._metrics.picture(self._trainer.position.step, "examples", sheet)

    def _write_page(self) -> None:
        info = self._folder.read_info()
        sheets = sorted(self._folder.pictures.glob("epoch-*.png"))
        # The newest first: those are the masks that the table tells of.
        shown = sheets[::-1] if len(sheets) <= _MAX_SHEETS else [sheets[-1], sheets[0]]
        root = self._folder.root
        data = PageData(
            title=root.name,
            model=info.model,
            sources=tuple(info.trained_on.items()),
            facts=self._facts(info),
            rows=read_metrics(self._folder.metrics),
            results=self.best_results(),
            pictures=tuple(
                (f"after epoch {int(path.stem.removeprefix('epoch-'))}", path.read_bytes())
                for path in shown
            ),
            commands=(
                f"python -m training.evaluate {root} --eval-shards {self._config.eval_shards}",
                f"python -m training.predict photo.jpg --box 100,80,640,560 "
                f"--checkpoint {self._folder.merged} --out mask.png",
            ),
        )
        write_page(self._folder.page, data)

    def _facts(self, info: RunInfo) -> tuple[tuple[str, str], ...]:
        config = self._config
        sam = (
            f"sha256 {info.sam_sha256[:16]}…"
            if info.sam_sha256
            else "random: only the steps mean anything"
        )
        return (
            ("trained parameters", f"{info.num_parameters:,}"),
            ("SAM's weights", sam),
            (
                "schedule",
                f"{config.epochs} epochs, batches of {config.batch_size}, lr {config.lr:g}",
            ),
            ("encoder in", self._model.precision),
            ("data set", f"{info.dataset}, digest {info.dataset_digest[:16]}…"),
            *((("recipe", info.recipe),) if info.recipe is not None else ()),
            *_samples(self._selection),
            ("seed", str(config.seed)),
        )


def _samples(selection: Selection) -> list[tuple[str, str]]:
    """What is to be known of sources that were drawn from archives, as facts."""
    sampled = selection.dataset.info.sampled or {}
    return [
        (
            f"{name} is a sample",
            f"of {item.archives:,} of {item.archives_expected:,} archives, seed {item.seed}",
        )
        for name, item in sampled.items()
        if name in selection.sources
    ]
