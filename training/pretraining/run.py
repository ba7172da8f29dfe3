"""The pretraining run: steps, snapshots, figures, and the weights in the end.

A run's folder holds `recipe.json`, `checkpoints/` (the last two snapshots, and the one before the
learning rate begins to fall), `log.jsonl` (a line a step that was told, with the losses of the
first process, and one an evaluation) and `<model>.safetensors`, the running mean of the weights in
float16, as the package ships them.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import ValidationError
from segment_anything.modeling import Sam

from hqdata.errors import UserError
from hqdata.files import write_whole
from hqdata.shards.dataset import Dataset
from training.data.decode import read_picture
from training.distributed import GradientSum, Ranks
from training.model.backbones import find_backbone
from training.model.hq_sam import HqSam, build_hq_sam
from training.pretraining.held_out import Asked, asked_for, held_out_scenes, measure
from training.pretraining.optimizer import LayerOptimizer, check_torch, norm_of
from training.pretraining.passes import Passes, run_passes
from training.pretraining.recipe import PretrainRecipe
from training.pretraining.samples import PretrainBatch, SampleSource, make_loader
from training.run_folder import CONFIG_FILE, claimed
from training.snapshot import Position, Snapshot, load_snapshot, save_snapshot

RECIPE_FILE, LOG_FILE = "recipe.json", "log.jsonl"
NUM_HELD_OUT = 64
"""Scenes that a run is judged by as it goes."""

STEPS_A_LINE = 20
_KEEP = 2

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PretrainFolder:
    """Where the files of a run are."""

    root: Path

    @classmethod
    @contextmanager
    def claimed(cls, root: Path) -> Iterator[PretrainFolder]:
        """The folder, made if need be and held for this process alone.

        Raises:
            BusyError: another process has it.
        """
        with claimed(root) as folder:
            folder.checkpoints.mkdir(exist_ok=True)
            yield cls(root)

    @property
    def log(self) -> Path:
        """What was measured, a line each."""
        return self.root / LOG_FILE

    def weights(self, model: str) -> Path:
        """The weights as the package ships them."""
        return self.root / f"{model}.safetensors"

    def begin(self, recipe: PretrainRecipe, *, extend: bool) -> None:
        """Writes the recipe, or holds it against that of a run that goes on.

        Args:
            recipe: of this call.
            extend: steps and decay may be others; where it goes on, the learning rate is that of
                the new recipe.

        Where a run's learning rate had begun to fall and is not to fall there any more, it goes
        on from the last snapshot before the fall; the later ones are removed.

        Raises:
            UserError: it is another one, or of fewer steps than are done, or the folder is that of
                something else.
        """
        path = self.root / RECIPE_FILE
        if (self.root / CONFIG_FILE).exists():
            raise UserError("this is the folder of a training", where=self.root, do="name another")
        if path.is_file():
            try:
                saved = PretrainRecipe.model_validate_json(path.read_bytes())
            except ValidationError as error:
                raise UserError(f"not a recipe of a pretraining: {error}", where=path) from error
            free = {"steps", "decay_share"} if extend else set()
            old, new = (values.model_dump(exclude=free) for values in (saved, recipe))
            changed = [f"{k}: {old[k]} then, {new[k]} now" for k in old if old[k] != new[k]]
            if changed:
                raise UserError(
                    f"a run goes on with its own recipe; {'; '.join(changed)}",
                    where=path,
                    do="give another --out, or --extend for another number of steps or decay",
                )
            self._go_back(saved, recipe)
        write_whole(path, recipe.model_dump_json(indent=1).encode() + b"\n")

    def _go_back(self, saved: PretrainRecipe, recipe: PretrainRecipe) -> None:
        """Removes the snapshots of a fall that is no longer meant."""
        done = max(map(_step_of, self.snapshots()), default=0)
        if done > recipe.steps:
            raise UserError(
                f"the run has {done:,} steps already",
                where=self.root,
                expected="a --steps above it",
            )
        level = saved.level_until
        if done <= level or recipe.lr_share(done) <= saved.lr_share(done):
            return
        fallen = [path for path in self.snapshots() if _step_of(path) > level]
        if len(fallen) < len(self.snapshots()):
            for path in fallen:
                path.unlink()

    def snapshots(self) -> list[Path]:
        """Ascending."""
        return sorted((self.root / "checkpoints").glob("step-*.safetensors"))

    def save(self, snapshot: Snapshot, level_until: int) -> None:
        """Writes a snapshot and removes older ones but for the last before the decay."""
        name = f"step-{snapshot.position.step:09}.safetensors"
        save_snapshot(self.root / "checkpoints" / name, snapshot)
        level = [path for path in self.snapshots() if _step_of(path) <= level_until][-1:]
        for old in self.snapshots()[:-_KEEP]:
            if old not in level:
                old.unlink(missing_ok=True)

    def newest(self) -> Snapshot | None:
        """The last snapshot that is whole; None if there is none at all.

        Raises:
            UserError: there are some, and none can be read.
        """
        failure = None
        for path in reversed(self.snapshots()):
            found, told = _read(path)
            if found is not None:
                return found
            failure = failure or told
        if failure is not None:
            raise failure
        return None

    def read_log(self, until: int) -> list[Line]:
        """The lines up to a step."""
        if not self.log.is_file():
            return []
        lines = [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if line["step"] <= until]

    def write_log(self, lines: list[Line]) -> None:
        """Writes all lines."""
        write_whole(self.log, "".join(json.dumps(line) + "\n" for line in lines).encode())


def _read(path: Path) -> tuple[Snapshot | None, UserError | None]:
    """The snapshot of a file, or why it cannot be read: cut short, say; an earlier one may be."""
    try:
        return load_snapshot(path), None
    except UserError as error:
        return None, error


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def check_ready(recipe: PretrainRecipe, ranks: Ranks) -> None:
    """Whether a recipe can be run here, before anything is written.

    Raises:
        UserError: the pictures of a step cannot be shared out evenly, or PyTorch is too old.
    """
    check_torch()
    if recipe.pictures % ranks.world_size:
        raise UserError(
            f"{recipe.pictures} pictures a step for {ranks.world_size} processes",
            expected="a number of pictures that the processes can share evenly",
        )


class Learner:
    """SAM with its optimizer and the running mean of its weights.

    Args:
        recipe: of the run.
        device: where to.
        ranks: the processes that learn together; all of them make the same calls.
    """

    def __init__(
        self, recipe: PretrainRecipe, device: torch.device, ranks: Ranks | None = None
    ) -> None:
        self.recipe = recipe
        self._ranks = ranks or Ranks()
        self.device = device
        self.model = build_hq_sam(find_backbone(recipe.model), seed=recipe.seed).to(device)
        self.sam: Sam = self.model.sam
        self.sam.requires_grad_(True)
        named = dict(self.sam.named_parameters())
        self._named = named
        self._optimizer = LayerOptimizer(named, recipe, self._ranks)
        self._gradients = GradientSum(list(named.values()), 0)
        self.step_number = 0
        self._mean = {name: p.detach().clone() for name, p in named.items()}

    def step(self, batch: PretrainBatch) -> tuple[Passes, float]:
        """One step; the losses of this process' part, and the norm of the whole gradient."""
        recipe, number, count = self.recipe, self.step_number, self._ranks.world_size
        first = self._ranks.rank * recipe.pictures // count
        passes = run_passes(self.sam, batch, recipe, number, first)
        self.sam.zero_grad(set_to_none=True)
        (passes.total / count).backward()  # type: ignore[no-untyped-call]
        self._gradients(self._ranks, torch.zeros(0, device=self.device))
        norm = norm_of(self._named.values(), recipe.clip)
        if math.isfinite(norm):
            self._optimizer.step(number)
        self.step_number += 1
        keep = min(recipe.mean_decay, (1 + number) / (10 + number))
        with torch.no_grad():
            values = [self._named[name] for name in self._mean]
            torch._foreach_lerp_(list(self._mean.values()), values, 1 - keep)
        return passes, norm

    def snapshot(self) -> Snapshot:
        """All that the run needs to go on, the same in all processes."""
        position = Position(
            step=self.step_number,
            epoch=0,
            position=self.step_number * self.recipe.pictures,
            digest=self.recipe.digest(),
            seed=self.recipe.seed,
            batch_size=self.recipe.pictures,
            num_samples=self.recipe.steps * self.recipe.pictures,
        )
        weights = {name: p.detach() for name, p in self._named.items()}
        return Snapshot(
            self.recipe.model, position, weights, self._optimizer.moments(), dict(self._mean)
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Goes back to where a snapshot was taken."""
        with torch.no_grad():
            for name, parameter in self._named.items():
                parameter.copy_(snapshot.weights[name])
                self._mean[name].copy_(snapshot.mean[name])
        self._optimizer.restore(snapshot.moments)
        self.step_number = snapshot.position.step

    def averaged(self) -> HqSam:
        """A model of its own with the running mean."""
        model = build_hq_sam(find_backbone(self.recipe.model), seed=self.recipe.seed)
        model.sam.load_state_dict({k: v.cpu() for k, v in self._mean.items()}, strict=False)
        return model


def save_weights(model: HqSam, path: Path, about: dict[str, str]) -> None:
    """Writes SAM's weights alone in float16, under the names of SAM's own checkpoints."""
    tensors = {
        name: value.detach().cpu().to(torch.float16).contiguous()
        for name, value in model.sam.state_dict().items()
    }
    metadata = {**about, "format": "pt", "content": "sam", "model": model.backbone.name}
    write_whole(path, safetensors.torch.save(tensors, metadata))


def pretrain(
    folder: PretrainFolder,
    recipe: PretrainRecipe,
    *,
    dataset: Dataset | None,
    judged: Sequence[Dataset],
    device: torch.device,
    workers: int,
    save_every: int,
    eval_every: int,
    num_held_out: int = NUM_HELD_OUT,
    ranks: Ranks | None = None,
) -> Iterator[Line]:
    """Runs, or goes on with, a pretraining; gives each line of its log, in the first process.

    Args:
        folder: of the run, begun with this recipe.
        recipe: what is learnt.
        dataset: pictures beside the scenes; the one that the recipe names by its digest.
        judged: data sets of pictures to judge by, beside held-out scenes.
        device: where to compute.
        workers: processes that draw samples.
        save_every, eval_every: steps between snapshots, and between evaluations.
        num_held_out: scenes to judge by.
        ranks: the processes that learn together; the first one measures and writes.
    """
    ranks = ranks or Ranks()
    learner = Learner(recipe, device, ranks)
    saved = folder.newest()
    if saved is not None:
        learner.restore(saved)
    steps = {step for own in ranks.gather([learner.step_number]) for step in own}
    if len(steps) > 1:
        raise UserError(
            f"the processes found snapshots of different steps: {sorted(steps)}",
            where=folder.root,
            do="give all of them one folder",
        )
    lines = folder.read_log(learner.step_number)
    backbone = learner.model.backbone
    scenes = held_out_scenes(num_held_out if ranks.is_first else 0, backbone.image_size)
    pictures = judged_pictures(judged if ranks.is_first else (), backbone.image_size)
    source = SampleSource(recipe, backbone.image_size, backbone.mask_size, dataset)
    loader = make_loader(
        source, recipe, first_step=learner.step_number, workers=workers, ranks=ranks
    )
    since, done = time.monotonic(), learner.step_number
    for batch in loader:
        passes, norm = learner.step(_on(batch, device))
        step = learner.step_number
        last = step == recipe.steps
        snapshot = learner.snapshot() if step % save_every == 0 or last else None
        if not ranks.is_first:
            continue
        new: list[Line] = []
        if step % STEPS_A_LINE == 0 or last:
            rate = (step - done) / max(time.monotonic() - since, 1e-9)
            since, done = time.monotonic(), step
            new.append(_step_line(step, passes, norm, recipe.lr_share(step - 1), rate))
        if step % eval_every == 0 or last:
            averaged = learner.averaged()
            new.append({"step": step, "scenes": asdict(measure(averaged, scenes))})
            for name, asked in pictures.items():
                new.append({"step": step, "set": name, **asdict(measure(averaged, asked))})
            about = {"steps": str(step), "recipe": recipe.model_dump_json()}
            save_weights(averaged, folder.weights(recipe.model), about)
            since, done = time.monotonic(), step
        if new:
            lines += new
            folder.write_log(lines)
            yield from new
        if snapshot is not None:
            folder.save(snapshot, recipe.level_until)


def _on(batch: PretrainBatch, device: torch.device) -> PretrainBatch:
    if device.type == "cpu":
        return batch
    return PretrainBatch(
        *(
            value.to(device)
            for value in (batch.image, batch.targets, batch.boxes, batch.points, batch.masks)
        )
    )


def _step_line(step: int, passes: Passes, norm: float, lr_share: float, rate: float) -> Line:
    first, then = passes.first, passes.correction
    line: Line = {
        "step": step,
        "loss": round(float(passes.total.detach()), 5),
        "focal": round(float(first.focal.detach()), 6),
        "dice": round(float(first.dice.detach()), 5),
        "iou_error": round(float(first.iou_error.detach()), 5),
        "iou": round(float(first.iou), 4),
        "norm": round(norm, 4),
        "lr_share": round(lr_share, 5),
        "steps_per_second": round(rate, 3),
    }
    if then is not None:
        line["iou_corrected"] = round(float(then.iou), 4)
    return line


def judged_pictures(datasets: Sequence[Dataset], side: int) -> dict[str, list[Asked]]:
    """The pictures to judge by, set by set."""
    found: dict[str, list[Asked]] = {}
    for dataset in datasets:
        for index in range(len(dataset)):
            row = dataset.row(index)
            asked = asked_for(read_picture(dataset, index), side)
            if asked is not None:
                found.setdefault(f"{row['source']}/{row['split']}", []).append(asked)
    return found
