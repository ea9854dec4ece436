"""Slim Fly: McKay-Miller-Siran graphs of diameter 2. Besta and Hoefler, SC 2014, section 3.2."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from simulator.errors import LayoutError
from simulator.topology.cabling import Cabling, Vertex
from simulator.topology.cluster import Cluster
from simulator.topology.switches import (
    Switches,
    check_ports,
    check_room,
    connect,
    fill,
    full_bisection,
)

Operation: TypeAlias = Callable[[int, int], int]
"""Two elements of a field -> a third."""


def slim_fly(cluster: Cluster) -> Switches:
    """Return 2 q^2 routers (0, x, y) and (1, m, c), joined in columns and across by y = m x + c.

    Within a column, routers whose difference is in a generator set are joined. Bisection: no cut
    into halves is below q^3 / 2 cables (Fiedler's bound n (k - lambda_2) / 4; k - lambda_2 = q),
    and splitting both kinds of columns evenly cuts that many for an even q, q (q^2 + 1) / 2 for an
    odd one.
    """
    q = cluster.fabric.q
    field = galois(q)
    degree = network_degree(q)
    nics = cluster.fabric.router_nics or -(-degree // 2)  # of one router
    places = 2 * q**2 * nics
    check_ports(cluster, degree + nics, f"{nics} NICs and {degree} routers")
    check_room(cluster, places, f"a slim fly of q = {q}")
    cabling = Cabling()
    generators = _generators(field, _delta(q))
    routers: list[Vertex] = []
    for side, number in itertools.product(range(2), range(q)):
        column: list[Vertex] = [("router", side, number, index) for index in range(q)]
        cabling.add(column)
        _join_column(cabling, cluster, column, generators[side], field)
        routers += column
    # A router across is a line of the plane over the field, joined to the points on it.
    for x, m, c in itertools.product(range(q), repeat=3):
        y = field.plus(field.times(m, x), c)
        router = ("router", 1, m, c)
        connect(cabling, ("router", 0, x, y), router, cluster)
    odd = q % 2
    cables = q * (q**2 + odd) // 2  # between the halves
    cut = cables * cluster.node.nic
    if cluster.nics != places:
        note = "the cut of a full slim fly, an estimate for this size"
    elif odd:
        note = "an even cut of the columns, at most 1/q^2 above the least"
    else:
        note = "closed form"
    bisection = min(full_bisection(cluster), cut)
    return Switches(cabling, fill(cluster, routers, nics), bisection, note)


def _join_column(
    cabling: Cabling,
    cluster: Cluster,
    column: list[Vertex],
    generators: frozenset[int],
    field: Field,
) -> None:
    """Join the routers of a column whose difference is in a generator set."""
    # The set contains -x with each x, so that it does not matter which is taken from which.
    for y, z in itertools.combinations(range(field.q), 2):
        if field.minus(y, z) in generators:
            connect(cabling, column[y], column[z], cluster)


def slim_fly_counts(q: int, p: int) -> tuple[int, int, int]:
    """Return endpoints, switches and cables between switches, for any q = 4 w + delta."""
    routers = 2 * q * q
    return p * routers, routers, routers * network_degree(q) // 2


def network_degree(q: int) -> int:
    """Return the routers that each router is joined to: (3 q - delta) / 2."""
    return (3 * q - _delta(q)) // 2


def _delta(q: int) -> int:
    """Return delta in {-1, 0, 1} with q = 4 w + delta. Errors: LayoutError if there is none."""
    if q < 3 or q % 4 == 2:
        raise LayoutError(
            "is not 4 w - 1, 4 w or 4 w + 1",
            value=q,
            key="fabric.q",
            remedy="Write for example 5 or 8.",
        )
    return {0: 0, 1: 1, 3: -1}[q % 4]


class Field(NamedTuple):
    """Arithmetic of a finite field on its elements 0 ... q - 1."""

    q: int
    """Number of elements."""
    plus: Operation
    """Sum of two elements."""
    minus: Operation
    """Difference of two elements."""
    times: Operation
    """Product of two elements."""
    powers: tuple[int, ...]
    """Powers of a primitive element, from exponent 0 on."""

    def power(self, exponent: int) -> int:
        """Return a power of the primitive element."""
        return self.powers[exponent % (self.q - 1)]


def galois(q: int) -> Field:
    """Return the field of q elements.

    Element e stands for the polynomial whose coefficients are e's digits base p. Errors:
    LayoutError if q is not a prime power.
    """
    prime = _least_divisor(q)
    degree = 1
    while 1 < prime**degree < q:
        degree += 1
    if q < 2 or prime**degree != q:
        raise LayoutError(
            "is not a prime power, so that there is no field and no graph",
            value=q,
            key="fabric.q",
            remedy="Write for example 5, 7, 8, 9, 11, 13, 16 or 17.",
        )
    # The product is modulo a polynomial, x^degree = -modulus; the first one that makes a field is
    # taken. It does if some element has q - 1 different powers, none of them zero.
    for modulus in itertools.product(range(prime), repeat=degree):
        times = _products(prime, degree, modulus)
        for element in range(1, q):
            powers = _powers(element, q, times)
            reached = set(powers) - {0}
            if len(reached) == q - 1:
                return Field(
                    q=q,
                    plus=_digitwise(prime, degree, sign=1),
                    minus=_digitwise(prime, degree, sign=-1),
                    times=times,
                    powers=powers,
                )
    raise AssertionError("every finite field has a primitive element")


def _least_divisor(q: int) -> int:
    """Return the least divisor of a number above 1, 1 if there is none."""
    for divisor in range(2, q + 1):
        if q % divisor == 0:
            return divisor
    return 1


def _powers(element: int, q: int, times: Operation) -> tuple[int, ...]:
    """Return the powers of an element with exponents 0 ... q - 2."""
    powers = [1]
    while len(powers) < q - 1:
        powers.append(times(powers[-1], element))
    return tuple(powers)


def _digits(number: int, prime: int, degree: int) -> list[int]:
    """Return the coefficients of the polynomial that an element stands for, the constant first."""
    return [number // prime**k % prime for k in range(degree)]


def _element(digits: Iterable[int], prime: int) -> int:
    """Return the element of a polynomial, its coefficients taken modulo the prime."""
    element = 0
    for k, digit in enumerate(digits):
        element += digit % prime * prime**k
    return element


def _digitwise(prime: int, degree: int, sign: int) -> Operation:
    """Return the sum of polynomials (sign 1), or their difference (sign -1)."""

    def combine(first: int, second: int) -> int:
        augend = _digits(first, prime, degree)
        addend = _digits(second, prime, degree)
        pairs = zip(augend, addend, strict=True)
        return _element((a + sign * b for a, b in pairs), prime)

    return combine


def _products(prime: int, degree: int, modulus: tuple[int, ...]) -> Operation:
    """Return the product of polynomials modulo x^degree + modulus."""

    def times(first: int, second: int) -> int:
        product = [0] * (2 * degree)  # coefficient of each power of x
        for i, a in enumerate(_digits(first, prime, degree)):
            for k, b in enumerate(_digits(second, prime, degree)):
                product[i + k] += a * b
        # From the highest power down, as each step adds to lower ones:
        # x^high = -modulus x^(high - degree).
        for high in reversed(range(degree, 2 * degree)):
            shift = high - degree
            for low, coefficient in enumerate(modulus):
                product[shift + low] -= product[high] * coefficient
        return _element(product[:degree], prime)

    return times


def _generators(field: Field, delta: int) -> tuple[frozenset[int], ...]:
    """Return the two generator sets X and X', as powers of a primitive element.

    Hafner, 2004, for each delta.
    """
    # Each set must contain -x with each x. Even and odd powers do, where -1 is an even one; for
    # q = 4 w - 1 it is an odd one, with which even and odd change places half way.
    q = field.q
    first = set(range(0, q - 1, 2))
    if delta < 0:
        minus_one = (q - 1) // 2  # its exponent
        first = {*range(0, minus_one, 2), *range(minus_one, q - 1, 2)}
    second = {exponent + 1 for exponent in first}
    return tuple(frozenset(map(field.power, exponents)) for exponents in (first, second))
