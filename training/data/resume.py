"""Whether a saved state of the stream fits what is about to go on from it."""

from __future__ import annotations

from itertools import combinations

from hqdata.errors import UserError
from training.data.order import STATE_VERSION, StreamState
from training.data.selection import Selection, selection_digest

_MAX_SPLITS = 12
"""Up to so many splits every selection from them is tried to find the one that a digest is of."""


def validate_state(
    state: StreamState,
    selection: Selection,
    *,
    batch_size: int,
    seed: int | None = None,
    saved_batch_size: int | None = None,
) -> None:
    """Refuses a state that another order, or other samples, would go on from.

    Args:
        state: where the stream stood.
        selection: what it is to go on with.
        batch_size: samples of a step over all ranks.
        seed: of the run that goes on, None if it is taken from the state.
        saved_batch_size: samples of a step in the run that saved the state, None if unknown; then
            another size is noticed by a position that is not the end of a step.

    Raises:
        UserError: an unknown version, another data set or selection, another seed, another
            batch size, or a position that no epoch has.
    """
    if state.version != STATE_VERSION:
        raise UserError(
            f"the state of the stream has version {state.version}",
            expected=f"version {STATE_VERSION}, which this version of training reads",
            do="go on with the version that the run began with, or start a new run",
        )
    if state.digest != selection.digest:
        raise _other_samples(state, selection)
    if seed is not None and state.seed != seed:
        raise UserError(
            f"the run began with seed {state.seed}, and is to go on with {seed}",
            do=f"leave the seed at {state.seed}, or start a new run",
        )
    if saved_batch_size is not None and saved_batch_size != batch_size:
        raise UserError(
            f"the run began with a global batch of {saved_batch_size} samples, and is to go on "
            f"with {batch_size}",
            do="leave the global batch as it was: fewer GPUs take smaller parts of it at once",
        )
    if state.epoch < 0 or not 0 <= state.position <= len(selection):
        raise UserError(
            f"the state of the stream is at sample {state.position:,} of epoch {state.epoch}",
            expected=f"a sample from 0 to {len(selection):,} of an epoch from 0 on",
        )
    if state.position % batch_size and state.position != len(selection):
        raise UserError(
            f"the stream stands at sample {state.position:,}, which is not the end of a step of "
            f"{batch_size} samples",
            expected="the global batch size that the run began with",
        )


def _other_samples(state: StreamState, selection: Selection) -> UserError:
    """Says what differs: the data set, or what is selected from it."""
    before = _selected(state.digest, selection)
    if before is None:
        return UserError(
            "the run was made with another data set",
            where=selection.dataset.root,
            expected=f"the data set and selection of digest {state.digest[:12]}…; this one's is "
            f"{selection.digest[:12]}…",
            do="give the run's own shards: a data set built anew from the same files has the same "
            "digest",
        )
    missing = sorted(set(before) - set(selection.sources))
    added = sorted(set(selection.sources) - set(before))
    told = [f"without {', '.join(missing)}"] * bool(missing)
    told += [f"with {', '.join(added)}"] * bool(added)
    return UserError(
        f"the run was made with another selection of this data set: it is now {', '.join(told)}",
        where=selection.dataset.root,
        expected=", ".join(before),
        do="leave --only and --exclude as they were, or start a new run",
    )


def _selected(digest: str, selection: Selection) -> tuple[str, ...] | None:
    """The "source/split" names of this data set that a digest is of, None if it is of others."""
    info = selection.dataset.info
    names = sorted(f"{source}/{split}" for source, own in info.sources.items() for split in own)
    counts = range(1, len(names) + 1) if len(names) <= _MAX_SPLITS else (len(names),)
    for count in counts:
        for chosen in combinations(names, count):
            if selection_digest(info.digest, chosen) == digest:
                return chosen
    return None
