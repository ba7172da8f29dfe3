"""The training loop: batches in, steps of the optimizer, snapshots out.

Whatever the number of ranks and however a step's batch is cut, a step of the optimizer sees the
mean over the same samples: each adds its loss divided by their number, and the sum over
micro-batches and ranks is the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from hqdata.errors import CancelledError, HqdataError
from training.config import TrainConfig
from training.data.batch import BadSample, Batch
from training.data.order import num_steps
from training.distributed import GradientSum, Ranks
from training.journal import Display, Metrics, Speed, StepRow
from training.loss import LossConfig, hq_loss
from training.model.hq_sam import HqSam
from training.run_folder import RunFolder
from training.snapshot import Position, Snapshot, Tensors

_FIGURES = ("loss", "bce", "dice", "num_samples", "num_bad", "stop")
"""What travels with the gradients: sums over the samples of a step, and whether to stop."""


class TrainingError(HqdataError):
    """Training cannot go on; what was saved before is whole."""

    exit_status = 1


@dataclass(slots=True)
class _Pending:
    """A step whose figures are still on their way from the device."""

    row_step: int
    epoch: int
    lr: float
    figures: Tensor
    sample_losses: Tensor
    keys: tuple[str, ...]
    bad: list[BadSample]
    ready: torch.cuda.Event | None


class Trainer:
    """Trains the HQ parameters of a model.

    Args:
        config: the run.
        model: on its device.
        ranks: this process among all.
        folder: where snapshots go; only the first rank writes.
        metrics: where figures go; None on other ranks.
        display: where progress is told.
        position: where the run stands.
    """

    def __init__(
        self,
        *,
        config: TrainConfig,
        model: HqSam,
        ranks: Ranks,
        folder: RunFolder,
        metrics: Metrics | None,
        display: Display,
        position: Position,
    ) -> None:
        self.config, self.model, self.ranks = config, model, ranks
        self.position = position
        self.stop_signal = 0
        self._folder, self._metrics, self._display = folder, metrics, display
        self._names = [name for name, _ in model.hq.named_parameters()]
        self._parameters = list(model.hq.parameters())
        self._device = self._parameters[0].device
        self._optimizer = torch.optim.Adam(
            self._parameters,
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
        )
        self._mean: list[Tensor] | None = (
            None if config.ema is None else [p.detach().clone() for p in self._parameters]
        )
        self._loss = LossConfig(
            num_points=config.loss_points,
            oversample=config.loss_oversample,
            importance=config.loss_importance,
            bce_weight=config.bce_weight,
            dice_weight=config.dice_weight,
        )
        self._exchange = GradientSum(self._parameters, len(_FIGURES))
        self._steps_per_epoch = num_steps(position.num_samples, config.batch_size)
        self._speed = Speed()
        self._pending: _Pending | None = None
        self._sums: list[Tensor] = []
        self._sample_losses: list[Tensor] = []
        self._keys: list[str] = []
        self._bad: list[BadSample] = []

    def restore(self, snapshot: Snapshot) -> None:
        """Puts weights, moments and position back as they were."""
        own = dict(zip(self._names, self._parameters, strict=True))
        with torch.no_grad():
            for name, value in snapshot.weights.items():
                own[name].copy_(value)
            if self._mean is not None:
                for name, mean in zip(self._names, self._mean, strict=True):
                    mean.copy_(snapshot.mean.get(name, own[name]))
        if snapshot.moments:
            step = torch.tensor(float(snapshot.position.step))
            for name, parameter in own.items():
                self._optimizer.state[parameter] = {
                    "step": step.clone(),
                    "exp_avg": snapshot.moments[f"first/{name}"].to(self._device),
                    "exp_avg_sq": snapshot.moments[f"second/{name}"].to(self._device),
                }
        self.position = snapshot.position

    def snapshot(self) -> Snapshot:
        """All that it takes to go on from here."""
        weights = {name: p.detach() for name, p in zip(self._names, self._parameters, strict=True)}
        moments: Tensors = {}
        for name, parameter in zip(self._names, self._parameters, strict=True):
            state = self._optimizer.state.get(parameter)
            if state:
                moments[f"first/{name}"] = state["exp_avg"]
                moments[f"second/{name}"] = state["exp_avg_sq"]
        mean = {} if self._mean is None else dict(zip(self._names, self._mean, strict=True))
        return Snapshot(self.config.model, self.position, weights, moments, mean)

    def run(self, batches: Iterable[Batch], after_epoch: Callable[[int], float | None]) -> None:
        """Trains until the last epoch is over, `max_steps` are done, or a signal came.

        Args:
            batches: from the position on, as `training.data.stream` yields them.
            after_epoch: called with the number of whole epochs after each of them, on every rank,
                with the weights that count (the running mean, if there is one); returns the mean
                boundary IoU if it evaluated.

        Raises:
            CancelledError: a signal came; the state is saved.
            TrainingError: the loss is not a number, or too many samples cannot be read.
        """
        total = self.position.num_samples * self.config.epochs
        self._display.start(self._done(), total)
        self._speed.restart()
        if self.position.position >= self.position.num_samples:
            self._end_epoch(after_epoch)  # what was stopped between its last step and its results
        for batch in () if self._is_enough() else batches:
            self._compute(batch)
            if not batch.is_last:
                continue
            self._step(batch)
            if self.position.position >= self.position.num_samples:
                self._end_epoch(after_epoch)
            elif self.position.step % self.config.save_every == 0:
                self._settle()
                self._save()
            if self._is_enough():
                self._settle()
                self._save()
                break
        self._settle()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """With the running mean in place of the weights, if there is one."""
        if self._mean is None:
            yield
            return
        own = [p.detach().clone() for p in self._parameters]
        with torch.no_grad():
            for parameter, mean in zip(self._parameters, self._mean, strict=True):
                parameter.copy_(mean)
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self._parameters, own, strict=True):
                    parameter.copy_(value)

    def _is_enough(self) -> bool:
        return self.config.max_steps is not None and self.position.step >= self.config.max_steps

    def _done(self) -> int:
        return self.position.epoch * self.position.num_samples + self.position.position

    def _compute(self, batch: Batch) -> None:
        """Loss and gradients of a micro-batch, added to those of the step."""
        self._bad += batch.bad
        if not len(batch):
            return
        batch = batch.to(self._device)
        prompts = self.model.embed(batch.prompts)
        features = self.model.encode(batch.images)
        logits = self.model.hq_logits(features, prompts)
        losses = hq_loss(logits, batch.masks, batch.seeds, self._loss)
        (losses.total.sum() / batch.num_global).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self._sums.append(
                torch.stack([losses.total.sum(), losses.bce.sum(), losses.dice.sum()])
            )
            self._sample_losses.append(losses.total.detach())
        self._keys += batch.keys

    def _step(self, batch: Batch) -> None:
        """One step of the optimizer; its figures are looked at when the next one is under way."""
        zero = torch.zeros(3, device=self._device)
        # Filled on the device: a copy from pageable memory would wait for all that is under way.
        own = [
            torch.full((1,), float(value), device=self._device)
            for value in (len(self._keys), len(self._bad), self.stop_signal)
        ]
        figures = torch.cat([torch.stack([zero, *self._sums]).sum(dim=0), *own])
        figures = self._exchange(self.ranks, figures)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        # Samples that could not be read are missing from the mean.
        present = figures[_FIGURES.index("num_samples")].clamp(min=1)
        torch._foreach_mul_(gradients, batch.num_global / present)
        length = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        if self.config.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, self.config.clip_norm)
        rate = self.config.rate(self.position.step, self._steps_per_epoch)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._settle()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._mean is not None and self.config.ema is not None:
            with torch.no_grad():
                for mean, parameter in zip(self._mean, self._parameters, strict=True):
                    mean.lerp_(parameter, 1 - self.config.ema)
        self.position = self.position.model_copy(
            update={
                "step": self.position.step + 1,
                "position": min(
                    self.position.position + batch.num_global, self.position.num_samples
                ),
            }
        )
        self._pending = self._leave(torch.cat([figures, length[None]]), rate)
        self._sums, self._sample_losses, self._keys, self._bad = [], [], [], []

    def _leave(self, figures: Tensor, rate: float) -> _Pending:
        """The step's figures, to be looked at later: asking for them now would stop the device."""
        losses = torch.cat(self._sample_losses) if self._sample_losses else figures[:0]
        ready = None
        if self._device.type == "cuda":
            figures, losses = (
                torch.empty(value.shape, dtype=value.dtype, pin_memory=True).copy_(
                    value, non_blocking=True
                )
                for value in (figures, losses)
            )
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record(torch.cuda.current_stream(self._device))
        return _Pending(
            self.position.step,
            self.position.epoch + 1,
            rate,
            figures,
            losses,
            tuple(self._keys),
            self._bad,
            ready,
        )

    def _settle(self) -> None:
        """Looks at the figures of the last step: all ranks see the same and do the same."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        if pending.ready is not None:
            pending.ready.synchronize()
        *sums, length = pending.figures.tolist()
        figures = dict(zip(_FIGURES, sums, strict=True))
        num_samples = int(figures["num_samples"])
        mean = {name: figures[name] / max(1, num_samples) for name in ("loss", "bce", "dice")}
        if not all(map(math.isfinite, mean.values())):
            self._refuse(pending, "loss")
        if not math.isfinite(length):
            self._refuse(pending, "gradient")
        if figures["num_bad"]:
            self._count_bad(pending.bad)
        row = StepRow(
            step=pending.row_step,
            epoch=pending.epoch,
            lr=pending.lr,
            images_per_second=self._speed.add(num_samples),
            **mean,
        )
        self._display.step(self._done(), row)
        if self._metrics is not None:
            self._metrics.step(row)
        if figures["stop"]:
            self._stop()

    def _end_epoch(self, after_epoch: Callable[[int], float | None]) -> None:
        self._settle()
        # Before the results: whatever ends them half-way, they are all that is made again.
        self._save()
        epoch = self.position.epoch + 1
        with self.averaged():
            score = after_epoch(epoch)
        best = self.position.best
        if score is not None and (best is None or score > best):
            best = score
        self.position = self.position.model_copy(
            update={"epoch": epoch, "position": 0, "best": best}
        )
        self._save()
        self._speed.restart()

    def _save(self) -> None:
        if self.ranks.is_first:
            self._folder.save(self.snapshot(), self.config.keep)

    def _stop(self) -> None:
        # The step under way was exchanged but not made: the position is that of the last one.
        self._save()
        self.ranks.barrier()
        raise CancelledError(
            f"stopped after step {self.position.step:,}; all of it is saved",
            do=f"go on: python -m training.train --resume {self._folder.root}",
        )

    def _refuse(self, pending: _Pending, what: str) -> None:
        finite = torch.isfinite(pending.sample_losses).tolist()
        own = [key for key, good in zip(pending.keys, finite, strict=True) if not good]
        keys = sorted(key for part in self.ranks.gather(own) for key in part)
        saved = self._folder.snapshots()
        raise TrainingError(
            f"the {what} is not a number at step {pending.row_step:,}, lr {pending.lr:g}",
            where=f"samples {', '.join(keys)}" if keys else "the sum over its samples",
            do=f"the last good checkpoint is {saved[-1]}: go on from it with --resume "
            f"{self._folder.root}; if it happens again, try a lower --lr, --clip-norm 1 or "
            "--precision fp32 in a new run"
            if saved
            else "nothing was saved yet; try a lower --lr, --clip-norm 1 or --precision fp32",
        )

    def _count_bad(self, bad: list[BadSample]) -> None:
        """Names what could not be read; each sample counts once, in however many epochs."""
        before = set(self.position.bad)
        found = {b.key: b for part in self.ranks.gather(bad) for b in part if b.key not in before}
        for key, one in sorted(found.items()):
            self._display.say(f"cannot be read: {key} in {one.shard}: {one.reason}")
        keys = tuple(sorted(before | found.keys()))
        self.position = self.position.model_copy(update={"bad": keys})
        if len(keys) > self.config.skip_bad:
            one = next(iter(found.values()))
            raise TrainingError(
                f"{len(keys)} samples cannot be read, e.g. {one.key!r}: {one.reason}",
                where=one.shard,
                expected=f"at most {self.config.skip_bad} (--skip-bad)",
                do=f"see what is damaged: hqdata check {self.config.shards}; or pass over them: "
                f"--resume {self._folder.root} --skip-bad {len(keys)}",
            )
