"""Every sample exactly once an epoch, the same batches for any number of ranks and processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hqdata.errors import UserError
from support.builds import child_environment
from support.pictures import disc, encode, photo
from support.tiny_shards import build_tiny
from training.config import TrainConfig
from training.data.batch import Batch
from training.data.members import SampleBytes
from training.data.order import StreamState
from training.data.selection import Selection, select
from training.data.shards import OpenedShards, open_shards
from training.data.stream import LoaderError, Stream, StreamConfig, stream_config, validate_state
from training.distributed import Ranks
from training.model.backbones import find_backbone
from training.prompts import Kind

SIZE = 64
NUM_SAMPLES = 42


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> OpenedShards:
    return open_shards(build_tiny(tmp_path_factory.mktemp("tiny")).root)


@pytest.fixture
def damaged(opened: OpenedShards, tmp_path: Path) -> OpenedShards:
    """A copy that a test may damage."""
    shutil.copytree(opened.dataset.root, tmp_path / "copy")
    return open_shards(tmp_path / "copy")


def config(**values: Any) -> StreamConfig:
    standard = {"image_size": SIZE, "mask_size": 16, "batch_size": 8, "micro_batch_size": 3}
    return StreamConfig(**{**standard, **values})


def stream(
    opened: OpenedShards,
    selection: Selection | None = None,
    *,
    epoch: int = 0,
    position: int = 0,
    epochs: int = 1,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
    **values: Any,
) -> Stream:
    selection = selection or select(opened.dataset)
    return Stream(
        selection,
        opened,
        config(**values),
        state=StreamState(digest=selection.digest, seed=5, epoch=epoch, position=position),
        epochs=epochs,
        rank=rank,
        world_size=world_size,
        pin_memory=pin_memory,
    )


Sample = tuple[Any, ...]


def samples_of(batch: Batch) -> Iterator[tuple[str, Sample]]:
    """Key, and everything else that belongs to a sample, as plain values."""
    for i, key in enumerate(batch.keys):
        prompts = batch.prompts
        tensors = (
            batch.images[i],
            batch.masks[i],
            batch.seeds[i],
            prompts.boxes[i],
            prompts.points[i],
            prompts.labels[i],
            prompts.masks[i],
        )
        assert len(prompts) == len(batch) == len(batch.images) == len(batch.masks)
        yield key, (prompts.kinds[i], *(tensor.numpy().tobytes() for tensor in tensors))


Steps = dict[tuple[int, int], list[tuple[str, Sample]]]


def global_batches(ranks: Iterable[Iterable[Batch]]) -> Steps:
    """(epoch, step) -> the samples of all ranks, one rank after the other."""
    steps: Steps = {}
    for batches in ranks:
        for batch in batches:
            steps.setdefault((batch.epoch, batch.step), []).extend(samples_of(batch))
    return steps


@pytest.fixture(scope="module")
def reference(opened: OpenedShards) -> Steps:
    """Two epochs on one rank, loaded in this process."""
    return global_batches([stream(opened, epochs=2)])


def keys(steps: Steps, epoch: int) -> list[str]:
    return [key for (of, _), samples in sorted(steps.items()) if of == epoch for key, _ in samples]


def test_a_batch_is_what_it_says(opened: OpenedShards) -> None:
    batches = list(stream(opened))
    assert [len(batch) for batch in batches[:4]] == [3, 3, 2, 3]
    assert [batch.is_last for batch in batches[:4]] == [False, False, True, False]
    assert [batch.num_global for batch in batches[-2:]] == [8, 2]
    first = batches[0]
    assert first.images.shape == (3, SIZE, SIZE, 3)
    assert first.masks.shape == (3, SIZE, SIZE)
    assert first.prompts.boxes.shape == (3, 4)
    assert first.prompts.points.shape == (3, 10, 2)
    assert first.prompts.labels.shape == (3, 10)
    assert first.prompts.masks.shape == (3, 1, 16, 16)
    dtypes = [first.images.dtype, first.masks.dtype, first.prompts.masks.dtype]
    assert dtypes == [torch.uint8] * 3
    assert (first.seeds.dtype, first.prompts.labels.dtype) == (torch.int64, torch.int32)
    assert first.prompts.boxes.dtype == first.prompts.points.dtype == torch.float32
    assert not first.bad


def test_prompts_lie_on_the_object(opened: OpenedShards) -> None:
    seen = set()
    for batch in stream(opened, epochs=3):
        for i, kind in enumerate(batch.prompts.kinds):
            seen.add(kind)
            mask = batch.masks[i]
            if kind == Kind.BOX:
                x0, y0, x1, y1 = batch.prompts.boxes[i].long().tolist()
                y, x = torch.where(mask > 128)
                found = [x.min(), y.min(), x.max(), y.max()]
                assert all(
                    abs(int(a) - b) <= 1 for a, b in zip(found, (x0, y0, x1, y1), strict=True)
                )
            elif kind == Kind.POINT:
                columns, rows = batch.prompts.points[i].long().T
                assert (mask[rows, columns] >= 128).all()
                assert batch.prompts.labels[i].tolist() == [1] * 10
            else:
                assert set(batch.prompts.masks[i].unique().tolist()) <= {0, 255}
    assert seen == set(Kind)


def test_two_epochs_have_every_sample_once_and_differ(
    opened: OpenedShards, reference: Steps
) -> None:
    everything = sorted(opened.dataset.samples["key"].to_pylist())
    first, second = keys(reference, 0), keys(reference, 1)
    assert sorted(first) == sorted(second) == everything
    assert first != second
    by_epoch = [
        {key: sample for (of, _), s in reference.items() if of == epoch for key, sample in s}
        for epoch in (0, 1)
    ]
    assert all(by_epoch[0][key] != by_epoch[1][key] for key in everything)


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_any_number_of_ranks_sees_the_same_batches(
    opened: OpenedShards, reference: Steps, world_size: int
) -> None:
    ranks = [stream(opened, rank=r, world_size=world_size) for r in range(world_size)]
    first_epoch = {step: s for step, s in reference.items() if step[0] == 0}
    assert global_batches(ranks) == first_epoch


def test_any_number_of_processes_makes_the_same_batches(
    opened: OpenedShards, reference: Steps
) -> None:
    assert global_batches([stream(opened, workers=2, epochs=2)]) == reference


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_an_interrupted_stream_goes_on_where_it_stood(
    opened: OpenedShards, data: st.DataObject
) -> None:
    batch_size = data.draw(st.integers(1, 50), label="batch size")
    micro_batch_size = data.draw(st.integers(1, 9), label="micro-batch size")
    before, after = (data.draw(st.sampled_from([1, 2, 3, 8])) for _ in range(2))
    num_steps = -(-NUM_SAMPLES // batch_size)
    done = data.draw(st.integers(0, num_steps), label="steps done")
    sizes: dict[str, Any] = {"batch_size": batch_size, "micro_batch_size": micro_batch_size}
    sizes["image_size"], sizes["mask_size"] = 16, 8

    def all_ranks(number: int, position: int) -> Steps:
        ranks = range(number)
        streams = [
            stream(opened, position=position, rank=r, world_size=number, **sizes) for r in ranks
        ]
        return global_batches(streams)

    whole = all_ranks(before, 0)
    rest = all_ranks(after, min(done * batch_size, NUM_SAMPLES))
    assert rest == {step: samples for step, samples in whole.items() if step[1] >= done}
    assert sorted(keys(whole, 0)) == sorted(opened.dataset.samples["key"].to_pylist())


def test_leaving_a_source_out_changes_nothing_of_the_others(
    opened: OpenedShards, reference: Steps
) -> None:
    selection = select(opened.dataset, exclude=["greens"])
    left = global_batches([stream(opened, selection)])
    expected = [key for key in keys(reference, 0) if not key.startswith("greens-")]
    assert keys(left, 0) == expected
    of_first = {key: sample for (e, _), s in reference.items() if e == 0 for key, sample in s}
    for samples in left.values():
        assert all(of_first[key] == sample for key, sample in samples)


def test_a_rank_without_samples_gets_an_empty_batch(opened: OpenedShards) -> None:
    for workers in (0, 1):
        last = list(stream(opened, rank=0, world_size=3, workers=workers))[-1]
        assert (len(last), last.is_last, last.num_global) == (0, True, 2)
        assert last.images.shape == (0, SIZE, SIZE, 3)
        assert last.prompts.masks.shape == (0, 1, 16, 16)
        assert last.prompts.kinds == ()


def test_batches_may_be_kept(opened: OpenedShards, reference: Steps) -> None:
    batches = list(stream(opened, workers=1, epochs=2))
    assert global_batches([batches]) == reference


@pytest.mark.filterwarnings("ignore:.*pin_memory:UserWarning")
def test_page_locked_batches_are_the_same(opened: OpenedShards, reference: Steps) -> None:
    for workers in (0, 1):
        batches = list(stream(opened, workers=workers, epochs=2, pin_memory=True))
        assert global_batches([batches]) == reference
        pinned = {batch.images.is_pinned() for batch in batches if len(batch)}
        assert pinned == {torch.cuda.is_available()}


def test_memory_that_is_let_go_of_is_used_again(opened: OpenedShards) -> None:
    places = [batch.images.data_ptr() for batch in stream(opened, workers=1, epochs=3)]
    assert len(set(places)) <= 4 < len(places)


def place(opened: OpenedShards, row: int, member: str) -> tuple[Path, int, int, str]:
    """Shard, offset, size of a member, and key."""
    found = opened.dataset.row(row)
    path = opened.dataset.root / found["shard"]
    return path, found[f"{member}_offset"], found[f"{member}_size"], found["key"]


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize(
    ("member", "begin", "reason"),
    [
        ("image", b"no picture", "neither JPEG nor PNG"),
        ("mask", b"no picture", "no PNG"),
        ("image", b"\xff\xd8\xff\xe0\0\0\0", "cannot be decoded"),
        ("mask", b"\x89PNG\r\n\x1a\n\0\0", "not IHDR"),
    ],
)
def test_a_damaged_sample_is_named_and_the_others_are_there(
    damaged: OpenedShards, member: str, begin: bytes, reason: str
) -> None:
    path, offset, size, key = place(damaged, 7, member)
    overwrite(path, offset, begin + b"?" * (size // 2))
    batches = list(stream(damaged))
    bad = [one for batch in batches for one in batch.bad]
    assert [(one.key, one.shard) for one in bad] == [(key, damaged.dataset.row(7)["shard"])]
    assert bad[0].reason.startswith(f"the {member}: ")
    assert reason in bad[0].reason
    found = [key for batch in batches for key in batch.keys]
    assert sorted([*found, key]) == sorted(damaged.dataset.samples["key"].to_pylist())
    for batch in batches:
        assert len(batch.images) == len(batch.masks) == len(batch.prompts) == len(batch.keys)


def test_the_others_of_its_batch_are_as_they_are_without_it(
    damaged: OpenedShards, reference: Steps
) -> None:
    path, offset, size, gone = place(damaged, 7, "image")
    overwrite(path, offset, b"?" * size)
    made = global_batches([stream(damaged, workers=1)])
    expected = {
        step: [sample for sample in samples if sample[0] != gone]
        for step, samples in reference.items()
        if step[0] == 0
    }
    assert made == expected


def test_the_samples_of_a_missing_shard_are_named(damaged: OpenedShards) -> None:
    path, *_ = place(damaged, 0, "image")
    path.unlink()
    batches = list(stream(damaged, workers=1))
    bad = [one for batch in batches for one in batch.bad]
    of_shard = [damaged.dataset.row(row) for row in range(NUM_SAMPLES)]
    gone = [row["key"] for row in of_shard if damaged.dataset.root / row["shard"] == path]
    assert sorted(one.key for one in bad) == sorted(gone)
    assert {one.shard for one in bad} == {str(path.relative_to(damaged.dataset.root))}
    assert all("cannot open the shard" in one.reason for one in bad)


class Fixed:
    """A reader of one picture, whichever row is asked for."""

    def __init__(self, image: bytes, mask: bytes) -> None:
        self._image, self._mask = image, mask

    def read(self, row: int) -> SampleBytes:
        return SampleBytes(f"key-{row}", "a/b.tar", self._image, "jpg", self._mask)

    def follow(self, order: Any, then: Any = None) -> None:
        raise UserError("the cache is too small")

    def close(self) -> None: ...


def only_batch(opened: OpenedShards, image: bytes, mask: bytes) -> Batch:
    fixed = replace(opened, reader=Fixed(image, mask))
    values: dict[str, Any] = {"flip": 0.0, "scale_min": 1.0, "scale_max": 1.0}
    return next(iter(stream(fixed, micro_batch_size=1, **values)))


def test_grayscale_and_png_images_are_rgb(opened: OpenedShards) -> None:
    mask = encode(disc(64, 64), "PNG")
    gray = photo(1, 64, 64)[:, :, 0]
    image = only_batch(opened, encode(gray, quality=100), mask).images[0]
    assert (image[..., 0] == image[..., 1]).all()
    assert (image[..., 0] == image[..., 2]).all()
    colour = photo(1, 64, 64)
    image = only_batch(opened, encode(colour, "PNG"), mask).images[0]
    assert image.tolist() == colour.tolist()
    image = only_batch(opened, encode(np.full((64, 64, 3), (250, 5, 5), np.uint8)), mask).images[0]
    assert image[9, 9, 0] > 240  # red is red
    assert image[9, 9, 2] < 20


def test_what_exif_says_is_not_done_again(opened: OpenedShards) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[274] = 3  # upside down
    colour = photo(2, 64, 64)
    plain = only_batch(opened, encode(colour), encode(disc(64, 64), "PNG")).images
    turned = encode(colour, exif=exif)
    assert b"Exif" in turned
    assert (only_batch(opened, turned, encode(disc(64, 64), "PNG")).images == plain).all()


@pytest.mark.parametrize(
    ("image", "mask", "reason"),
    [
        (encode(photo(0, 64, 64)), encode(disc(64, 32), "PNG"), "the mask has 64x32 pixels"),
        (encode(photo(0, 64, 64))[:-500], encode(disc(64, 64), "PNG"), "ends too early"),
        (encode(photo(0, 64, 64)), b"", "the file is empty"),
        (encode(photo(0, 64, 64), "WEBP"), encode(disc(64, 64), "PNG"), "neither JPEG nor PNG"),
    ],
)
def test_other_pictures_are_bad_samples(
    opened: OpenedShards, image: bytes, mask: bytes, reason: str
) -> None:
    batch = only_batch(opened, image, mask)
    assert len(batch) == 0
    assert reason in batch.bad[0].reason


def test_a_header_that_claims_too_much_is_not_decoded(opened: OpenedShards) -> None:
    mask = bytearray(encode(disc(64, 64), "PNG"))
    mask[16:24] = (60_000).to_bytes(4, "big") * 2
    batch = only_batch(opened, encode(photo(0, 64, 64)), bytes(mask))
    assert "more than the limit" in batch.bad[0].reason


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_the_reader_arrive_as_they_are(opened: OpenedShards, workers: int) -> None:
    broken = replace(opened, reader=Fixed(b"", b""), is_remote=True)
    with pytest.raises(UserError) as caught:
        next(iter(stream(broken, workers=workers)))
    assert str(caught.value) == "the cache is too small"


class Followed(Fixed):
    """Remembers what it was told and asked."""

    def __init__(self) -> None:
        super().__init__(encode(photo(0, 64, 64)), encode(disc(64, 64), "PNG"))
        self.told: list[tuple[list[int], list[int] | None]] = []
        self.asked: list[int] = []

    def follow(self, order: Any, then: Any = None) -> None:
        self.told.append((order.tolist(), None if then is None else then.tolist()))

    def read(self, row: int) -> SampleBytes:
        self.asked.append(row)
        return super().read(row)


def test_a_remote_reader_is_told_what_comes(opened: OpenedShards) -> None:
    reader = Followed()
    remote = replace(opened, reader=reader, is_remote=True)
    list(stream(remote, position=16, epochs=2))
    (first, then), (second, nothing) = reader.told
    assert first + second == reader.asked
    assert (len(first), len(second)) == (NUM_SAMPLES - 16, NUM_SAMPLES)
    assert then == second
    assert nothing is None


class Dying(Fixed):
    """Ends its process."""

    def read(self, row: int) -> SampleBytes:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_loader_process_that_dies_is_an_error_of_its_own(opened: OpenedShards) -> None:
    dying = replace(opened, reader=Dying(b"", b""))
    with pytest.raises(LoaderError, match="a loader process died"):
        next(iter(stream(dying, workers=1)))


CTRL_C = """
import os, signal, sys, time
from training.data.order import StreamState
from training.data.selection import select
from training.data.shards import open_shards
from training.data.stream import Stream, StreamConfig

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    opened = open_shards(sys.argv[1])
    selection = select(opened.dataset)
    config = StreamConfig(image_size=64, mask_size=16, batch_size=4, micro_batch_size=2, workers=2)
    state = StreamState(digest=selection.digest, seed=0)
    try:
        for number, _ in enumerate(Stream(selection, opened, config, state=state, epochs=1000)):
            if number == 5:
                os.killpg(0, signal.SIGINT)  # as a terminal does
            time.sleep(0.01)
    except KeyboardInterrupt:
        print("stopped")
"""


def test_ctrl_c_is_the_trainers_business(opened: OpenedShards, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(CTRL_C)
    done = subprocess.run(
        [sys.executable, str(script), str(opened.dataset.root)],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        start_new_session=True,
    )
    assert (done.stdout, done.stderr) == ("stopped\n", "")


MEMORY = """
import resource, sys
import numpy as np
import cv2
from training.data.augment import JitterConfig, augment
from training.data.decode import decode
from training.data.draw import PromptConfig, draw_prompt

cv2.setNumThreads(1)
image, mask = (open(path, "rb").read() for path in sys.argv[1:])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
pixels, exact = np.empty((1024, 1024, 3), np.uint8), np.empty((1024, 1024), np.float32)
for seed in range(6):
    generator = np.random.default_rng(seed)
    picture = decode(image, mask)
    augment(picture, generator, JitterConfig(size=1024), pixels, exact)
    draw_prompt(exact, generator, PromptConfig(mask_size=256))
    del picture
print(peak() - before)
"""


def test_a_picture_of_24_megapixels_takes_little_more_than_its_own_size(tmp_path: Path) -> None:
    tile = photo(0, 600, 400)
    image, mask = np.tile(tile, (10, 10, 1)), cv2.resize(disc(600, 400, 150), (6000, 4000))
    paths = [tmp_path / "image.jpg", tmp_path / "mask.png"]
    cv2.imwrite(str(paths[0]), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
    cv2.imwrite(str(paths[1]), mask)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, *map(str, paths)],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    # 69 MiB of image and 23 MiB of mask; in float32 they would be 366.
    assert float(done.stdout) < 160


def state(selection: Selection, **values: Any) -> StreamState:
    return StreamState(**{"digest": selection.digest, "seed": 5, **values})


def refusal(selection: Selection, given: StreamState, **values: Any) -> str:
    with pytest.raises(UserError) as caught:
        validate_state(given, selection, **{"batch_size": 8, **values})
    return str(caught.value)


def test_a_state_that_fits_is_accepted(opened: OpenedShards) -> None:
    selection = select(opened.dataset)
    for position in (0, 8, 40, NUM_SAMPLES):
        validate_state(state(selection, position=position), selection, batch_size=8, seed=5)


def test_states_that_do_not_fit_are_refused(opened: OpenedShards) -> None:
    selection = select(opened.dataset)
    assert "has version 7" in refusal(selection, state(selection, version=7))
    assert "with seed 5, and is to go on with 6" in refusal(selection, state(selection), seed=6)
    told = refusal(selection, state(selection), saved_batch_size=16)
    assert "a global batch of 16 samples, and is to go on with 8" in told
    assert "not the end of a step of 8" in refusal(selection, state(selection, position=12))
    assert "at sample 48 of epoch 0" in refusal(selection, state(selection, position=48))
    assert "at sample -8 of epoch 0" in refusal(selection, state(selection, position=-8))
    with pytest.raises(UserError, match="version 7"):
        Stream(selection, opened, config(), state=state(selection, version=7), epochs=1)


def test_another_data_set_or_selection_is_told_apart(opened: OpenedShards) -> None:
    everything = select(opened.dataset)
    without = select(opened.dataset, exclude=["greens"])
    told = refusal(without, state(everything))
    assert "another selection of this data set: it is now without greens/all" in told
    assert "it is now with greens/all" in refusal(everything, state(without))
    told = refusal(everything, state(everything, digest="0" * 64))
    assert "another data set" in told


def test_a_position_past_the_end_of_a_smaller_selection_is_refused(
    opened: OpenedShards,
) -> None:
    greens = select(opened.dataset, only=["greens"])
    assert "at sample 40" in refusal(greens, state(greens, position=40))


def test_the_config_of_a_run_becomes_that_of_its_stream() -> None:
    run = TrainConfig(model="vit_micro", prompts=("box", "mask"), device_batch=2, flip=0.0)
    made = stream_config(run, Ranks(), torch.device("cpu"))
    assert (made.image_size, made.mask_size) == (256, find_backbone("vit_micro").mask_size)
    assert (made.batch_size, made.micro_batch_size) == (run.batch_size, 2)
    assert made.kinds == (Kind.BOX, Kind.MASK)
    assert made.flip == 0.0
    assert made.workers >= 1
    assert (
        stream_config(run.model_copy(update={"workers": 0}), Ranks(), torch.device("cpu")).workers
        == 0
    )
