"""Gives a network the convolutions and matrix products that suit the backend, however the network was written.

The network is traced, and the trace is run with each of them replaced. So it makes no difference whether a
convolution came from `nnx.Conv`, from `jax.lax` or from a library, and whether it lies in a loop, in a checkpoint or
in a function that its author compiled or gave a gradient of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
from jax.core import eval_jaxpr
from jax.extend import linear_util
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxprs_in_params, valid_jaxtype
from jax.extend.core.primitives import conv_general_dilated_p, remat_p

from supermask.nn.conv import convolution
from supermask.nn.flat import bind
from supermask.nn.products import is_along_axes, product
from supermask.types import Array, Model, Tree

Arrays = Sequence[Array]


def suited(model: Model, mode: str) -> Model:
    """The model with its convolutions computed as `convolution(mode)` does it, and its products by `products`.

    Off the CPU both are XLA's own, and the model stays as it is. So does what lies in a primitive that cannot be
    rewritten here (`shard_map`, a Pallas kernel, the forward rule of `optimize_remat=True`, a `custom_vjp` with
    `generic_batching=True`).
    """

    def apply(weights: Tree, state: Tree, inputs: Array, *, train: bool, key: Array | None) -> tuple[Array, Tree]:
        def plain(*args: Any) -> tuple[Array, Tree]:
            return model.apply(*args[:3], train=train, key=args[3])

        if jax.default_backend() != "cpu":
            return plain(weights, state, inputs, key)
        return replaced(plain, mode)(weights, state, inputs, key)

    return replace(model, apply=apply)


def replaced(f: Callable[..., Any], mode: str = "auto", *, transposable: bool = False) -> Callable[..., Any]:
    """f with the convolutions that it leads to replaced by `convolution(mode)`, and the products by `product`.

    If it is to be `transposable`, by no convolution or product that has a gradient of its own.
    """

    def g(*args: Any) -> Any:
        closed, out = jax.make_jaxpr(f, return_shape=True)(*args)
        values = _Replacement(mode, transposable).run(closed.jaxpr, closed.consts, jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(out), values)

    return g


class _Replacement:
    """Runs a Jaxpr with other convolutions and products. A Jaxpr that is called twice is rewritten once."""

    def __init__(self, mode: str, transposable: bool = False) -> None:
        self.mode, self.transposable = mode, transposable
        self._convolve = convolution("transposable" if transposable else mode)
        self._known: dict[int, tuple[ClosedJaxpr, ClosedJaxpr]] = {}

    def _is_replaced(self, eqn: JaxprEqn) -> bool:
        if eqn.primitive is conv_general_dilated_p:
            return self.mode != "xla"
        return not self.transposable and is_along_axes(eqn)

    def _concerns(self, jaxpr: Jaxpr) -> bool:
        return any(self._is_replaced(eqn) or self._concerns_inner(eqn.params) for eqn in jaxpr.eqns)

    def _concerns_inner(self, params: dict[str, Any]) -> bool:
        return any(map(self._concerns, jaxprs_in_params(params)))

    def run(self, jaxpr: Jaxpr, consts: Arrays, args: Arrays) -> list[Array]:
        if not self._concerns(jaxpr):
            return eval_jaxpr(jaxpr, consts, *args)
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
        read = lambda atom: atom.val if isinstance(atom, Literal) else values[atom]  # noqa: E731
        for eqn in jaxpr.eqns:
            with eqn.ctx.manager:
                outputs = self._apply(eqn, [read(atom) for atom in eqn.invars])
            values.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _apply(self, eqn: JaxprEqn, args: Arrays) -> Arrays:
        params = eqn.params
        if self._is_replaced(eqn):
            return [self._replacement(eqn, args)]
        if self._concerns_inner(params):
            if eqn.primitive is remat_p:  # its Jaxpr has no room for constants, which `jax.checkpoint` has
                options = {key: params[key] for key in ("prevent_cse", "policy")}
                return jax.checkpoint(lambda *args: self.run(params["jaxpr"], (), args), **options)(*args)
            params = self._rewrite_params(params)
        return bind(eqn, args, params)

    def _replacement(self, eqn: JaxprEqn, args: Arrays) -> Array:
        (left, right), params = args, eqn.params
        if eqn.primitive is conv_general_dilated_p:
            options = {key: value for key, value in params.items() if key not in ("window_strides", "padding")}
            return self._convolve(left, right, params["window_strides"], params["padding"], **options)
        options = {key: params[key] for key in ("precision", "preferred_element_type")}
        return product(left, right, params["dimension_numbers"][0], tuple(options.items()))

    def _rewrite_params(self, params: dict[str, Any]) -> dict[str, Any]:
        """The parameters of a loop, a condition or a call, with the Jaxprs in them rewritten, and the rules."""
        is_closed = lambda value: isinstance(value, ClosedJaxpr)  # noqa: E731
        rewrite = lambda value: self._rewrite(value) if is_closed(value) else value  # noqa: E731
        # JAX transposes the rule of a `custom_jvp`, and nothing with a gradient of its own can be transposed.
        transposable = _Replacement(self.mode, transposable=True)
        own = {"jvp_jaxpr_fun": transposable._rule, "fwd_jaxpr_thunk": self._rule, "bwd": self._backward}
        return {
            name: own[name](value) if name in own else jax.tree.map(rewrite, value, is_leaf=is_closed)
            for name, value in params.items()
        }

    def _rewrite(self, closed: ClosedJaxpr) -> ClosedJaxpr:
        if not self._concerns(closed.jaxpr):
            return closed
        if id(closed) not in self._known:
            run = lambda *args: self.run(closed.jaxpr, closed.consts, args)  # noqa: E731
            self._known[id(closed)] = closed, jax.make_jaxpr(run)(*closed.in_avals)
        return self._known[id(closed)][1]

    def _rule(self, rule: linear_util.WrappedFun) -> linear_util.WrappedFun:
        """The rule of a `custom_jvp`, or the forward rule of a `custom_vjp`: it returns a Jaxpr and its constants."""

        def rewritten(*zeros: Any) -> Any:
            jaxpr, consts, *rest = rule.call_wrapped(*zeros)
            new = self._rewrite(ClosedJaxpr(jaxpr, consts))
            return new.jaxpr, new.consts, *rest

        return linear_util.wrap_init(rewritten, debug_info=rule.debug_info)

    def _backward(self, rule: linear_util.WrappedFun) -> linear_util.WrappedFun:
        """The backward rule of a `custom_vjp`: it takes and returns arrays, and objects that stand for zeros."""

        def rewritten(*args: Any) -> Any:
            join, given = _split(args)
            join_out = join

            def arrays(*given: Any) -> list[Any]:
                nonlocal join_out
                # A list of gradients; in newer versions of JAX, a pair of it and of what the rule logs.
                join_out, found = _split(rule.call_wrapped(*join(given)))
                return found

            found = replaced(arrays, self.mode, transposable=self.transposable)(*given)
            return join_out(found)

        return linear_util.wrap_init(rewritten, debug_info=rule.debug_info)


def _split(tree: Any) -> tuple[Callable[[Arrays], Any], list[Array]]:
    """A function that puts arrays in the places of those of a tree, and the tree's own arrays."""
    leaves, structure = jax.tree.flatten(tree)
    places = [i for i, leaf in enumerate(leaves) if valid_jaxtype(leaf)]
    own, others = [leaves[i] for i in places], {i: leaf for i, leaf in enumerate(leaves) if i not in places}

    def join(arrays: Arrays) -> Any:
        filled = others | dict(zip(places, arrays, strict=True))
        return jax.tree.unflatten(structure, [filled[i] for i in range(len(filled))])

    return join, own
