"""What a search says while it runs, on a real pseudo-terminal and elsewhere."""

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

import pytest

from supermask.cli._line import CONCESSIONS, GAP, fit, forms

pytestmark = pytest.mark.usefixtures("compiled_quickly")

SEARCH = ("-m", "supermask", "search", "--arch", "lenet300", "--epochs", "3", "--runs-dir")
VALUES = {
    **{"seed": "0-15", "epoch": 7, "epochs": 1000, "loss": 12.3456},
    **{"val_accuracy": 0.98765, "density": 0.5, "images_per_second": 123456.7},
}
LEFT = r"(?:\d+:\d\d:\d\d|-:--:--)"
FRAME = rf"(?:seed \d-\d  )?[━─]{{10,}}  .*{LEFT} *"
BAR = """
import sys
import numpy as np
from supermask.cli._progress import reporter
from supermask import Metrics, SearchConfig

columns = {name: np.full(2, 0.12345) for name in ("loss", "train_accuracy", "val_accuracy", "density")}
progress = reporter(False)
progress.on_begin(None, SearchConfig(epochs=1000))
progress.on_note("note: [bold] and :key: stay as they are")
for seeds in ((3, 4), (5, 6)):
    for epoch in (1, 500):
        progress.on_steps(seeds, epoch, 1000, 123.4567)
        rate = np.full(2, 123456.7)
        progress.on_epoch(Metrics(epoch=epoch, seeds=seeds, images_per_second=rate, **columns))
sys.stdin.readline()
progress.on_end()
"""


class Terminal:
    """A process whose stderr is a terminal; stdin and stdout are pipes."""

    def __init__(self, columns, *words, **environment):
        self.side, other = pty.openpty()
        self.resize(columns)
        env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": other}
        env |= {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **environment}
        self.process = subprocess.Popen([sys.executable, *words], env=env, text=True, **pipes)
        os.close(other)
        self.decoder, self.raw = codecs.getincrementaldecoder("utf-8")(), ""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        os.close(self.side)

    def resize(self, columns):
        fcntl.ioctl(self.side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def more(self):
        """Whether anything came before the process closed its side."""
        assert select.select([self.side], [], [], 120)[0], self.raw
        try:
            data = os.read(self.side, 65536)
        except OSError:  # how Linux says that the other side is closed
            data = b""
        self.raw += self.decoder.decode(data)
        return bool(data)

    def until(self, pattern, start=0):
        """Wait for a whole frame of this form, and say where it ends."""
        end = time.monotonic() + 120
        while not (found := re.compile(pattern + r"(?=\r)").search(plain(self.raw), start)):
            assert self.more(), self.raw
            assert time.monotonic() < end, self.raw
        return found.end()

    def finish(self):
        """All that was written, without colours and movements of the cursor, as lines."""
        self.process.stdin.close()
        while self.more():
            pass
        assert self.process.wait(timeout=120) == 0, self.raw
        return [line for line in re.split(r"[\r\n]+", plain(self.raw)) if line.strip()]


def plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.mark.parametrize(
    ("columns", "last"),
    [
        (40, r"[━─]{10,}  500/1000  val 0\.12  LEFT"),
        (80, r"seed 5-6  [━─]{10,}  500/1000  loss 0\.1235  val 0\.1235  123k img/s  LEFT"),
        (
            120,
            r"seed 5-6  [━─]{10,}  epoch 500/1000  loss 0\.1235  val 0\.1235  density 0\.123  123,457 images/s  LEFT",
        ),
    ],
)
def test_the_bar_fits(columns, last):
    with Terminal(columns, "-c", BAR) as terminal:
        lines = terminal.finish()
    assert all(len(line) <= columns for line in lines)
    note, *frames = lines
    assert note.rstrip() == "note: [bold] and :key: stay as they are"[:columns]
    assert all(re.fullmatch(FRAME, line) for line in frames)
    assert re.fullmatch(last.replace("LEFT", LEFT), frames[-1].rstrip())


def test_the_bar_follows_the_terminal_when_it_is_resized():
    with Terminal(120, "-c", BAR) as terminal:
        end = terminal.until(r"seed 5-6  [━─]+  epoch 500/1000 .*images/s " + f" {LEFT} *")
        for columns, shown in ((40, r"[━─]+  500/1000  val 0\.12"), (80, r"seed 5-6  [━─]+  500/1000  loss .*img/s")):
            terminal.resize(columns)
            end = terminal.until(rf"\r{shown}  {LEFT} *", end)
        terminal.finish()
    later = [line for line in re.split(r"[\r\n]+", plain(terminal.raw)[end:]) if line]
    assert later
    assert all(len(line) <= 80 for line in later)


def test_the_bar_of_earlier_seeds_stays_above():
    with Terminal(80, "-c", BAR) as terminal:
        terminal.finish()
    *_, above, below, end = plain(terminal.raw).split("\n")
    assert (above.strip("\r")[:8], below.strip("\r").split("\r")[-1][:8], end) == ("seed 3-4", "seed 5-6", "")


@pytest.mark.parametrize("name", ["NO_COLOR", None])
def test_no_color_is_obeyed(name):
    with Terminal(80, "-c", BAR, **({name: "1"} if name else {})) as terminal:
        terminal.finish()
    assert bool(re.search(r"\x1b\[[0-9;]*(?:3[0-7]|38;|9[0-7])", terminal.raw)) == (name is None)
    assert re.search(FRAME, plain(terminal.raw))


def test_a_terminal_without_line_drawing_gets_ascii():
    with Terminal(80, "-c", BAR, PYTHONIOENCODING="ascii") as terminal:
        lines = terminal.finish()
    assert re.fullmatch(rf"seed 5-6  =+-+  500/1000  loss .*{LEFT} *", lines[-1])


def test_columns_that_say_nothing_leave_the_width_to_the_terminal():
    with Terminal(80, "-c", BAR, COLUMNS="0") as terminal:
        lines = terminal.finish()
    assert re.fullmatch(rf"seed 5-6  .*  500/1000  loss .*{LEFT} *", lines[-1])


@pytest.mark.parametrize("name", ["dumb", ""])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(name):
    with Terminal(80, "-c", BAR, TERM=name) as terminal:
        lines = terminal.finish()
    assert "\x1b" not in terminal.raw
    assert lines[1] == "seed 3  epoch 1/1000  loss 0.1235  val 0.1235  density 0.123  123,457 images/s"
    assert len(lines) == 1 + 8


def test_search_on_a_terminal(tmp_path):
    with Terminal(80, *SEARCH, str(tmp_path)) as terminal:
        lines = terminal.finish()
        assert "ticket-s0" in terminal.process.stdout.read()
    assert all(len(line) <= 80 for line in lines)
    last = [line for line in lines if "/3  " in line][-1]
    assert re.fullmatch(r"seed 0  ━{10,}  (epoch )?3/3  loss \d\.\d{4}  val 0\.\d{4}  \S+ img/s  0:00:00 *", last)


@pytest.mark.slow
def test_quiet_on_a_terminal(tmp_path):
    with Terminal(80, *SEARCH, str(tmp_path), "-q") as terminal:
        assert terminal.finish() == []
        assert "ticket-s0" in terminal.process.stdout.read()


def test_numbers_give_way_in_the_stated_order():
    given = {name: len(texts) - 1 for name, texts in forms(VALUES).items()}
    assert {name: CONCESSIONS.count(name) for name in given} == given
    left, shown = forms(VALUES), [fit(VALUES, 1000)]
    for name in CONCESSIONS:
        left[name] = left[name][1:]
        shown.append([texts[0] for texts in left.values() if texts[0]])
    assert shown[0] == [
        *("seed 0-15", "epoch 7/1000", "loss 12.3456", "val 0.9877", "density 0.500", "123,457 images/s")
    ]
    assert shown[-2:] == [["val 0.99"], []]
    widths = [len(GAP.join(texts)) for texts in shown]
    assert widths == sorted(set(widths), reverse=True)
    for columns in range(1, 120):
        best = next(texts for texts, width in zip(shown, widths, strict=True) if width <= columns)
        assert fit(VALUES, columns) == best
    assert fit(VALUES, -5) == []


def test_a_training_of_another_length_counts_its_own_epochs(tmp_path):
    from supermask import SearchConfig
    from supermask.cli._progress import Bar

    bar = Bar()
    bar.on_begin(tmp_path, SearchConfig(epochs=2))
    bar.on_steps((0,), 1, 20, 1.0)
    bar.on_steps((0,), 30, 60, 1.0)
    bar.on_end()
    [task] = bar._progress.tasks
    assert task.total == 60
    assert forms(task.fields)["epoch"][0] == "epoch 3/6"
