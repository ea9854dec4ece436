"""How much of the time of GEMMs is of measured shapes: what the report says of its own ground."""

import pytest
from builders import dense, scenario, studied

from simulator.costs import coverage, price, work
from simulator.ops import Op, block_ops
from simulator.report import as_dict


def gemms(one):
    """Return (seconds, whether measured) of every GEMM of one micro-batch, block by block."""
    costs = price(one)
    for kind in one.model.blocks:
        for part in block_ops(kind, work(one, costs.loads.even if costs.loads else None)):
            for op in (*part.forward, *part.backward):
                if isinstance(op, Op) and op.kind in ("gemm", "wgrad"):
                    yield costs.processor.kernel(op, overlapped=False), costs.processor.measured(op)


def test_the_share_is_of_the_time_of_all_gemms():
    # 1,024 wide and 2,048 tokens: every shape of a layer and of the head is between measured ones.
    one = dense(layout__pp=1)
    found = coverage(price(one))
    total = sum(seconds for seconds, _ in gemms(one))
    assert found.gemm == pytest.approx(total, rel=1e-12)
    assert found.share == 1.0


@pytest.mark.slow
def test_shapes_beyond_the_grid_and_many_problems_at_once_are_not_measured():
    # 64 tokens are fewer than any that was measured; they are what weight gradients sum over, too.
    assert coverage(price(dense(layout__pp=1, training__seq_length=64))).share == 0.0
    one = scenario(precision__recipe="bf16")
    found = coverage(price(one))
    assert 0 < found.share < 1


def test_deepseeks_own_kernels_are_calibrated_one_by_one_and_have_no_grid():
    one = scenario(precision__recipe="fp8_block")
    costs = price(one)
    op = next(
        op for op in block_ops("dense", work(one, costs.loads.even))[0].forward if op.dtype == "fp8"
    )
    assert not costs.processor.measured(op)


@pytest.mark.slow
def test_times_scaled_from_another_format_are_not_measured():
    # Blocks of scales take their times from GEMMs of one scale per tensor.
    assert coverage(price(dense(layout__pp=1, precision__recipe="fp8_tensor"))).share == 1.0
    blocks = coverage(price(dense(layout__pp=1, precision__recipe="fp8_blockwise")))
    assert 0 < blocks.share < 0.5  # the head's, in BF16


@pytest.mark.slow
def test_full_recompute_counts_the_forward_pass_twice():
    plain = dense(layout__pp=1)
    again = dense(layout__pp=1, training__recompute=("full",))
    once, twice = coverage(price(plain)), coverage(price(again))
    forward = 0.0
    for kind in plain.model.blocks:
        if kind == "dense":
            (part,) = block_ops(kind, work(plain, None))
            forward += sum(
                price(plain).processor.kernel(op, overlapped=False)
                for op in part.forward
                if isinstance(op, Op) and op.kind == "gemm"
            )
    assert twice.gemm - once.gemm == pytest.approx(forward, rel=1e-9)


def test_the_report_says_the_share():
    _, one = studied(dense(layout__pp=1))
    assert one.measured_share == 1.0
    assert as_dict(one)["kernels"] == {"table": "hopper", "measured_share": 1.0}
