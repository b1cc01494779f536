"""The numbers by which voices in a conversation are told apart."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grouping:
    """How voices are told apart, chosen on development speakers that no figure is reported on.

    Similarities are cosines of speaker embeddings.
    """

    same_voice: float = 0.36
    """Groups at least as alike as this, on average over their pieces, are one person."""
    sure_piece_s: float = 1.2
    """Pieces with at least this much speech of one voice alone make the groups; shorter ones join them."""
    voice_weight: float = 0.5
    """How much a piece is judged by the whole of the voice that the segmentation puts it in."""
    template_weight: float = 0.5
    """How much of a known person's template is in the centre that pieces are held against."""
    eager: float = 0.58
    """How much is added to the expected number of speakers of a frame before it is rounded down."""
    smallest_share: float = 0.05
    """A group with less than this share of all speech is folded into the one it is most like ..."""
    smallest_s: float = 1.0
    """... and one with less than this in any case."""
    doubt: float = 0.08
    """The count of people is made again with `same_voice` this much higher and lower."""
    shortest_pause_s: float = 0.25
    """A shorter silence inside one person's speech is no end of the turn."""
    shortest_turn_s: float = 0.1
