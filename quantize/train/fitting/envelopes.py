"""Trains the head that tells classical synthesis by how bands' envelopes move within milliseconds.

Its input is that of `device.models.spoof.envelopes`. Of the attacks it learns classical synthesisers and
vocoders run here: taught research pages' systems, or mel and phase faults, it takes people of unheard pages
for machines. Stretched and pitch-shifted speech is left out, for these statistics do not show it, and so are
renderings through loudspeakers, which the two networks tell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from device.models.spoof.envelopes import STATISTICS, EnvelopeHead
from quantize.errors import QuantizeError
from quantize.train.fitting.fit import FitSettings, weights
from quantize.train.speech.bank import Bank
from quantize.train.speech.corpus import CLASSICAL, Item

LIMIT = 4.0
BATCH, UNITS = 256, 128
RATE, WEIGHT_DECAY, SMOOTHING = 1e-3, 0.1, 0.02
AS_IT_IS = 2
"""How often a whole file counts beside the bank's cut and coloured renderings of it."""
DROPOUT = (0.2, 0.3)
"""Of the statistics, and of the hidden layer."""


def classical(item: Item) -> bool:
    """Whether this head learns the item as an attack."""
    return item.spoof and item.page == "made" and item.system in CLASSICAL


def fit_envelopes(chosen: Sequence[Item], bank: Bank, settings: FitSettings) -> EnvelopeHead:
    """A head trained on the people and the classical attacks among `chosen`.

    Raises QuantizeError when there are none of either.
    """
    torch.manual_seed(settings.seed)
    torch.set_num_threads(1)
    rng = np.random.default_rng(settings.seed)
    heard = [i for i in chosen if (not i.spoof or classical(i)) and i.path in bank.place]
    names = sorted({i.system for i in heard if i.spoof})
    if not names or all(i.spoof for i in heard):
        raise QuantizeError("the envelopes' head needs people and at least one classical synthesiser")
    kinds = np.array([1 + names.index(i.system) if i.spoof else 0 for i in heard])
    found, first = [], [0]
    for item in heard:
        row = bank.place[item.path]
        found += [bank.envelopes[turn, row] for turn in np.flatnonzero(~bank.replayed[:, row])]
        found += AS_IT_IS * [bank.plain[row]]
        first.append(len(found))
    starts, counts = np.array(first[:-1]), np.diff(first)
    x = np.array(found, np.float32)
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-3
    scaled = torch.from_numpy(np.clip((x - mean) / scale, -LIMIT, LIMIT))
    net = nn.Sequential(
        nn.Dropout(DROPOUT[0]),
        nn.Linear(STATISTICS, UNITS),
        nn.ReLU(),
        nn.Dropout(DROPOUT[1]),
        nn.Linear(UNITS, 1 + len(names)),
    )
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.envelope_steps)
    for drawn in rng.choice(len(heard), (settings.envelope_steps, BATCH), p=weights(heard)):
        logits = net(scaled[starts[drawn] + rng.integers(0, counts[drawn])])
        kind = torch.from_numpy(kinds[drawn])
        machine = torch.logsumexp(logits[:, 1:], dim=1) - logits[:, 0]
        loss = functional.cross_entropy(logits, kind, label_smoothing=SMOOTHING)
        loss = loss + functional.binary_cross_entropy_with_logits(machine, (kind > 0).float())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    hidden, answers = net[1], net[4]
    parts = (hidden.weight, hidden.bias, answers.weight, answers.bias)
    return EnvelopeHead(mean, scale, *(one.detach().numpy().astype(np.float32) for one in parts))
