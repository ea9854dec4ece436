"""The graph of a fabric does what networkx does of the same changes, in the same order."""

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from simulator.topology.cabling import Cabling, Trunk

switches = st.integers(0, 7).map(lambda index: ("leaf", index))
pairs = st.tuples(switches, switches).filter(lambda pair: pair[0] != pair[1])
changes = st.lists(
    st.one_of(
        st.tuples(st.just("join"), pairs, st.integers(1, 3)),
        st.tuples(st.just("part"), pairs),
        st.tuples(st.just("add"), switches),
        st.tuples(st.just("remove"), switches),
        st.tuples(st.just("copy")),
    ),
    max_size=30,
)


def changed(cabling, graph, what, *arguments):
    """Return both after one change."""
    if what == "join":
        (one, other), cables = arguments
        cabling.join(one, other, Trunk(cables, 2.0, 3.0))
        graph.add_edge(one, other, cables=cables, bandwidth=2.0, latency=3.0)
    elif what == "part" and graph.has_edge(*arguments[0]):
        cabling.part(*arguments[0])
        graph.remove_edge(*arguments[0])
    elif what == "add":
        cabling.add(arguments)
        graph.add_nodes_from(arguments)
    elif what == "remove":
        cabling.remove(arguments)
        graph.remove_nodes_from(arguments)
    elif what == "copy":
        return cabling.copy(), graph.copy()
    return cabling, graph


@given(changes)
def test_all_changes_leave_what_they_leave_of_a_graph_of_networkx(changes):
    cabling, graph = Cabling(), nx.Graph()
    for change in changes:
        cabling, graph = changed(cabling, graph, *change)
    assert list(cabling) == list(graph)
    assert [(one, other, trunk._asdict()) for one, other, trunk in cabling.edges()] == list(
        graph.edges(data=True)
    )
    assert list(cabling.components()) == list(nx.connected_components(graph))
    assert nx.utils.graphs_equal(cabling.graph(), graph)


def test_a_copy_changes_nothing_of_what_it_was_copied_from():
    cabling = Cabling()
    cabling.join(("leaf", 0), ("spine", 0), Trunk(1, 2.0, 3.0))
    cabling.copy().remove([("spine", 0)])
    assert cabling.joined(("leaf", 0), ("spine", 0))
