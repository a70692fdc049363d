"""The edge map of a label is PaddleSeg's."""

import numpy as np
from paddleseg.transforms.functional import mask_to_binary_edge

from paddleseg_ext.data.edges import edge_map


def test_edges_are_paddlesegs() -> None:
    """With every class there: of one that is not, PaddleSeg draws an edge in a corner."""
    generator = np.random.default_rng(0)
    for _ in range(4):
        coarse = generator.permutation([0, 1, 2, 3, 255, 0, 1, 2, 3, 3, 3, 3]).reshape(3, 4)
        label = coarse.repeat(9, axis=0).repeat(7, axis=1)
        expected = mask_to_binary_edge(label, radius=2, num_classes=4)
        np.testing.assert_array_equal(edge_map(label, 4), expected)
        assert 0 < expected.mean() < 1


def test_a_class_alone_ends_at_the_border() -> None:
    edges = edge_map(np.zeros((7, 8), np.int64), 19)
    assert edges.shape == (1, 7, 8) and not edges[0, 2:-2, 2:-2].any() and edges[0, 1].all()
