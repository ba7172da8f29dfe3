"""Memory that loader processes share with the trainer, used again and again.

A loader process that asks for new shared memory for each batch spends a third of its time on having
the pages of it zeroed and mapped. Here a batch is written to one of a few slots, and the slot is
free again when nobody holds the batch any more. Whoever keeps batches is not hurt by that: where no
slot is free the next batch gets new memory.
"""

from __future__ import annotations

import weakref
from collections import deque

import torch
from torch import Tensor


def picture_bytes(number: int, size: int) -> int:
    """Bytes of the images and masks of a batch of `number` samples."""
    return number * size * size * 4


def split_pictures(memory: Tensor, number: int, size: int) -> tuple[Tensor, Tensor]:
    """Images, uint8 (number, size, size, 3), and masks, uint8 (number, size, size), in memory.

    Args:
        memory: uint8 (`picture_bytes(number, size)` or more,).
        number: samples.
        size: side of the model's input.
    """
    pixels = number * size * size
    images = memory[: 3 * pixels].view(number, size, size, 3)
    return images, memory[3 * pixels : 4 * pixels].view(number, size, size)


def new_memory(num_bytes: int, *, shared: bool) -> Tensor:
    """uint8 (num_bytes,), not set to anything; shared with other processes if asked for."""
    if not shared or not num_bytes:
        return torch.empty(num_bytes, dtype=torch.uint8)
    storage = torch.UntypedStorage._new_shared(num_bytes)  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=torch.uint8).set_(storage)


class Slots:
    """The slots of all loader processes of a rank; lives in the trainer's process.

    Args:
        workers: loader processes. Each has slots of its own, so that no process maps all of them.
        per_worker: slots of each.
        num_bytes: of a slot.

    Attributes:
        memory: uint8 (num_bytes,) for each slot.
    """

    def __init__(self, *, workers: int, per_worker: int, num_bytes: int) -> None:
        self.memory = tuple(new_memory(num_bytes, shared=True) for _ in range(workers * per_worker))
        self._free = [
            deque(range(worker * per_worker, (worker + 1) * per_worker))
            for worker in range(workers)
        ]
        self._per_worker = per_worker

    def take(self, turn: int) -> int | None:
        """A free slot for the batch number `turn`, which goes to the next process in turn.

        None if there is none.
        """
        free = self._free[turn % len(self._free)]
        return free.popleft() if free else None

    def give_back(self, slot: int) -> None:
        """Nobody needs what is in it any more."""
        self._free[slot // self._per_worker].append(slot)

    def lend(self, slot: int) -> Tensor:
        """The memory of a slot, which is given back when no tensor that shares it is left."""
        memory = self.memory[slot].numpy()
        weakref.finalize(memory, self.give_back, slot).atexit = False
        return torch.from_numpy(memory)
