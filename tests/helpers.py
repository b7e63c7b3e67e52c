"""What several tests share: run folders as a run fills them, problems, and callbacks made of functions."""

from contextlib import contextmanager
from dataclasses import dataclass, field

from supermask.runs.folder import claimed


@contextmanager
def open_run(path, config, *, made_of=None, force=False):
    """Claimed and begun."""
    with claimed(path) as folder:
        folder.begin(config, made_of, force=force)
        yield folder


def problem_of(config=None, data_dir=None, **fields):
    """The problem of a config, or of a SearchConfig of these fields, on this machine."""
    import supermask
    from supermask.engine.problem import load_problem, on_this_machine
    from supermask.resolve import resolve

    return load_problem(on_this_machine(resolve(config or supermask.SearchConfig(**fields))), data_dir)


def watch(*, epoch=None, steps=None, stop=None, due=None, save=None, note=None):
    """A callback of the functions that are given."""
    from supermask import Callback

    found = Callback()
    for name, function in (
        ("on_epoch", epoch),
        ("on_steps", steps),
        ("should_stop", stop),
        ("should_save", due),
        ("on_save", save),
        ("on_note", note),
    ):
        if function is not None:
            setattr(found, name, function)
    return found


@dataclass
class Going:
    """Phases without a folder that go on from a snapshot; the seeds before its own are left out."""

    callbacks: tuple = ()
    resume: object = None
    names: list = field(default_factory=list)

    def is_done(self, name):
        return self.resume is not None and int(name.split()[1]) < self.resume.first

    def phase(self, name, trainer, state, frozen, until):
        self.names.append(name)
        if self.resume is not None and name == f"seed {self.resume.first}":
            trainer.restore(state, self.resume)
        return trainer.fit(state, frozen, until, self.callbacks)


def found_groups(problem, *callbacks, resume=None):
    """The groups of seeds of a search with their tickets, on from a snapshot if there is one."""
    from supermask.experiments.search import groups

    return groups(problem, Going(callbacks, resume))


def tickets_of(problem, *callbacks, resume=None):
    """Seed -> bytes of its ticket."""
    found = [ticket for group in found_groups(problem, *callbacks, resume=resume) for ticket in group.tickets]
    return {ticket.config.seed: ticket.to_bytes() for ticket in found}


def add_ticket(folder, ticket):
    """As a search writes it; the path is the one that it has once the run is closed."""
    return folder.add_file(f"ticket-s{ticket.config.seed}.safetensors", ticket.to_bytes())
