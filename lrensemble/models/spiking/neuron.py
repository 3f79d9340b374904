"""The leaky integrate-and-fire neuron, all time steps in one autograd function with its backward pass by hand.

u_t = d u_(t-1) (1 - s_(t-1)) + I_t and s_t = [u_t > threshold]: decay d, reset to 0. The gradient goes through the
reset too: with h_t the surrogate of ds_t/du_t,

    g_t = h_t (dL/ds_t - d u_t g_(t+1)) + d (1 - s_t) g_(t+1),    dL/dI_t = g_t.

States begin at 0 in every call. They are neither buffers nor parameters, so nothing is left of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lrensemble.errors import UserError, did_you_mean


def _rectangle(distance: Tensor, threshold: float) -> Tensor:
    """1 where u is nearer to the threshold than 0 is (CarSNN; Wu et al. 2018, equation 24 without its scale)."""
    return distance.abs_().lt_(threshold)


def _triangle(distance: Tensor, threshold: float) -> Tensor:
    """From 1 at the threshold straight down to 0 at 0 and at twice the threshold (Esser et al. 2016)."""
    return distance.abs_().div_(-threshold).add_(1).clamp_min_(0)


def _atan(distance: Tensor, threshold: float) -> Tensor:
    """Derivative of an arc tangent, alpha = 2 (Fang et al. 2021)."""
    return distance.mul_(math.pi).square_().add_(1).reciprocal_()


def _fast_sigmoid(distance: Tensor, threshold: float) -> Tensor:
    """Derivative of a fast sigmoid of slope 25 (SuperSpike, Zenke & Ganguli 2018)."""
    return distance.abs_().mul_(25).add_(1).square_().reciprocal_()


# The derivative at so much above the threshold, in place of it.
SURROGATES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "rectangle": _rectangle,
    "triangle": _triangle,
    "atan": _atan,
    "fast_sigmoid": _fast_sigmoid,
}


class Fire(torch.autograd.Function):
    """Spikes (T, B, ...) from currents (T, B, ...), or (1, B, ...) that are the same at all steps.

    With `halve` the mean of 2 x 2 pixels of them (floored), which are then never written as a whole: what a step needs
    stays in the processor's cache.
    """

    @staticmethod
    def forward(
        ctx: Any, current: Tensor, steps: int, halve: bool, decay: float, threshold: float, surrogate: str
    ) -> Tensor:
        shape = current.shape[1:]
        is_static, is_trained = current.shape[0] == 1, ctx.needs_input_grad[0]
        ctx.settings = halve, decay, threshold, surrogate, is_static
        potentials = current.new_empty((steps if is_trained else 1, *shape))
        result = current.new_empty((steps, *(_half(shape) if halve else shape)))
        kept, fired = current.new_empty(shape), current.new_empty(shape)
        for t in range(steps):
            u, s = potentials[t if is_trained else 0], fired if halve else result[t]
            now = current[0 if is_static else t]
            if t:
                torch.add(now, kept, alpha=decay, out=u)
            else:
                u.copy_(now)
            torch.gt(u, threshold, out=s)
            torch.addcmul(u, u, s, value=-1, out=kept)
            if halve:
                pool(s, result[t])
        if is_trained:
            ctx.save_for_backward(potentials)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        (potentials,) = ctx.saved_tensors
        halve, decay, threshold, surrogate, is_static = ctx.settings
        slope = SURROGATES[surrogate]
        result = torch.empty_like(potentials[:1] if is_static else potentials)
        shape = potentials[0].shape
        whole = potentials.new_zeros(shape)
        carried, distance, kept, *spare = (potentials.new_empty(shape) for _ in range(5))
        after = potentials.new_zeros(shape)  # g of the next step
        for t in reversed(range(len(potentials))):
            u, g = potentials[t], spare[t % 2] if is_static else result[t]
            grad = unpool(grads[0][t], whole) if halve else grads[0][t]
            torch.mul(after, decay, out=carried)
            torch.addcmul(grad, u, carried, value=-1, out=g)
            torch.sub(u, threshold, out=distance)
            torch.le(distance, 0, out=kept)
            after = g.mul_(slope(distance, threshold)).addcmul_(carried, kept)
            if is_static:
                result[0].copy_(g) if t == len(potentials) - 1 else result[0].add_(g)
        return result, None, None, None, None, None


def fire_stepwise(current: Tensor, steps: int, halve: bool, decay: float, threshold: float) -> Tensor:
    """What `Fire` computes, without gradients and without writing in place: what a graph can hold."""
    kept: Tensor | None = None
    spikes = []
    for t in range(steps):
        now = current[0 if current.shape[0] == 1 else t]
        u = now if kept is None else torch.add(now, kept, alpha=decay)
        fired = (u > threshold).to(u.dtype)
        kept = u * (1 - fired)
        spikes.append(pool(fired) if halve else fired)
    return torch.stack(spikes)


def _half(shape: torch.Size) -> tuple[int, ...]:
    return (*shape[:-2], shape[-2] // 2, shape[-1] // 2)


def pool(x: Tensor, out: Tensor | None = None) -> Tensor:
    """Means of 2 x 2 pixels, floored; rows first, so that most of it is contiguous."""
    height, width = x.shape[-2] // 2 * 2, x.shape[-1] // 2 * 2
    rows = x[..., 0:height:2, :] + x[..., 1:height:2, :]
    return torch.add(rows[..., 0:width:2], rows[..., 1:width:2], out=out).mul_(0.25)


def unpool(grad: Tensor, out: Tensor) -> Tensor:
    """The gradient of `pool`, into `out`, whose odd last row and column stay as they are."""
    height, width = out.shape[-2] // 2 * 2, out.shape[-1] // 2 * 2
    quarter = grad * 0.25
    for i in (0, 1):
        for j in (0, 1):
            out[..., i:height:2, j:width:2] = quarter
    return out


class LIF(nn.Module):
    """Leaky integrate-and-fire neurons: currents (T, B, ...) or (1, B, ...) -> spikes (steps, B, ...), 0 or 1.

    Parameters
    ----------
    decay : share of the potential that is left after a step, 0 to below 1
    threshold : potential above which a neuron fires
    surrogate : name in `SURROGATES`
    """

    def __init__(self, decay: float = 0.2, threshold: float = 0.4, surrogate: str = "rectangle") -> None:
        super().__init__()
        if surrogate not in SURROGATES:
            raise UserError(f"unknown surrogate {surrogate!r}: {did_you_mean(surrogate, SURROGATES)}")
        if not 0 <= decay < 1:
            raise UserError(f"decay = {decay} is not possible: it must be at least 0 and below 1")
        if not threshold > 0:
            raise UserError(f"threshold = {threshold} is not possible: it must be above 0")
        self.decay, self.threshold, self.surrogate = float(decay), float(threshold), surrogate

    def forward(self, current: Tensor, steps: int | None = None, *, halve: bool = False) -> Tensor:
        """With `halve` spikes averaged over 2 x 2 pixels."""
        steps = steps or current.shape[0]
        if torch.compiler.is_exporting():
            return fire_stepwise(current, steps, halve, self.decay, self.threshold)
        fired: Tensor = Fire.apply(current, steps, halve, self.decay, self.threshold, self.surrogate)
        return fired

    def extra_repr(self) -> str:
        return f"decay={self.decay}, threshold={self.threshold}, surrogate={self.surrogate}"
