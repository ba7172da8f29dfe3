"""SAM's attention blocks computed with fused kernels: same parameters, same names, same results.

SAM adds to each attention score a bias for the distance in rows and one for that in columns, each
a product of the query with a row of a table. Written out, the scores of a block with global
attention take gigabytes. But such a sum of products is itself a product of longer vectors,

    query · key · scale + rows[i] + columns[j] = [query · scale, rows, columns] · [key, one-hot i,
    one-hot j],

so a kernel that never writes the scores can compute it. Windows that reach beyond the picture are
filled up with tokens that are zero; their query, key and value is the bias of the projection, so
nothing needs to be computed for them.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Block
from torch import Tensor, nn

ALIGNMENT = 8
"""Length of vectors, in values, of which fused kernels want a multiple."""


def fuse_attention(encoder: ImageEncoderViT) -> None:
    """Replaces the blocks of an encoder in place, keeping their parameters."""
    side = encoder.img_size // encoder.patch_embed.proj.kernel_size[0]
    for index, block in enumerate(encoder.blocks):
        encoder.blocks[index] = FusedBlock(block, side)


class FusedAttention(nn.Module):
    """The parameters of an attention, and the constants by which its bias is looked up.

    Args:
        plain: SAM's attention, with relative positions.
        side: tokens on a side of what is attended to.
    """

    def __init__(self, plain: nn.Module, side: int) -> None:
        super().__init__()
        self.num_heads = cast(int, plain.num_heads)
        self.scale = cast(float, plain.scale)
        self.qkv = cast(nn.Linear, plain.qkv)
        self.proj = cast(nn.Linear, plain.proj)
        self.rel_pos_h = cast(nn.Parameter, plain.rel_pos_h)
        self.rel_pos_w = cast(nn.Parameter, plain.rel_pos_w)
        self.side = side
        head_dim = self.qkv.in_features // self.num_heads
        self.padding = -(head_dim + 2 * side) % ALIGNMENT
        places = torch.arange(side)
        # Which row of a table belongs to a pair of places. The tables are looked up anew each
        # time, which costs next to nothing, so that they follow the parameters.
        self.register_buffer("distance", places[:, None] - places + side - 1, persistent=False)
        same = torch.eye(side)
        rows, columns = same.repeat_interleave(side, 0), same.repeat(side, 1)
        one_hot = torch.cat([rows, columns, torch.zeros(side * side, self.padding)], dim=1)
        self.register_buffer("one_hot", one_hot, persistent=False)

    distance: Tensor
    one_hot: Tensor

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention within each of n squares of tokens; all (n, heads, side², head_dim)."""
        number, heads, num_tokens, head_dim = query.shape
        grid = query.reshape(number, heads, self.side, self.side, head_dim)
        rows = torch.einsum("bnhwc,hkc->bnhwk", grid, self.rel_pos_h[self.distance])
        columns = torch.einsum("bnhwc,wkc->bnhwk", grid, self.rel_pos_w[self.distance])
        biases = [rows.flatten(2, 3), columns.flatten(2, 3)]
        if self.padding:
            biases.append(query.new_zeros((number, heads, num_tokens, self.padding)))
        one_hot = self.one_hot.to(key.dtype).expand(number, heads, -1, -1)
        longer = torch.cat([query * self.scale, *biases], dim=-1)
        # The fastest kernels, on CPUs and GPUs alike, want values as long as keys.
        values = F.pad(value, (0, longer.shape[-1] - head_dim))
        out = F.scaled_dot_product_attention(
            longer, torch.cat([key, one_hot], dim=-1), values, scale=1.0
        )
        return out[..., :head_dim]


class FusedBlock(nn.Module):
    """One of SAM's blocks.

    Args:
        plain: it.
        side: tokens on a side of the picture.
    """

    def __init__(self, plain: Block, side: int) -> None:
        super().__init__()
        # A picture as large as one window is one window, whatever the block's kind.
        self.window_size = plain.window_size or side
        self.norm1, self.norm2, self.mlp = plain.norm1, plain.norm2, plain.mlp
        self.attn = FusedAttention(plain.attn, self.window_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """(b, h, w, c) to the same shape."""
        tokens = tokens + self._attend(self.norm1(tokens))
        return cast(Tensor, tokens + self.mlp(self.norm2(tokens)))

    def _attend(self, tokens: Tensor) -> Tensor:
        batch, height, width, _ = tokens.shape
        window, heads = self.window_size, self.attn.num_heads
        qkv = self._filled_up(self.attn.qkv(tokens))
        down, across = qkv.shape[1] // window, qkv.shape[2] // window
        qkv = qkv.view(batch, down, window, across, window, 3, heads, -1)
        qkv = qkv.permute(5, 0, 1, 3, 6, 2, 4, 7).flatten(1, 3).flatten(3, 4)
        query, key, value = qkv.unbind(0)
        out = self.attn(query, key, value)
        out = out.reshape(batch, down, across, heads, window, window, -1)
        out = out.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(1, 2).flatten(2, 3)
        return cast(Tensor, self.attn.proj(out[:, :height, :width]))

    def _filled_up(self, qkv: Tensor) -> Tensor:
        """(b, h, w, 3c) with h and w raised to a multiple of the window's side."""
        batch, height, width, channels = qkv.shape
        below, right = -height % self.window_size, -width % self.window_size
        if not (below or right):
            return qkv
        bias = self.attn.qkv.bias.to(qkv.dtype)
        filled = bias.expand(batch, height + below, width + right, channels).clone()
        filled[:, :height, :width] = qkv
        return filled
