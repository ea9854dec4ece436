"""Peers on the same machine in the same run: what an event costs SimPy, what an evaluation costs a closed form.

By name: pytest tests/benchmarks/bench_peers.py. Peers that are not installed are left out.
"""

from __future__ import annotations

import warnings

import pytest
import simpy

ROWS, STREAMS = 42_734, 24
"""Of DeepSeek-V3's program on 2,048 GPUs: rows, and streams that run them (8 classes of ranks, 3 each)."""
GPT3 = {"topology": "h100-128", "workload": "gpt-3-175b-nemo"}


def test_simpy_timeouts(benchmark):
    # As many timeouts as a step has rows, by as many processes as it has streams: nothing else,
    # no network, no dependencies. A program on SimPy can take no less.
    def timeouts():
        world = simpy.Environment()

        def stream():
            for _ in range(ROWS // STREAMS):
                yield world.timeout(1.0)

        for _ in range(STREAMS):
            world.process(stream())
        world.run()
        return world.now

    assert benchmark.pedantic(timeouts, rounds=5) == ROWS // STREAMS


def test_gpt3_next_point(benchmark, watch, scenarios):
    scenarios.ask({}, **GPT3)
    points = [{"topology.node.nic": f"{rate} GB/s per direction"} for rate in range(41, 50)]
    answers = watch.time(lambda sets: scenarios.ask(sets, **GPT3), points)
    benchmark.extra_info["rows"] = answers[0]["rows"]


def test_llm_analysis_gpt3(benchmark):
    # The same layout: tp 4, pp 8, dp 4, 256 sequences of 2,048 tokens, in closed form.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = pytest.importorskip("llm_analysis.analysis")

    def evaluate():
        parallel = peer.ParallelismConfig(tp_size=4, pp_size=8, dp_size=4)
        model = peer.get_model_config_by_name("megatron-lm-175b")
        gpu = peer.get_gpu_config_by_name("a100-sxm-80gb")
        one = peer.LLMAnalysis(
            model, gpu, parallelism_config=parallel, flops_efficiency=0.5, hbm_memory_efficiency=0.8
        )
        return one.training(
            batch_size_per_gpu=1,
            gradient_accumulation_steps=64,
            global_batch_size=256,
            seq_len=2048,
        )

    found = benchmark.pedantic(evaluate, rounds=20, warmup_rounds=1)
    assert found["latency_per_iter"] > 0
