"""Fine-tuning: samples of unequal length, packed into sequences of the longest.

Attention stays inside each sample, so that a token attends over the length of its own, not over the
sequence. A sequence of n equal samples has attention of 1 / n: the step is taken between the two
numbers of samples, powers of 2, that lie around the mean over tokens. Everything else sees the same
tokens in both.
"""

from __future__ import annotations

import math

from simulator.campaign.config import SftConfig
from simulator.campaign.packing import Packed, packed
from simulator.campaign.spans import Amount, Span
from simulator.campaign.training import BATCH, Base, Folder
from simulator.errors import InputError
from simulator.scenario import Scenario

LENGTH, MICRO_BATCH = "training.seq_length", "training.micro_batch_size"


def sft_span(sft: SftConfig, topology: str, folder: Folder) -> Span:
    """Return the span of fine-tuning. topology: of the campaign. Errors: InputError."""
    base = Base(
        str(folder.file(sft.topology or topology, "topologies")),
        str(folder.file(sft.workload, "workloads")),
        dict(sft.set),
    )
    whole = base.load({})
    longest = whole.workload.training.seq_length
    full = packed(sft, longest)
    tokens = sft.samples * sft.mean_length * sft.epochs / full.fill
    steps = tokens / whole.tokens_per_step
    scenarios, weights = _between(base, whole, full)
    word = "packed" if sft.packing == "best_fit" else "padded"
    batch = whole.workload.training.global_batch_size
    return Span(
        f"{batch:,} x {longest:,}, {word}, {full.fill:.1%} full",
        scenarios,
        Amount(steps=steps),
        weights,
    )


def _between(
    base: Base, whole: Scenario, full: Packed
) -> tuple[tuple[Scenario, ...], tuple[float, ...]]:
    """Return the scenarios around the mean length of attention, and how much of each is in a step."""
    longest = whole.workload.training.seq_length
    many = max(0.0, math.log2(longest / full.context))  # rounding may take it below
    few = math.floor(many)
    if math.isclose(many, few, abs_tol=1e-9):
        return (_of_samples(base, whole, 2**few),), (1.0,)
    ends = (_of_samples(base, whole, 2**few), _of_samples(base, whole, 2 ** (few + 1)))
    # Attention is linear in the length over which it runs.
    longer, shorter = longest / 2**few, longest / 2 ** (few + 1)
    weight = (full.context - shorter) / (longer - shorter)
    return ends, (weight, 1.0 - weight)


def _of_samples(base: Base, whole: Scenario, samples: int) -> Scenario:
    """Return the scenario whose sequences are cut into equal samples."""
    if samples == 1:
        return whole
    training = whole.workload.training
    if training.seq_length % samples:
        raise InputError(
            f"cannot be cut into {samples} samples",
            key="mean_length",
            remedy="Give a sequence length that is a multiple of a power of 2.",
        )
    cut = {
        LENGTH: training.seq_length // samples,
        MICRO_BATCH: training.micro_batch_size * samples,
        BATCH: training.global_batch_size * samples,
    }
    try:
        return base.load(cut)
    except InputError as error:
        # The keys of the cut are not those of any file.
        raise InputError(
            f"stands for sequences cut into {samples:,} samples of {cut[LENGTH]:,} tokens, of which "
            f"{error.value} {error.rule}",
            key="mean_length",
            remedy="Give longer samples, or a workload whose layout suits them.",
        ) from error
