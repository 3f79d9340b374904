"""Sequences of tokens of similar lengths, together: what is padded is computed too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

TOKENS = 4_096  # of one forward pass without gradients


def alike(sizes: Sequence[int], most: int = TOKENS) -> Iterator[list[int]]:
    """Numbers of rows of similar sizes, as many together as are at most `most` when each is as large as the largest."""
    piece: list[int] = []
    for i in sorted(range(len(sizes)), key=sizes.__getitem__):
        if piece and (len(piece) + 1) * sizes[i] > most:
            yield piece
            piece = []
        piece.append(i)
    if piece:
        yield piece
