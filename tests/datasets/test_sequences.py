"""Generated sequences: what they ask for, against a reading of each by hand; splits that share nothing; floors."""

import numpy as np
import pytest

from supermask import registry
from supermask.config.inputs import inputs_of
from supermask.data.source import of_dataset
from supermask.errors import UsageError

SMALL = {
    "modadd": "7",
    "recall": "3",
    "addition": "3",
    "dyck": "12",
    "parity": "12,3",
    "induction": "5",
}
every = pytest.mark.parametrize("name", sorted(SMALL))


def load(name, argument=None):
    return registry.load("datasets", name).load(None, SMALL[name] if argument is None else argument)


def words(dataset, row):
    return [dataset.classes[token] for token in row]


def test_all_generated_datasets_are_here():
    tokens = {name for name in registry.names("datasets") if inputs_of("datasets", name) == "tokens"}
    assert tokens - {"tokens"} == set(SMALL)


@every
def test_contract(name, capsys):
    dataset = load(name)
    assert (dataset.task, dataset.mean, dataset.std) == ("next-token", (), ())
    rows = []
    for split in filter(None, (dataset.train, dataset.validation, dataset.test)):
        assert split.inputs.dtype == split.targets.dtype == np.int32
        assert split.targets.shape in ((len(split),), split.inputs.shape)
        assert split.inputs.min() >= 0
        assert max(split.inputs.max(), split.targets.max()) < len(dataset.classes)
        assert (split.targets >= 0).reshape(len(split), -1).any(axis=1).all()
        rows += map(bytes, split.inputs)
        assert dataset.floors is None or all(0 < value < 1 for value in dataset.floors(split).values())
    assert len(set(rows)) == len(rows)  # nothing twice, so nothing of the test is among the training sequences
    said = capsys.readouterr().err
    assert ("few different sequences" in said) == (name != "modadd" and len(rows) < 24_000)


@every
def test_it_is_the_same_every_time(name):
    assert of_dataset(load(name)) == of_dataset(load(name))


def test_without_an_argument_it_is_the_one_that_is_documented():
    for name, argument in (("modadd", "59"), ("recall", "8"), ("parity", "20,3")):
        one, other = load(name, ""), load(name, argument)
        np.testing.assert_array_equal(one.test.inputs, other.test.inputs)


@pytest.mark.parametrize(
    ("name", "argument", "said"),
    [
        ("modadd", "x", "modadd:x is not of the form modadd:P, such as modadd:59"),
        ("modadd", "2", "p is 2; it must be from 3 to 1000"),
        ("recall", "1", "n is 1; it must be from 2 to 64"),
        ("recall", "3,4", "not of the form recall:N"),
        ("parity", "20", "not of the form parity:N,K, such as parity:20,3"),
        ("parity", "5,6", "k is 6; it must be at most n, which is 5"),
        ("dyck", "-9", "not of the form"),
        ("induction", "1000", "n is 1000; it must be from 4 to 128"),
        ("addition", "5-5", "numbers of more digits than 5, up to 5"),
        ("addition", "5-", "not of the form addition:N-M, such as addition:5-10"),
    ],
)
def test_an_argument_that_it_cannot_be(name, argument, said):
    with pytest.raises(UsageError, match=r"^[^\n]+$") as caught:
        load(name, argument)
    assert said in str(caught.value)


def test_modular_addition():
    dataset = load("modadd")
    pairs = set()
    for split in (dataset.train, dataset.validation, dataset.test):
        for (a, b, equals), c in zip(split.inputs, split.targets, strict=True):
            assert (a + b) % 7 == c
            assert dataset.classes[equals] == "="
            pairs.add((int(a), int(b)))
    assert len(pairs) == 49
    assert len(dataset.train) == 24
    known = {tuple(map(int, row)) for row in dataset.train.inputs[:, :2]}
    share = np.mean([(int(b), int(a)) in known for a, b, _ in dataset.test.inputs])
    assert dataset.floors(dataset.test)["swapped"] == pytest.approx(share + (1 - share) / 7)


def test_recall():
    dataset = load("recall")
    right = []
    for row, targets in zip(dataset.test.inputs, dataset.test.targets, strict=True):
        text, answers = words(dataset, row), words(dataset, targets[6:])
        assert (targets[:6] == -1).all()
        keys, values, asked = text[0:6:2], text[1:6:2], text[6:]
        assert len(set(keys)) == 3
        assert {word[0] for word in keys} == {"k"}
        assert {word[0] for word in values} == {"v"}
        assert sorted(asked) == sorted(keys)
        pairs = dict(zip(keys, values, strict=True))
        assert [pairs[key] for key in asked] == answers
        right += [values.count(answer) / 3 for answer in answers]
    assert dataset.floors(dataset.test)["context"] == pytest.approx(np.mean(right))


@pytest.mark.parametrize(("argument", "train", "test"), [("3", {3}, {3}), ("2-5", {1, 2}, {3, 4, 5})])
def test_addition(argument, train, test):
    dataset = load("addition", argument)
    for split, lengths in ((dataset.train, train), (dataset.test, test)):
        seen, right, count = set(), 0, 0
        for row, targets in zip(split.inputs[:500], split.targets[:500], strict=True):
            text = "".join(words(dataset, row))
            one, _, rest = text.partition("+")
            other, _, _ = rest.partition("=")
            total = str(int(one[::-1]) + int(other[::-1])).zfill(len(one) + 1)[::-1] + "."
            start = text.index("=")
            asked = "".join(dataset.classes[t] for t in targets if t >= 0)
            assert asked == total
            assert (np.flatnonzero(targets >= 0) == start + np.arange(len(total))).all()
            assert text[start + 1 :].rstrip(".") == total[:-1][: len(text) - start - 1]
            seen.add(len(one))
            guess = [str((int(a) + int(b)) % 10) for a, b in zip(one, other, strict=True)] + ["0", "."]
            right, count = right + sum(a == b for a, b in zip(guess, total, strict=True)), count + len(total)
        assert seen == lengths
        part = type(split)(split.inputs[:500], split.targets[:500])
        assert dataset.floors(part)["carry"] == pytest.approx(right / count)


def test_parentheses():
    dataset = load("dyck")
    right, balanced = [], []
    for row, targets in zip(dataset.train.inputs, dataset.train.targets, strict=True):
        text, _, rest = "".join(words(dataset, row)).partition("?")
        assert set(rest) <= {"."}
        assert 6 <= len(text) <= 12
        [answer] = targets[targets >= 0]
        assert targets[len(text)] == answer
        left = text
        while "()" in left:
            left = left.replace("()", "")
        assert dataset.classes[answer] == ("no" if left else "yes")
        balanced.append(not left)
        right.append((text.count("(") == text.count(")")) == (not left))
    assert dataset.floors(dataset.train)["count"] == pytest.approx(np.mean(right))
    assert 0.4 < np.mean(load("dyck", "40").train.targets.max(axis=1) == 3) < 0.65
    assert any(balanced)
    assert not all(balanced)


def test_balanced_sequences_are_equally_frequent():
    from supermask.datasets.dyck import _balanced
    from supermask.weights.streams import stream

    rows = _balanced(stream("balanced"), 14_000, 4)
    found, counts = np.unique(rows, axis=0, return_counts=True)
    assert len(found) == 14  # the fourth Catalan number
    assert abs(counts - 1000).max() < 5 * np.sqrt(1000)


def test_parity():
    dataset = load("parity")
    bits, answers = dataset.train.inputs[:, :-1], dataset.train.targets
    assert {dataset.classes[token] for token in dataset.train.inputs[:, -1]} == {"="}
    from itertools import combinations

    fitting = [c for c in combinations(range(12), 3) if (bits[:, list(c)].sum(1) % 2 == answers).all()]
    assert len(fitting) == 1
    [chosen] = fitting
    tests = dataset.test
    np.testing.assert_array_equal(tests.inputs[:, list(chosen)].sum(1) % 2, tests.targets)


def test_induction():
    dataset = load("induction")
    lengths, right, count = set(), 0.0, 0
    for row, targets in zip(dataset.train.inputs, dataset.train.targets, strict=True):
        text = words(dataset, row)
        block = text[: text.index(text[0], 1)]
        n = len(block)
        assert len(set(block)) == n
        assert text == (block + block + ["."] * 10)[: len(text)]
        scored = np.flatnonzero(targets >= 0)
        assert scored.tolist() == list(range(n, 2 * n - 1))
        assert words(dataset, targets[scored]) == block[1:]
        lengths.add(n)
        right, count = right + (n - 1) / n, count + n - 1
    assert lengths == {2, 3, 4, 5}
    assert dataset.floors(dataset.train)["context"] == pytest.approx(right / count)
