"""How many refreshes a second one gunicorn worker makes, beside a bare loop.

As many threads each way, in turns, at one practice org. The worker has clients
of its own, whose time is not counted; org and clients share the machine.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

from bench import bare
from bench.clicks import connected
from tests.fleet import Fleet

CLIENTS = 8
RECORDS_EACH = 2
SECONDS = 5.0
TURNS = 5
TICK = os.sysconf("SC_CLK_TCK")


class Turn(NamedTuple):
    """What was done in some seconds, and the CPU time of who did it."""

    refreshes: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        return self.refreshes / self.seconds

    @property
    def cpu_ms(self) -> float:
        return self.cpu / self.refreshes * 1_000


def main() -> None:
    with connected(CLIENTS * RECORDS_EACH) as (ships, records):
        (worker,) = ships.workers()
        loops, clicks = [], []
        for _ in range(TURNS):
            loops.append(turn(bare_loops(ships, records), os.getpid()))
            clicks.append(turn(clickers(ships, records), worker))
    show(loops, clicks)


def bare_loops(ships: Fleet, records: list[int]) -> list[Callable[[], None]]:
    """Make what each thread does again and again, on a connection of its own."""

    def loop(record: int) -> Callable[[], None]:
        session, (_, token) = bare.new_session(), ships.secrets(record)
        assert token
        return lambda: bare.refresh(session, ships.org, token)

    return [loop(record) for record in records[:CLIENTS]]


def clickers(ships: Fleet, records: list[int]) -> list[Callable[[], None]]:
    """Make clients that click on records which are theirs alone, in turn."""

    def clicker(own: list[int]) -> Callable[[], None]:
        browser = ships.browser()

        def click() -> None:
            own.append(own.pop(0))
            answer = browser.click(own[0], htmx=True)
            assert "Connected" in answer.text, answer.text

        return click

    return [clicker(records[at::CLIENTS]) for at in range(CLIENTS)]


def turn(loops: list[Callable[[], None]], process: int) -> Turn:
    """Let them all run for a while, and see what it took the process."""
    for once in loops:
        once()
    start = threading.Barrier(len(loops) + 1)

    def run(once: Callable[[], None]) -> int:
        start.wait()
        end, times = perf_counter() + SECONDS, 0
        while perf_counter() < end:
            once()
            times += 1
        return times

    with ThreadPoolExecutor(len(loops)) as pool:
        running = [pool.submit(run, once) for once in loops]
        cpu, begin = cpu_of(process), perf_counter()
        start.wait()
        refreshes = sum(one.result() for one in running)
    return Turn(refreshes, perf_counter() - begin, cpu_of(process) - cpu)


def cpu_of(process: int) -> float:
    """Return the seconds of CPU that a process has had."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICK


def show(loops: list[Turn], clicks: list[Turn]) -> None:
    title = f"{CLIENTS} at once"
    print(f"{title:36}{'a second':>9}{'ratio':>7}{'CPU ms each':>13}{'ratio':>7}")
    bare_rate, bare_cpu = medians(loops)
    for name, turns in (
        ("requests-oauthlib in threads", loops),
        ("clicks on one gunicorn worker", clicks),
    ):
        rate, cpu = medians(turns)
        print(
            f"{name:36}{rate:9.1f}{rate / bare_rate:7.2f}"
            f"{cpu:13.2f}{cpu / bare_cpu:7.2f}"
        )


def medians(turns: list[Turn]) -> tuple[float, float]:
    return median(one.rate for one in turns), median(one.cpu_ms for one in turns)
