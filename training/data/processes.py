"""How loader processes are started, so that nothing but their own trainer ends them."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from multiprocessing.context import BaseContext

import cv2

PRELOADED = "training.data.stream"


def loader_context() -> BaseContext:
    """The way to start loader processes: "forkserver", or "spawn" where there is none.

    A plain fork would copy a process that already has threads of PyTorch, Arrow or CUDA in it,
    whose locks may be held at that moment and then stay so for ever. The server imports the loader
    once, and its forks share that memory.

    The server is started here, and heeds no SIGTERM: launchers and batch systems send it to all
    processes of a job, and the trainer needs its loaders until it has saved.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    if threading.current_thread() is threading.main_thread():
        from multiprocessing import forkserver

        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            forkserver.ensure_running()
        finally:
            signal.signal(signal.SIGTERM, before)
    return context


def start_loader(_: int) -> None:
    """What a loader process does first."""
    cv2.setNumThreads(1)  # one process a core is the unit of parallelism here
    # The trainer decides what Ctrl-C and SIGTERM mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
