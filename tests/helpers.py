"""What several tests share: run folders as a run fills them, problems, and callbacks made of functions."""

from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

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


def built(name, image_shape=(32, 32, 3), classes=10, width=1.0, **options):
    """The Model of a built-in arch; no weight of it is computed."""
    import jax

    import supermask
    from supermask.archs._build import build_model, check_outputs
    from supermask.resolve import make_arch

    arch, rest = make_arch(supermask.SearchConfig(arch=name, width=width, arch_options=options))
    example = jax.ShapeDtypeStruct((2, *image_shape), "float32")
    found = build_model(arch, rest, example, classes)
    check_outputs(found, name, example, (2, classes))
    return found


def random_ticket(name, image_shape, classes=10, width=1.0, **options):
    """(ticket with a random mask and random running statistics, Model) of a built-in arch."""
    import supermask
    from supermask.resolve import resolve
    from supermask.weights.inits import of_config
    from supermask.weights.shapes import fingerprint

    model, rng = built(name, image_shape, classes, width, **options), np.random.default_rng(0)
    own, state = model.initial(0, [key for key, found in model.parameters.items() if not found.drawn])
    config = resolve(supermask.SearchConfig(arch=name, width=width, arch_options=options))
    own = {key: np.asarray(array) for key, array in own.items()}
    masked = {key: found.shape for key, found in model.parameters.items() if found.masked}
    running = {"mean": (-0.3, 0.3), "var": (0.2, 0.8)}
    ticket = supermask.Ticket(
        config=config,
        shapes=model.weights,
        image_shape=image_shape,
        mask={key: rng.random(shape) < 0.5 for key, shape in masked.items()},
        state={key: np.float32(rng.uniform(*running[key.split("/")[-1]], array.shape)) for key, array in state.items()},
        fingerprint=fingerprint(of_config(config, 0, model.parameters, own)),
        metrics={},
        parameters=model.parameters,
        own=own,
    )
    return ticket, model


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
