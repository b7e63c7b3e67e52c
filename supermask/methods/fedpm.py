"""Clients learn probabilities; a server averages one sampled mask from each client.

Isik, Pase, Gunduz, Weissman, Zorzi: Sparse Random Networks for Communication-Efficient Federated Learning.
ICLR 2023, arXiv 2209.15328.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from supermask import masks
from supermask.errors import UsageError, require
from supermask.types import Array, Clock, InitContext, Method, Recipe, Tree

_LEAST = 0.01  # probabilities, or votes, are clipped to [_LEAST, 1 - _LEAST]


@dataclass(frozen=True)
class Fedpm(Method):
    """Keeps each weight with probability sigmoid(score), drawn in every step.

    One client is plain training. Several clients have equal, separate parts of the training images and take turns. In a
    round of `local_epochs` epochs, every client starts from the server's probabilities, passes `local_epochs` times
    over its part, and sends a sample of its mask. The server's next probability is the mode of Beta(1 + ones,
    1 + zeros), that is the share of masks that kept the weight.

    Published networks have biases, drawn and masked like weights. The networks here have none. `--maskable bias` does
    the same to those of your own, but their size is e / sqrt(number of biases), not e / sqrt(fan-in of the layer).

    No density is enforced and `density` has no meaning here: scores start from a normal distribution, so half of the
    weights are kept at first.

    Attributes:
        clients: number of clients; all take part in every round.
        local_epochs: passes of each client over its part in one round; `epochs` should be a multiple of it.
        backward: with p = sigmoid(s), `published` is dL/ds = G * W * p^2 * (1 - p), as in the authors' code, where the
            gradient is multiplied by p on its way back; `identity` is G * W * p * (1 - p), straight-through.
        rounds: `published` keeps each client's moments through all rounds, and a vote counts as 0.01 or 0.99; with
            `fresh` moments start anew in each round, and the mean of the votes is clipped to [0.01, 0.99].
    """

    clients: int = 1
    local_epochs: int = 3
    backward: str = "published"
    rounds: str = "published"

    added: ClassVar[Mapping[str, Any]] = {"backward": "identity", "rounds": "fresh"}
    paper: ClassVar[str] = "Isik et al. 2023, arXiv 2209.15328"
    recipe: ClassVar[Recipe] = Recipe(optimizer="adam", weight_decay=0.0, schedule="constant", init="signed-constant-e")

    def __post_init__(self) -> None:
        if self.clients < 1 or self.local_epochs < 1:
            raise UsageError("clients and local_epochs must be 1 or more")
        require("backward of fedpm", self.backward, ("published", "identity"))
        require("rounds of fedpm", self.rounds, ("published", "fresh"))

    def init(self, key: Array, weights: Tree, context: InitContext) -> Tree:
        return masks.normal_scores(key, weights, lambda fan_in, fan_out: 1.0)

    def init_state(self, scores: Tree, weights: Tree) -> dict[str, Tree]:
        """{} for one client; else the server's scores and how many clients kept each weight in this round so far."""
        if self.clients == 1:
            return {}
        return {"server": dict(scores), "votes": {name: jnp.zeros_like(s) for name, s in scores.items()}}

    def mask(self, scores: Tree, weights: Tree, *, key: Array, progress: Array) -> Tree:
        soft = {name: jax.nn.sigmoid(scores[name]) for name in weights}
        if self.backward == "identity":
            return masks.sampled(key, soft)
        drawn = masks.bernoulli(key, soft)
        return {name: masks.straight_through(drawn[name], p * p / 2) for name, p in soft.items()}  # its slope: p dp

    def harden(self, scores: Tree, weights: Tree, state: Any = None) -> Tree:
        """The probabilities; with several clients, the server's after the last complete round."""
        return masks.probabilities(state["server"] if state else scores)

    def after_update(
        self, scores: Tree, state: Any, before: Tree, weights: Tree, *, key: Array, clock: Clock
    ) -> tuple[Tree, Any]:
        if self.clients == 1:
            return scores, state

        def send() -> tuple[Tree, Any]:
            sample = masks.bernoulli(key, {name: jax.nn.sigmoid(s) for name, s in scores.items()})
            server, votes = {}, {}
            for name, kept in sample.items():
                vote = kept.astype(jnp.float32)
                if self.rounds == "published":
                    vote = jnp.clip(vote, _LEAST, 1 - _LEAST)
                cast = state["votes"][name] + vote
                mode = jnp.clip(cast / self.clients, _LEAST, 1 - _LEAST)
                server[name] = jnp.where(
                    self._ends_round(clock), jnp.log(mode) - jnp.log1p(-mode), state["server"][name]
                )
                votes[name] = jnp.where(self._ends_round(clock), 0, cast)
            return server, {"server": server, "votes": votes}

        return lax.cond(self._ends_turn(clock), send, lambda: (scores, state))

    def resets_optimizer(self, clock: Clock) -> Array | bool:
        """After a client's last step of a round, if the next one starts anew."""
        return False if self.clients == 1 or self.rounds == "published" else self._ends_turn(clock)

    def turns(self, steps_per_epoch: int) -> tuple[int, int]:
        """One optimiser for each client, unless all start anew in each round."""
        return (1, 1) if self.rounds == "fresh" else (self.clients, self._turn(steps_per_epoch))

    def _turn(self, steps_per_epoch: int) -> int:
        """The number of steps of a client in a round."""
        return self.local_epochs * steps_per_epoch // self.clients

    def _ends_turn(self, clock: Clock) -> Array:
        return (clock.step + 1) % self._turn(clock.steps_per_epoch) == 0

    def _ends_round(self, clock: Clock) -> Array:
        return clock.ends_epoch(self.local_epochs)

    def steps_per_epoch(self, count: int, size: int) -> int:
        steps = count // self.clients // size
        if not steps:
            raise UsageError(f"{count} examples are less than a batch of {size} for each of {self.clients} clients")
        return self.clients * steps

    def order(self, key: Array, epoch: Array, count: int, size: int) -> Array | None:
        """The clients' passes over their parts; all passes of one client in a round follow each other."""
        if self.clients == 1:
            return None
        part = count // self.clients
        steps = self.steps_per_epoch(count, size) // self.clients

        deal, passes = jax.random.split(key)
        dealt = jax.random.permutation(deal, count)  # the same in every epoch

        def one_pass(turn: Array) -> Array:
            client = turn // self.local_epochs % self.clients
            images = jax.random.permutation(jax.random.fold_in(passes, turn), part)[: steps * size]
            return dealt[client * part + images]

        first = (epoch - 1) * self.clients
        return jax.vmap(one_pass)(first + jnp.arange(self.clients)).reshape(-1)
