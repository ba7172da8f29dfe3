"""The optimizer of a pretraining: Muon for the matrices of the layers, AdamW for all the rest.

Trained from nothing in a few thousand steps, a transformer learns much faster with Muon, which
makes each matrix' step orthogonal (Jordan et al., "Muon: An optimizer for hidden layers in neural
networks", 2024), than with AdamW alone. Embeddings, tokens, convolutions and vectors stay AdamW's,
as its authors advise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from hqdata.errors import UserError
from training.distributed import Ranks
from training.pretraining.recipe import PretrainRecipe

_LEAST_SIDE = 32
"""Matrices with fewer rows or columns are heads rather than layers."""

_NO_LAYERS = ("embed", "token", "rel_pos")
"""Parts of the names of tables, which are no matrices that anything is multiplied by."""


def is_layer(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is the matrix of a hidden layer."""
    return (
        parameter.ndim == 2
        and min(parameter.shape) >= _LEAST_SIDE
        and not any(part in name for part in _NO_LAYERS)
    )


def check_torch() -> None:
    """Whether this PyTorch has what a pretraining needs.

    Raises:
        UserError: it is older than 2.9, which has no Muon.
    """
    if not hasattr(torch.optim, "Muon"):
        raise UserError(
            f"a pretraining needs Muon, which PyTorch {torch.__version__} does not have",
            expected="PyTorch 2.9 or newer",
        )


class LayerOptimizer:
    """Both optimizers as one.

    Making a step orthogonal costs as much as a few pictures do, so each process of a run does it
    for its own part of the matrices, and all of them get the outcome.

    Args:
        named: all parameters by name; it owns them from now on.
        recipe: learning rates, weight decay and betas.
        ranks: the processes of the run; all of them make the same calls.
    """

    def __init__(
        self,
        named: Mapping[str, nn.Parameter],
        recipe: PretrainRecipe,
        ranks: Ranks | None = None,
    ) -> None:
        self._named = dict(named)
        self._ranks = ranks or Ranks()
        self._layers = [p for name, p in named.items() if is_layer(name, p)]
        others = [p for name, p in named.items() if not is_layer(name, p)]
        self._muon = torch.optim.Muon(
            [p for p, own in zip(self._layers, self._own(), strict=True) if own],
            lr=recipe.layer_lr,
            weight_decay=recipe.weight_decay,
            adjust_lr_fn="original",
        )
        self._adam = torch.optim.AdamW(
            others, lr=recipe.lr, betas=(0.9, recipe.beta2), weight_decay=0.0
        )
        self._recipe = recipe

    def step(self, number: int) -> None:
        """A step with the gradients that there are, at the learning rates of that step."""
        share = self._recipe.lr_share(number)
        for optimizer, lr in ((self._muon, self._recipe.layer_lr), (self._adam, self._recipe.lr)):
            for group in optimizer.param_groups:
                group["lr"] = lr * share
            optimizer.step()  # type: ignore[no-untyped-call]
        self._share([p.detach() for p in self._layers])

    def _own(self) -> list[bool]:
        """Of each of the layers' matrices, whether this process steps it."""
        count, rank = self._ranks.world_size, self._ranks.rank
        return [number % count == rank for number in range(len(self._layers))]

    def _share(self, values: Sequence[Tensor]) -> None:
        """Gives all processes what each one of the layers' has become where it is owned."""
        if self._ranks.world_size == 1:
            return
        pieces = [
            (value if own else torch.zeros_like(value)).reshape(-1)
            for value, own in zip(values, self._own(), strict=True)
        ]
        flat = torch.cat(pieces)
        self._ranks.sum_(flat)  # a value and zeros: exactly the value
        parts = torch.split(flat, [value.numel() for value in values])
        for value, part in zip(values, parts, strict=True):
            value.copy_(part.view_as(value))

    def moments(self) -> dict[str, Tensor]:
        """Its state by `KIND/NAME`, for `restore`; of all processes."""
        for parameter, own in zip(self._layers, self._own(), strict=True):
            if not own or not self._muon.state[parameter]:
                self._muon.state[parameter] = {"momentum_buffer": torch.zeros_like(parameter)}
        self._share([self._muon.state[p]["momentum_buffer"] for p in self._layers])
        found = {}
        for name, state in self._states():
            for kind, value in state.items():
                found[f"{kind}/{name}"] = value.reshape(1) if value.ndim == 0 else value
        return found

    def restore(self, moments: Mapping[str, Tensor]) -> None:
        """Takes over the state of another one of the same parameters."""
        for key, value in moments.items():
            kind, name = key.split("/", 1)
            parameter = self._named[name]
            optimizer = self._muon if is_layer(name, parameter) else self._adam
            # Counts of steps are numbers, and stay where they are: on the CPU.
            kept = value.reshape(()).clone() if kind == "step" else value.to(parameter, copy=True)
            optimizer.state[parameter][kind] = kept

    def _states(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        for name, parameter in self._named.items():
            optimizer = self._muon if is_layer(name, parameter) else self._adam
            if parameter in optimizer.state:
                yield name, optimizer.state[parameter]


def norm_of(parameters: Iterable[nn.Parameter], clip: float) -> float:
    """Cuts gradients of a larger norm to `clip`; the norm that they had."""
    return float(torch.nn.utils.clip_grad_norm_(list(parameters), clip))
