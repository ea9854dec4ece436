"""Slim Fly: McKay-Miller-Siran graphs of diameter 2. Besta and Hoefler, SC 2014, section 3.2."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import NamedTuple

from simulator.errors import LayoutError
from simulator.topology.cluster import Cluster
from simulator.topology.switches import (
    Switches,
    check_ports,
    check_room,
    connect,
    empty,
    fill,
    full_bisection,
)


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
    check_ports(cluster, degree + nics, f"{nics} NICs and {degree} routers")
    check_room(cluster, 2 * q * q * nics, f"a slim fly of q = {q}")
    routers = [("router", *index) for index in itertools.product(range(2), range(q), range(q))]
    graph = empty()
    graph.add_nodes_from(routers)
    for side, generators in enumerate(_generators(field, _delta(q))):
        for x, (y, z) in itertools.product(range(q), itertools.combinations(range(q), 2)):
            if field.minus(y, z) in generators:
                connect(graph, ("router", side, x, y), ("router", side, x, z), cluster)
    for x, m, c in itertools.product(range(q), repeat=3):
        y = field.plus(field.times(m, x), c)
        connect(graph, ("router", 0, x, y), ("router", 1, m, c), cluster)
    cut = q * (q * q + q % 2) // 2 * cluster.node.nic
    if cluster.nics != 2 * q * q * nics:
        note = "the cut of a full slim fly, an estimate for this size"
    elif q % 2:
        note = "an even cut of the columns, at most 1/q^2 above the least"
    else:
        note = "closed form"
    bisection = min(full_bisection(cluster), cut)
    return Switches(graph, fill(cluster, routers, nics), bisection, note)


def slim_fly_counts(q: int, p: int) -> tuple[int, int, int]:
    """Return endpoints, switches and cables between switches, for any q = 4 w + delta."""
    return 2 * q * q * p, 2 * q * q, q * q * network_degree(q)


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
    plus: Callable[[int, int], int]
    """Sum of two elements."""
    minus: Callable[[int, int], int]
    """Difference of two elements."""
    times: Callable[[int, int], int]
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
    prime = next((p for p in range(2, q + 1) if q % p == 0), 1)
    degree = next((m for m in range(1, q + 1) if prime**m >= q), 1)
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
            if len(set(powers) - {0}) == q - 1:
                plus, minus = (_digitwise(prime, degree, sign) for sign in (1, -1))
                return Field(q, plus, minus, times, powers)
    raise AssertionError("every finite field has a primitive element")


def _powers(element: int, q: int, times: Callable[[int, int], int]) -> tuple[int, ...]:
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
    return sum(digit % prime * prime**k for k, digit in enumerate(digits))


def _digitwise(prime: int, degree: int, sign: int) -> Callable[[int, int], int]:
    """Return the sum of polynomials (sign 1), or their difference (sign -1)."""

    def combine(first: int, second: int) -> int:
        pairs = zip(_digits(first, prime, degree), _digits(second, prime, degree), strict=True)
        return _element((a + sign * b for a, b in pairs), prime)

    return combine


def _products(prime: int, degree: int, modulus: tuple[int, ...]) -> Callable[[int, int], int]:
    """Return the product of polynomials modulo x^degree + modulus."""

    def times(first: int, second: int) -> int:
        product = [0] * (2 * degree)
        for i, a in enumerate(_digits(first, prime, degree)):
            for k, b in enumerate(_digits(second, prime, degree)):
                product[i + k] += a * b
        # From the highest power down: x^high = -modulus x^(high - degree).
        for high in range(2 * degree - 1, degree - 1, -1):
            for low, coefficient in enumerate(modulus):
                product[high - degree + low] -= product[high] * coefficient
        return _element(product[:degree], prime)

    return times


def _generators(field: Field, delta: int) -> tuple[frozenset[int], frozenset[int]]:
    """Return the two generator sets X and X', as powers of a primitive element.

    Hafner, 2004, for each delta.
    """
    q, w = field.q, (field.q + 1) // 4
    if delta < 0:
        even = [*range(0, 2 * w - 1, 2), *range(2 * w - 1, 4 * w - 2, 2)]
        odd = [*range(1, 2 * w, 2), *range(2 * w, 4 * w - 1, 2)]
    else:
        even = [*range(0, q - 1, 2)]
        odd = [*range(1, q, 2)]
    return frozenset(map(field.power, even)), frozenset(map(field.power, odd))
