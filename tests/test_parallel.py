"""Independent tasks in processes: their results, their exceptions, and what a death leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hqdata.errors import InterruptedBuildError, UserError
from hqdata.parallel import run_tasks
from hqdata.progress import Silent

OUT = Path("somewhere")


def square(task: int, *, tick: Callable[[int], None], should_stop: Callable[[], bool]) -> int:
    tick(1)
    return task * task


def fail_on_three(
    task: int, *, tick: Callable[[int], None], should_stop: Callable[[], bool]
) -> int:
    if task == 3:
        raise UserError("three is not allowed", where="here", do="use four")
    while not should_stop():
        time.sleep(0.01)
    return task


def give_back_a_function(
    task: int, *, tick: Callable[[int], None], should_stop: Callable[[], bool]
) -> object:
    return lambda: task


def die_on_three(task: int, *, tick: Callable[[int], None], should_stop: Callable[[], bool]) -> int:
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


class Counting(Silent):
    done = 0

    def update(self, done: int) -> None:
        assert done >= self.done
        self.done = done


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("number", [0, 1, 2, 20])
def test_results_come_in_the_order_of_the_tasks(workers: int, number: int) -> None:
    counting = Counting()
    results = run_tasks(square, range(number), workers=workers, reporter=counting, out=OUT)
    assert results == [n * n for n in range(number)]
    assert counting.done == number


def test_what_a_task_raises_stops_the_others_and_is_raised_here() -> None:
    with pytest.raises(UserError) as caught:
        run_tasks(fail_on_three, [1, 3, 5, 7], workers=2, reporter=Silent(), out=OUT)
    assert (caught.value.where, caught.value.do) == ("here", "use four")
    assert "fail_on_three" in str(caught.value.__cause__)  # where in the worker it came from


def test_a_result_that_does_not_pickle_is_an_error_and_no_silence() -> None:
    with pytest.raises(RuntimeError, match="cannot be sent"):
        run_tasks(give_back_a_function, [1, 2], workers=2, reporter=Silent(), out=OUT)


def test_a_worker_that_dies_at_its_task_is_named() -> None:
    with pytest.raises(InterruptedBuildError, match="a worker process died") as caught:
        run_tasks(die_on_three, range(6), workers=2, reporter=Silent(), out=OUT)
    assert caught.value.exit_status == 1


VICTIM = """
import sys, threading, time, os, signal
sys.path[:0] = {path!r}
from pathlib import Path
from hqdata.parallel import run_tasks
from hqdata.progress import Silent
from tests.test_parallel import square

def kill_a_child():
    me, seen = str(os.getpid()), 0
    while True:
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                stat = Path(f"/proc/{{entry}}/stat").read_text().rsplit(")", 1)[1].split()
                line = Path(f"/proc/{{entry}}/cmdline").read_bytes()
            except OSError:
                continue
            if stat[1] == me and b"spawn_main" in line:
                time.sleep({delay})
                os.kill(int(entry), signal.SIGKILL)
                return

if __name__ == "__main__":
    threading.Thread(target=kill_a_child, daemon=True).start()
    try:
        run_tasks(square, range(100_000), workers=4, reporter=Silent(), out=Path("x"))
    except Exception as error:
        print(type(error).__name__)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("delay", [0.0, 0.01, 0.05, 0.1, 0.2])
def test_a_worker_killed_while_others_are_started_leaves_no_traceback_and_no_process(
    tmp_path: Path, delay: float
) -> None:
    script = tmp_path / "victim.py"
    script.write_text(VICTIM.format(delay=delay, path=[p for p in sys.path if p]))
    run = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "InterruptedBuildError\n", "")
