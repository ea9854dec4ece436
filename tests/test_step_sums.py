"""The small all-reduces in front of the update: norms, tied embeddings, the loss."""

from dataclasses import replace

import pytest
from builders import dense, hosted, scenario, simulated
from calibration import HOPPER
from test_links_across_nodes import net, site

from simulator.collectives import Kernels, choices, chosen, of_nccl
from simulator.collectives.few_bytes import few_bytes
from simulator.program import lower
from simulator.program.step_sums import StepSums


@pytest.mark.parametrize(
    ("nodes", "local"), [(1, 8), (2, 1), (2, 8), (4, 8), (8, 8), (16, 8), (5, 8), (32, 8)]
)
def test_one_number_takes_as_long_as_the_tables_rounds(nodes, local):
    # The trees of 16 and of 32 nodes are one level less deep than a full one.
    kernels, members = HOPPER.kernels, range(nodes * local)
    cluster, place = net(nodes, local), site(nodes, local)
    table = of_nccl("all_reduce")
    ways = choices(cluster, members, Kernels.of(kernels), "all_reduce", table)
    exact = chosen(ways, 4.0).seconds(4.0)
    assert few_bytes(place, cluster, kernels, members) == pytest.approx(exact, rel=0.2)


def test_a_lone_gpu_sums_nothing():
    assert few_bytes(site(2), net(2), HOPPER.kernels, range(1)) == 0.0


def sums(one, *wanted, stages=(0,)):
    given = one.stack.model_copy(update={"step_sums": wanted})
    return StepSums(replace(one, stack=given), lower(one).costs).seconds(stages)


def test_experts_have_an_optimizer_and_a_norm_of_their_own():
    one = scenario()
    norm = sums(one, "gradient_norm")
    assert norm > 0
    assert sums(one, "gradient_norm", "optimizers") == pytest.approx(2 * norm)
    assert sums(dense(), "gradient_norm", "optimizers") == sums(dense(), "gradient_norm")


def test_norms_are_summed_where_ranks_saw_parts_of_the_sequence():
    assert sums(dense(layout__tp=1), "norms") == 0.0
    assert sums(dense(layout__tp=2, layout__sequence_parallel=False), "norms") == 0.0
    assert sums(dense(layout__tp=2), "norms") > 0.0


def test_a_tied_embedding_is_summed_between_the_first_and_the_last_stage():
    tied = dense(layout__pp=2, model__tie_word_embeddings=True)
    last = len(lower(tied).costs.stages) - 1
    assert sums(tied, "tied_embedding", stages=(0,)) > 0.0
    assert sums(tied, "tied_embedding", stages=(last,)) > 0.0
    assert sums(dense(layout__pp=2), "tied_embedding", stages=(0,)) == 0.0


def test_deepseeks_own_stack_sums_the_norm_alone_and_megatrons_all():
    assert hosted(stack="deepseek").stack.step_sums == ("gradient_norm",)
    assert hosted(stack="megatron").stack.step_sums == (
        "gradient_norm",
        "optimizers",
        "norms",
        "tied_embedding",
        "loss",
    )


def test_earlier_megatrons_sum_what_they_had():
    # Sequence parallelism, and with it the sum of norms' gradients, came in 2022.
    every = set(hosted(stack="megatron").stack.step_sums)
    for name, without in (("megatron_local", set()), ("megatron_2021", {"norms"})):
        found = hosted(stack=name).stack.step_sums
        assert set(found) == every - {"optimizers"} - without


def test_the_update_begins_behind_the_sums():
    # The optimizer's row, and with it the step, ends later by what they take.
    one = dense(layout__tp=2)
    given = one.stack.model_copy(update={"step_sums": ("gradient_norm",)})
    longer = replace(one, stack=given)
    found = simulated(longer).step_time - simulated(one).step_time
    assert found == pytest.approx(sums(one, "gradient_norm"), rel=1e-6)
