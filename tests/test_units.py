"""Quantities: what each text means in SI, what is refused and in which words, and that what prints reads back."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import units
from simulator.errors import InputError, UnitError

PARSERS = {
    "bandwidth": (units.bandwidth, "50 GB/s per direction"),
    "memory_bandwidth": (units.memory_bandwidth, "3.35 TB/s"),
    "seconds": (units.seconds, "3.7 us"),
    "size": (units.size, "80 GB"),
    "flop_rate": (units.flop_rate, "989.4 TFLOP/s"),
    "price": (units.price, "2 USD per GPU-hour"),
}
every_quantity = pytest.mark.parametrize(("parser", "example"), PARSERS.values(), ids=PARSERS)


def refusal(parser, text):
    with pytest.raises(UnitError) as caught:
        parser(text)
    return str(caught.value)


# What a text means


@pytest.mark.parametrize(
    ("parser", "text", "value"),
    [
        (units.seconds, "0 s", 0.0),
        (units.seconds, "1 s", 1.0),
        (units.seconds, "2 ms", 2e-3),
        (units.seconds, "3.7 us", 3.7e-6),
        (units.seconds, "3.7 µs", 3.7e-6),
        (units.seconds, "5 ns", 5e-9),
        (units.seconds, "2 min", 120.0),
        (units.seconds, "1.5 h", 5400.0),
        (units.seconds, "2 d", 172_800.0),
        (units.size, "7 B", 7.0),
        (units.size, "7 kB", 7e3),
        (units.size, "7 KB", 7e3),
        (units.size, "7 MB", 7e6),
        (units.size, "80 GB", 80e9),
        (units.size, "3 TB", 3e12),
        (units.size, "3 PB", 3e15),
        (units.size, "1 KiB", 1024.0),
        (units.size, "1 MiB", 1_048_576.0),
        (units.size, "1 GiB", 1_073_741_824.0),
        (units.size, "1 TiB", 1_099_511_627_776.0),
        (units.memory_bandwidth, "3.35 TB/s", 3.35e12),
        (units.memory_bandwidth, "2039 GB/s", 2.039e12),
        (units.flop_rate, "989.4 TFLOP/s", 989.4e12),
        (units.flop_rate, "1 PFLOP/s", 1e15),
        (units.flop_rate, "5 FLOP/s", 5.0),
        (units.price, "2 USD per GPU-hour", 2.0),
        (units.price, "2.33 USD per GPU-hour", 2.33),
    ],
)
def test_every_unit_has_its_factor(parser, text, value):
    assert parser(text) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # A datasheet's NVLink figure is the sum of both directions: H100's 900 is 450 each way,
        # H800's 400 is 200.
        ("900 GB/s bidirectional", 450e9),
        ("400 GB/s bidirectional", 200e9),
        ("200 GB/s per direction", 200e9),
        # 8 bits to a byte: a 400 Gb/s NIC is 50 GB/s each way.
        ("400 Gb/s per direction", 50e9),
        ("800 Gb/s bidirectional", 50e9),
        ("50 GB/s per direction", 50e9),
        ("8 b/s per direction", 1.0),
        ("0.4 Tb/s per direction", 50e9),
        ("1 GiB/s per direction", 1_073_741_824.0),
    ],
)
def test_a_bandwidth_counts_one_direction_in_bytes(text, value):
    assert units.bandwidth(text) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    "text", ["80 GB", "80GB", "  80   GB  ", "8e1 GB", "+80 GB", "80. GB", "80.0 GB"]
)
def test_spaces_and_the_spelling_of_a_number_do_not_matter(text):
    assert units.size(text) == 80e9


def test_a_number_may_start_with_its_point():
    assert units.seconds(".5 s") == 0.5


@every_quantity
def test_the_example_in_every_remedy_is_legal(parser, example):
    assert parser(example) > 0
    assert f"'{example}'" in refusal(parser, "much")


# What is refused


@pytest.mark.parametrize("value", ["400", 400])
def test_a_bandwidth_without_a_unit_is_told_both_ways_to_write_it(value):
    assert refusal(units.bandwidth, value) == (
        "'400' has no unit. Write '400 GB/s bidirectional' (as datasheets do) or '200 GB/s per direction'."
    )


@pytest.mark.parametrize("value", ["3", 3, 3.0, " 3 "])
@pytest.mark.parametrize("name", [name for name in PARSERS if name != "bandwidth"])
def test_a_bare_number_is_refused_and_told_how_to_write_one(name, value):
    parser, example = PARSERS[name]
    shown = value if isinstance(value, str) else str(value)
    assert refusal(parser, value) == f"{shown!r} has no unit. Write for example '{example}'."


@pytest.mark.parametrize("text", ["400 GB/s", "400 Gb/s", "1 TB/s"])
def test_a_bandwidth_must_say_which_direction_it_counts(text):
    assert refusal(units.bandwidth, text) == (
        f"'{text}' does not say which direction it counts. "
        f"Write '{text} per direction', or '{text} bidirectional' for the sum of both."
    )


def test_the_remedies_for_a_bandwidth_work():
    for text in ("400 GB/s bidirectional", "200 GB/s per direction"):
        assert units.bandwidth(text) == 200e9


@pytest.mark.parametrize(
    ("parser", "text", "message"),
    [
        (
            units.seconds,
            "3 GB",
            "'3 GB' has the unit 'GB', which is none of s, ms, us, µs, ns, min, h, d. Write for example '3.7 us'.",
        ),
        (
            units.size,
            "5 gb",
            "'5 gb' has the unit 'gb', which is none of B, kB, KB, MB, GB, TB, PB, KiB. Write for example '80 GB'.",
        ),
        (
            units.flop_rate,
            "989.4 TFLOPS",
            "'989.4 TFLOPS' has the unit 'TFLOPS', which is none of FLOP/s, kFLOP/s, KFLOP/s, MFLOP/s, GFLOP/s, "
            "TFLOP/s, PFLOP/s. Write for example '989.4 TFLOP/s'.",
        ),
        (
            units.price,
            "2 EUR",
            "'2 EUR' has the unit 'EUR', which is none of USD per GPU-hour. Write for example '2 USD per GPU-hour'.",
        ),
        (
            units.memory_bandwidth,
            "27 Tb/s",
            "'27 Tb/s' has the unit 'Tb/s', which is none of B/s, kB/s, KB/s, MB/s, GB/s, TB/s, PB/s, KiB/s. "
            "Write for example '3.35 TB/s'.",
        ),
    ],
)
def test_another_unit_is_refused_and_the_known_ones_are_named(parser, text, message):
    assert refusal(parser, text) == message


@every_quantity
@pytest.mark.parametrize("text", ["fast", "", "GB 80", "nan s", "inf B", "[1]"])
def test_what_is_no_number_with_a_unit_is_refused(parser, example, text):
    assert (
        refusal(parser, text)
        == f"{text!r} is not a number with a unit. Write for example '{example}'."
    )


@every_quantity
@pytest.mark.parametrize("value", [None, True, [1]])
def test_a_value_of_another_kind_is_refused(parser, example, value):
    assert refusal(parser, value).endswith(
        f"is not a number with a unit. Write for example '{example}'."
    )


@every_quantity
def test_a_negative_quantity_is_refused(parser, example):
    assert "is negative or not finite. Write for example '" in refusal(parser, f"-{example}")


@pytest.mark.parametrize("text", ["-1 s", "1e400 s"])
def test_a_time_that_is_negative_or_overflows_is_told_so(text):
    assert (
        refusal(units.seconds, text)
        == f"'{text}' is negative or not finite. Write for example '3.7 us'."
    )


def test_a_unit_error_is_an_input_error():
    assert issubclass(UnitError, InputError)


@pytest.mark.parametrize("text", ["1_ B", "1__0 B"])
def test_a_stray_underscore_is_refused_like_any_other_text(text):
    assert (
        refusal(units.size, text)
        == f"{text!r} is not a number with a unit. Write for example '80 GB'."
    )


def test_the_message_quotes_a_bandwidth_as_it_was_written():
    assert refusal(units.bandwidth, "-5 GB/s per direction").startswith(
        "'-5 GB/s per direction' is negative or"
    )


# What prints reads back


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        (units.format_seconds(3.7e-6), "3.7 us"),
        (units.format_seconds(19.91), "19.91 s"),
        (units.format_seconds(0.0043456), "4.346 ms"),
        (units.format_seconds(0.0), "0 s"),
        (units.format_bytes(80e9), "80 GB"),
        (units.format_bytes(1023.0), "1.023 kB"),
        (units.format_bytes(1.0), "1 B"),
        (units.format_bandwidth(200e9), "200 GB/s per direction"),
        (units.format_bandwidth(51.2e12), "51.2 TB/s per direction"),
    ],
)
def test_quantities_print_with_the_largest_unit_that_fits(text, printed):
    assert text == printed


PRINTED = st.floats(min_value=1e-12, max_value=1e18)


@given(PRINTED)
def test_a_printed_time_reads_back_to_four_digits(value):
    assert math.isclose(units.seconds(units.format_seconds(value)), value, rel_tol=5.01e-4)


@given(PRINTED)
def test_a_printed_size_reads_back_to_four_digits(value):
    assert math.isclose(units.size(units.format_bytes(value)), value, rel_tol=5.01e-4)


@given(PRINTED)
def test_a_printed_bandwidth_reads_back_to_four_digits(value):
    assert math.isclose(units.bandwidth(units.format_bandwidth(value)), value, rel_tol=5.01e-4)


@given(
    st.floats(min_value=0, max_value=1e15),
    st.sampled_from(sorted(units.BYTE_RATES | units.BIT_RATES)),
)
def test_bidirectional_is_always_half_of_the_same_per_direction(number, unit):
    both, one = (
        units.bandwidth(f"{number!r} {unit} {words}")
        for words in ("bidirectional", "per direction")
    )
    assert both == one / 2


@given(st.floats(min_value=0, max_value=1e15), st.sampled_from(["", "k", "M", "G", "T", "P"]))
def test_bits_are_always_an_eighth_of_the_same_in_bytes(number, prefix):
    bits, full = (
        units.bandwidth(f"{number!r} {prefix}{letter}/s per direction") for letter in "bB"
    )
    assert math.isclose(bits, full / 8, rel_tol=1e-12)
