"""Trains the HQ token: `python -m training.train`, alone or under torchrun."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import torch

from hqdata.errors import CancelledError, HqdataError, UserError
from hqdata.shards.dataset import Dataset
from training.cli_common import err, explain_os_error, out_console, pick_device
from training.config import TrainConfig
from training.data.order import num_steps
from training.data.selection import Selection
from training.data.shards import OpenedShards, open_shards
from training.data.stream import Stream, stream_config, validate_state
from training.distributed import Ranks, joined
from training.flags import Parser, add_config_flags, given_values, parse
from training.journal import BarDisplay, Display, LineDisplay, Metrics, MuteDisplay
from training.loop import Trainer, TrainingError
from training.observe import Observer
from training.results import notes, to_table
from training.run_folder import CONFIG_FILE, RunFolder, claimed
from training.setup import (
    Built,
    build_model,
    check_same_run,
    describe_run,
    resolve_config,
    select_samples,
)
from training.snapshot import Position, Snapshot

DESCRIPTION = "Trains the HQ token of HQ-SAM on shards that hqdata built."
EPILOG = """\
Without any flag: ViT-L with the paper's schedule on shards/, from sam_vit_l_0b3195.pth.
On several GPUs: torchrun --nproc-per-node N -m training.train ... ; same steps, samples, order."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    ranks = Ranks()
    try:
        ranks = Ranks.from_environment()
        namespace = parse(make_parser(), arguments)
        config = resolve_config(given_values(namespace), namespace.config, namespace.resume)
        with _display(ranks) as display:
            train(config, ranks, display, resume=namespace.resume is not None)
    except HqdataError as error:
        # Where all ranks fail alike, one of them is enough to read.
        if ranks.is_first:
            kind = "" if isinstance(error, CancelledError) else "error: "
            err.print(f"{kind}{error}", markup=False)
        elif not isinstance(error, (UserError, TrainingError, CancelledError)):
            err.print(f"error on rank {ranks.rank}: {error}", markup=False)
        return error.exit_status
    except OSError as error:
        err.print(f"error: {explain_os_error(error)}", markup=False)
        return 1
    except torch.cuda.OutOfMemoryError as error:
        err.print(f"error: {str(error).partition('. ')[0]}", markup=False)
        err.print("  to do: a smaller --device-batch; the steps stay the same", markup=False)
        return 1
    except KeyboardInterrupt:
        err.print("stopped at once; what was saved before is whole")
        return 130
    return 0


def train(config: TrainConfig, ranks: Ranks, display: Display, *, resume: bool) -> None:
    """Trains a run from its beginning or from its last snapshot to its end.

    Raises:
        HqdataError: a user's mistake, a signal, or training that cannot go on.
    """
    if ranks.local_world_size > 1 and config.device.startswith("cuda:"):
        raise UserError(
            f"{ranks.local_world_size} processes of this machine were all sent to {config.device}",
            do="leave out --device: each process takes a GPU of its own",
        )
    device = pick_device(config.device, local_rank=ranks.local_rank)
    root = config.run_folder()
    with ExitStack() as stack:
        folder = RunFolder(root)
        if ranks.is_first:
            _refuse_existing(folder, resume)
        opened = open_shards(
            config.shards,
            cache_dir=config.cache_dir,
            cache_bytes=int(config.cache_gib * 2**30),
        )
        selection = select_samples(config, opened.dataset)
        # Opened now: a mistake must show before hours of training, and before a folder is made.
        evaluation = None if config.eval_shards is None else Dataset.open(config.eval_shards)
        built = build_model(config, device)
        config = config.model_copy(update={"sam_checkpoint": built.sam_checkpoint})
        stack.enter_context(joined(ranks, device))
        if ranks.is_first:
            stack.enter_context(claimed(root))
        snapshot = _begin(config, folder, selection, built, ranks, display, resume=resume)
        ranks.barrier()
        position = snapshot.position if snapshot else _first_position(config, selection)
        metrics = None
        if ranks.is_first:
            board = root / "tensorboard"
            metrics = Metrics(
                folder.metrics,
                board,
                after_step=position.step,
                evaluated=position.position < position.num_samples,
            )
            stack.callback(metrics.close)
        trainer = Trainer(
            config=config,
            model=built.model,
            ranks=ranks,
            folder=folder,
            metrics=metrics,
            display=display,
            position=position,
        )
        if snapshot is not None:
            trainer.restore(snapshot)
        ranks.spread([p.detach() for p in built.model.hq_parameters()])
        observer = Observer(
            config, trainer, built.model, selection, evaluation, ranks, device, metrics, display
        )
        stack.enter_context(_signals(trainer))
        if position.epoch < config.epochs:
            _tell_start(config, built, ranks, device, selection, position, display, root)
            stream = _stream(config, selection, opened, position, ranks, device)
            try:
                trainer.run(stream, observer.after_epoch)
            except UserError as error:
                # A network or a disk may fail on one machine alone, unlike what went before.
                if not ranks.is_first:
                    err.print(f"error on rank {ranks.rank}: {error}", markup=False)
                raise
        else:
            display.say(f"the run is complete: {position.step:,} steps; for more, --epochs N")
        _tell_end(trainer, config, observer, ranks, display, root)


def make_parser() -> Parser:
    """The flags of the command line."""
    parser = Parser(
        prog="python -m training.train",
        description=DESCRIPTION,
        epilog=EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, metavar="PATH", help="values from a YAML file")
    parser.add_argument("--resume", type=Path, metavar="PATH", help="folder of a run to go on with")
    add_config_flags(parser)
    return parser


@contextmanager
def _display(ranks: Ranks) -> Iterator[Display]:
    if not ranks.is_first:
        yield MuteDisplay()
    elif err.is_terminal:
        with BarDisplay(err) as bar:
            yield bar
    else:
        yield LineDisplay()


def _refuse_existing(folder: RunFolder, resume: bool) -> None:
    """A folder that holds a run is gone on with or left alone, never written over."""
    if not resume and (folder.root / CONFIG_FILE).exists():
        raise UserError(
            "this folder holds a run",
            where=folder.root,
            do=f"go on with it: python -m training.train --resume {folder.root}; or choose "
            "another --out",
        )


def _begin(
    config: TrainConfig,
    folder: RunFolder,
    selection: Selection,
    built: Built,
    ranks: Ranks,
    display: Display,
    *,
    resume: bool,
) -> Snapshot | None:
    """Writes what a new run begins with, or reads where an old one stands."""
    info = describe_run(config, selection, built)
    if not resume:
        if ranks.is_first:
            folder.write_start(config, info)
        return None
    check_same_run(folder.read_info(), info, folder.root)
    before = folder.read_config().epochs
    if config.epochs != before:
        display.say(f"{before} epochs become {config.epochs}")
    if ranks.is_first:
        folder.write_config(config)
    snapshot, damaged = folder.newest()
    if snapshot is None:
        display.say("no checkpoint yet: from the beginning")
    for error in damaged:
        display.say(f"passed over: {error}")
    if snapshot is not None:
        if snapshot.model != config.model:
            raise UserError(
                f"the checkpoint is of {snapshot.model}, the run of {config.model}",
                where=folder.checkpoints,
            )
        validate_state(
            snapshot.position.stream(),
            selection,
            batch_size=config.batch_size,
            saved_batch_size=snapshot.position.batch_size,
        )
    return snapshot


def _first_position(config: TrainConfig, selection: Selection) -> Position:
    return Position(
        step=0,
        epoch=0,
        position=0,
        digest=selection.digest,
        seed=config.seed,
        batch_size=config.batch_size,
        num_samples=len(selection),
    )


def _stream(
    config: TrainConfig,
    selection: Selection,
    opened: OpenedShards,
    position: Position,
    ranks: Ranks,
    device: torch.device,
) -> Stream:
    return Stream(
        selection,
        opened,
        stream_config(config, ranks, device),
        state=position.stream(),
        epochs=config.epochs,
        rank=ranks.rank,
        world_size=ranks.world_size,
        pin_memory=device.type == "cuda",
    )


@contextmanager
def _signals(trainer: Trainer) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM ends the run after the step under way, the second at once."""

    def stop(number: int, _: FrameType | None) -> None:
        if trainer.stop_signal:
            raise KeyboardInterrupt
        trainer.stop_signal = number

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell_start(
    config: TrainConfig,
    built: Built,
    ranks: Ranks,
    device: torch.device,
    selection: Selection,
    position: Position,
    display: Display,
    root: Path,
) -> None:
    steps = num_steps(len(selection), config.batch_size)
    names = ", ".join(selection.sources)
    if selection.recipe is not None:
        names = f"recipe {selection.recipe}: {names}"
    display.say(
        f"{config.model} on {device}{f' x {ranks.world_size}' if ranks.world_size > 1 else ''}: "
        f"{len(selection):,} samples ({names}), {config.epochs} epochs of {steps:,} steps of "
        f"{config.batch_size}"
    )
    display.say(f"run: {root}" + (f", from step {position.step:,}" if position.step else ""))
    if not built.sam_sha256:
        display.say("SAM's weights are random: this tries the steps out, its figures mean nothing")
    if config.eval_shards is None:
        display.say("nothing is evaluated: give shards of the evaluation sets with --eval-shards")


def _tell_end(
    trainer: Trainer,
    config: TrainConfig,
    observer: Observer,
    ranks: Ranks,
    display: Display,
    root: Path,
) -> None:
    position = trainer.position
    if position.epoch < config.epochs:
        display.say(
            f"stopped after step {position.step:,}, as asked; "
            f"go on: python -m training.train --resume {root}"
        )
        return
    written = observer.finish()
    results = observer.best_results() if ranks.is_first else None
    if results is not None:
        out_console.print(to_table(results))
        for note in notes(results):
            out_console.print(note, markup=False)
    for path in written:
        display.say(f"written: {path}")


if __name__ == "__main__":
    sys.exit(main())
