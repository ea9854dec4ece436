"""Laws over the precision recipes, and what each GPU says of them."""

from dataclasses import replace

import pytest
from calibration import AMPERE, HOPPER, processor

from simulator.errors import InputError
from simulator.hardware import GpuConfig
from simulator.inputs import data, data_names, validate
from simulator.ops.op import KINDS, gemm, quantise
from simulator.precision import BYTES, PEAK, RECIPES
from simulator.scenario import load
from simulator.trace.groups import DTYPES
from simulator.trust.kind import PRECISIONS

every_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)


@every_recipe
def test_a_recipe_names_kinds_and_dtypes_that_exist(recipe):
    assert RECIPES[recipe.name] is recipe
    assert {recipe.gemm, recipe.dispatch} <= set(BYTES) == set(PEAK)
    assert set(PRECISIONS) == set(DTYPES) == set(BYTES)
    assert recipe.cast in {"", *KINDS}
    assert bool(recipe.cast) == recipe.quantised == (recipe.gemm != "bf16")


@every_recipe
def test_a_cast_reads_bf16_and_writes_each_copy_once(recipe):
    # DeepSeek's scales are a 32nd of what is written and were counted as nothing when the share of
    # HBM was taken.
    copies = 2 if recipe.casts_once else 1
    exact = {"bf16": 0.0, "fp8_block": 3.0, "fp8_tensor": 4.0, "fp8_current": 6.0}.get(
        recipe.name, 2.0 + copies * BYTES[recipe.gemm]
    )
    if recipe.name == "nvfp4":  # a kernel either way, and a pass for the largest value
        exact += 2.0 + 2.0
    assert sum(op.bytes for op in quantise(recipe, 10, 30)) == pytest.approx(40 * exact)


@every_recipe
def test_gradients_may_be_kept_in_bf16(recipe):
    assert replace(recipe, gradient=2).gradient == 2


def test_each_gpu_runs_the_recipes_of_its_tensor_cores():
    runs = {
        gpu: {
            name
            for name, recipe in RECIPES.items()
            if recipe.peak in validate(data("gpus", gpu), GpuConfig).peak
        }
        for gpu in data_names("gpus")
    }
    hopper = {"bf16", "fp8_block", "fp8_tensor", "fp8_blockwise", "fp8_current"}
    blackwell = {*hopper, "mxfp8", "nvfp4"}
    ampere = {"bf16"}
    assert runs == {
        **dict.fromkeys(("a100", "a100-40gb", "a100-64gb", "a800"), ampere),
        **dict.fromkeys(("h100", "h100-96gb", "h100-nvl", "h100-pcie", "h20"), hopper),
        **dict.fromkeys(("h200", "h800", "l40s"), hopper),
        **dict.fromkeys(("b200", "b300", "gb200", "gb300"), blackwell),
    }


@pytest.mark.parametrize("site", ["h800-2048", "h100-2048"])
@pytest.mark.slow
def test_microscaling_is_refused_before_blackwell_with_a_remedy(site):
    with pytest.raises(InputError, match=r"multiplies in mxfp8, which h\d00 cannot\.") as caught:
        load(site, sets={"precision.recipe": "mxfp8"})
    assert str(caught.value).endswith("or choose a GPU that can: b200, b300, gb200, gb300.")


@pytest.mark.parametrize("gpu", ["b200", "b300", "gb200", "gb300"])
@pytest.mark.slow
def test_blackwell_multiplies_in_microscaling_at_less_than_the_rate_of_fp8(gpu):
    # Transformer Engine's GEMMs of a layer on B300, cast before: MXFP8 at 0.951 of the rate of one
    # scale per tensor.
    peak = validate(data("gpus", gpu), GpuConfig).peak
    assert peak["mxfp8"] == peak["fp8"] == 2 * peak["bf16"]
    assert 4 * peak["bf16"] <= peak["nvfp4"] <= 6 * peak["bf16"]
    part = processor(gpu)
    for kind in ("gemm", "wgrad"):
        gemms = [gemm("", 8192, 4096, 4096, dtype) for dtype in ("mxfp8", "fp8_tensor")]
        mx, tensor = (op._replace(kind=kind, bytes=1e6) for op in gemms)
        rate = part.kernel(tensor, overlapped=False) / part.kernel(mx, overlapped=False)
        assert rate == pytest.approx(0.951, abs=0.01)


@pytest.mark.parametrize("recipe", ["mxfp8", "nvfp4"])
@pytest.mark.parametrize(("gpu", "site"), [("b200", "b200-node"), ("gb200", "gb200-nvl72")])
@pytest.mark.slow
def test_blackwell_runs_its_own_formats(gpu, site, recipe):
    changes = {"precision.recipe": recipe, "training.global_batch_size": 72}
    one = load(site, "llama-3.1-8b", changes | {"layout.cp": 1})
    assert one.recipe.peak == recipe


@every_recipe
@pytest.mark.parametrize("gpu", data_names("gpus"))
@pytest.mark.slow
def test_a_gpu_with_the_peak_of_a_recipe_has_its_gemms(gpu, recipe):
    part = processor(gpu)
    if recipe.peak in part.gpu.peak:
        assert recipe.gemm in part.kernels.gemm
        assert recipe.gemm in part.kernels.wgrad


def test_a_dtype_without_tensor_cores_has_no_peak():
    with pytest.raises(InputError, match="is not supported by a100"):
        AMPERE.peak("fp8_tensor")


@pytest.mark.parametrize("dtype", ["fp8", "fp8_tensor"])
def test_fp8_doubles_the_rate_of_a_large_gemm(dtype):
    # Twice the peak, at 0.71 to 0.73 of it where BF16 has 0.77, and 1.075 longer for BF16 in a
    # training process.
    seconds = [
        HOPPER.kernel(gemm("", 8192, 28672, 8192, each), overlapped=False)
        for each in ("bf16", dtype)
    ]
    assert 1.7 < seconds[0] / seconds[1] < 2.2
