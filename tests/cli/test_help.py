"""The --help of commands with many options: sections by topic."""

import re

import click
import pytest

from supermask.__main__ import RUNS
from supermask.cli import group
from supermask.cli._help import GROUPS

LONG = ("search", "reproduce", "bench")


def sections(name, capsys):
    """The lines under each heading of a command's --help at 80 columns, in order."""
    with pytest.raises(SystemExit) as ended:
        group.main([name, "--help"], prog_name="supermask", terminal_width=80)
    assert ended.value.code == 0
    found = {"": []}
    for line in capsys.readouterr().out.splitlines():
        assert len(line) <= 80
        if heading := re.fullmatch(r"([A-Z]\w+):", line):
            assert heading[1] not in found
            found[heading[1]] = []
        else:
            found[list(found)[-1]].append(line)
    return found


def terms(lines):
    """The long names of the options that are explained."""
    starts = [line for line in lines if re.match(r"  -", line)]
    return [re.search(r"--[a-z-]+", line)[0] for line in starts]


@pytest.mark.parametrize("name", LONG)
def test_each_option_stands_once_under_a_heading(name, capsys):
    found = sections(name, capsys)
    headings = [word.capitalize() for word in GROUPS]
    assert [word for word in found if word] == [word for word in headings if word in found]
    assert terms(found.pop("")) == []
    command = group.get_command(click.Context(group), name)
    options = [item for item in command.params if isinstance(item, click.Option)]
    assert sorted(name for lines in found.values() for name in terms(lines)) == sorted(
        [next(word for word in item.opts if word.startswith("--")) for item in options] + ["--help"]
    )


def test_search_has_every_heading_and_options_are_where_they_are_looked_for(capsys):
    found = sections("search", capsys)
    assert [*found] == ["", *(word.capitalize() for word in GROUPS)]
    where = {option: heading for heading, lines in found.items() for option in terms(lines)}
    assert where["--arch"] == where["--width"] == "Network"
    assert where["--dataset"] == where["--data-dir"] == "Data"
    assert where["--density"] == where["--sparsity"] == where["--option"] == where["--clients"] == "Method"
    assert where["--epochs"] == where["--learning-rate"] == "Training"
    assert where["--device"] == where["--precision"] == "Machine"
    assert where["--seed"] == where["--out"] == where["--json"] == where["--help"] == "Run"


def test_short_names_and_metavars_stay(capsys):
    text = "\n".join(line for lines in sections("search", capsys).values() for line in lines)
    for term in (
        "-o, --option KEY=VALUE",
        "--learning-rate, --lr FLOAT",
        "--optimizer [sgd|nesterov|adam|adamw]",
        "-h, --help",
    ):
        assert f"  {term} " in text + " " or f"  {term}\n" in text


def test_a_command_knows_its_short_help_by_itself():
    """A sweep opens the commands that it calls without the group."""
    command = group.get_command(click.Context(group), "lottery")
    with command.make_context("supermask lottery", []):
        assert command.get_help_option(click.Context(command)).opts == ["-h", "--help"]


def test_explanations_stand_in_one_column(capsys):
    found = sections("search", capsys)
    rows = [line for heading, lines in found.items() if heading for line in lines]
    beside = [re.match(r"  -.*?\S  +(?=\S)", line) for line in rows]
    assert {match.end() for match in beside if match} == {34}


def test_signals_count_from_the_start_in_every_command_that_fills_run_folders():
    context = click.Context(group)
    filling = {
        name
        for name in group.list_commands(context)
        if any(item.name == "resume" for item in group.get_command(context, name).params)
    }
    assert filling == set(RUNS) - {"reproduce", "sweep", "tune"}  # which call them
