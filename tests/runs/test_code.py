"""The fingerprint of a user's own code: what changes it, and what does not."""

import itertools
import sys
import textwrap

import pytest

from supermask.runs.code import fingerprint

NETS = '''
"""Networks of mine."""
import math
from numpy import tanh as act, zeros
from ownlayers import Dense

HIDDEN = 32
DEPTH = 2


class Net:
    """A network."""

    def __init__(self):
        # the first layer
        self.dense = Dense(HIDDEN)

    def __call__(self, x):
        return act(self.dense(x))


class Other:
    size = DEPTH


def helper():
    return zeros(3)
'''
LAYERS = """
GAIN = 2.0


class Dense:
    def __init__(self, size):
        self.gain = GAIN * size


class Unused:
    pass
"""


@pytest.fixture
def of(tmp_path, monkeypatch):
    """The fingerprint of ownnets:Net with these files, each time in a folder of its own."""
    numbers = itertools.count()

    def of(nets=NETS, layers=LAYERS, name="ownnets:Net", **more):
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        for stem, text in {"ownnets": nets, "ownlayers": layers, **more}.items():
            (folder / f"{stem}.py").write_text(textwrap.dedent(text))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "path", [str(folder), *sys.path])
            return fingerprint(name)

    return of


HARMLESS = {
    "a comment": ("# the first layer", "# the only layer, so far"),
    "no comment": ("        # the first layer\n", ""),
    "a docstring": ('"""A network."""', '"""A network of one layer."""'),
    "the docstring of the module": ('"""Networks of mine."""', ""),
    "layout": ("Dense(HIDDEN)", "Dense(\n            HIDDEN,\n        )"),
    "another class": ("class Other:\n    size = DEPTH", "class Other:\n    size = 3\n\n\nclass More:\n    pass"),
    "a constant that is not used": ("DEPTH = 2", "DEPTH = 3"),
    "an import that is not used": ("import math", "import math\nimport json"),
    "the order of definitions": ("HIDDEN = 32\nDEPTH = 2", "DEPTH = 2\nHIDDEN = 32"),
    "a script's main part": ("HIDDEN = 32", 'HIDDEN = 32\nif __name__ == "__main__":\n    print(HIDDEN)'),
}
HARMFUL = {
    "the activation": ("act(self.dense(x))", "abs(self.dense(x))"),
    "what the activation's name stands for": ("tanh as act", "sinh as act"),
    "a constant": ("HIDDEN = 32", "HIDDEN = 33"),
    "a value that is changed later": ("DEPTH = 2", "HIDDEN += 1"),
    "a library of which all is imported": ("from numpy import tanh as act, zeros", "from numpy import *"),
    "an attribute that is set later": ("def helper", "Net.scale = 2\n\n\ndef helper"),
    "what runs when the module is imported": ("DEPTH = 2", "print(1)"),
    "a base": ("class Net:", "class Net(Other):"),
    "a decorator": ("class Net:", "@helper\nclass Net:"),
    "an import inside": ("return act(", "from numpy import cosh as act\n        return act("),
}


def changed(text, pair):
    assert pair[0] in text
    return text.replace(*pair)


@pytest.mark.parametrize("what", HARMLESS)
def test_what_means_the_same_has_the_same_fingerprint(of, what):
    assert of() == of(changed(NETS, HARMLESS[what]))


@pytest.mark.parametrize("what", HARMFUL)
def test_what_means_something_else_has_another(of, what):
    assert of() != of(changed(NETS, HARMFUL[what]))


def test_modules_that_it_imports_count_as_far_as_they_are_used(of):
    assert of() == of(layers=changed(LAYERS, ("pass", "size = 3")))
    assert of() != of(layers=changed(LAYERS, ("2.0", "2.5")))


@pytest.mark.parametrize(
    ("line", "use"),
    [
        ("import ownlayers", "ownlayers.Dense"),
        ("import ownlayers as mine", "mine.Dense"),
        ("from ownlayers import *", "Dense"),
        ("from ownhop import Dense", "Dense"),
    ],
)
def test_modules_count_however_they_are_imported(of, line, use):
    nets = f"{line}\n\n\nclass Net:\n    make = {use}\n"
    hop = "from ownlayers import Dense\n"
    one, other = (of(nets, text, ownhop=hop) for text in (LAYERS, changed(LAYERS, ("2.0", "2.5"))))
    assert one != other


def test_relative_imports_in_a_package_are_followed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for number, gain in enumerate((1, 1, 2)):
        package = tmp_path / f"ownpackage{number}"
        (package / "parts").mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "parts" / "__init__.py").write_text("from ..gains import GAIN\n")
        (package / "gains.py").write_text(f"GAIN = {gain}\n")
        (package / "nets.py").write_text("from .parts import GAIN\nfrom . import parts\nNet = [GAIN, parts]\n")
        found.append(fingerprint(f"{package.name}.nets:Net"))
    assert found[0] == found[1] != found[2]


def test_modules_that_import_each_other_come_to_an_end(of):
    nets = "from ownlayers import Dense\n\n\nclass Net:\n    make = Dense\n"
    assert of(nets, "import ownnets\n\n\nclass Dense:\n    net = ownnets\n")


def test_a_library_counts_by_name():
    """An upgrade of NumPy is no change of the user's code."""
    assert fingerprint("json.decoder:JSONDecoder") != fingerprint("json.encoder:JSONEncoder")
