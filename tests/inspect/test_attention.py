"""Maps of attention: right at every index, and rollout against the product of whole matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vidrec.inspect
from tests.inspect.objects import RESNET, TRANSFORMER, make, peaks, pointwise, squares
from vidrec.errors import UsageError
from vidrec.inspect.attention_maps import rollout
from vidrec.inspect.panels import panels

HEIGHT, WIDTH = 16, 24  # 2 x 3 patches
CELLS = np.array([[(0, 1), (1, 2), (1, 0)], [(1, 1), (0, 0), (0, 2)]])  # row and column of the object in each frame


@pytest.fixture(scope="module")
def direcformer():
    return make("direcformer_base", HEIGHT, WIDTH, **{**TRANSFORMER, "time_cls_key": True})


def test_every_index_of_divided_attention(direcformer):
    """A change of one patch in one frame shows in the maps of that patch and frame alone: as query, and as key."""
    clips = jax.random.normal(jax.random.key(1), (1, 3, HEIGHT, WIDTH, 3))
    clips = jnp.concatenate([clips, clips.at[0, 1, 8:16, 16:24].add(1.0)])  # frame 1, row 1, column 2
    maps = vidrec.inspect.attention(*direcformer, clips)

    def changed(name, axes):
        assert maps[name].axes == axes
        return np.argwhere(np.abs(maps[name].take(clip=1).values - maps[name].take(clip=0).values) > 1e-6).tolist()

    axes = ("clip", "row", "column", "head", "query", "key")
    expected = [[1, 2, head, q, k] for head in (0, 1) for q in range(3) for k in range(3) if 1 in (q, k)]
    assert changed("blocks_0/time", axes) == expected
    assert maps["blocks_0/time"].values.min() < 0
    assert changed("blocks_0/time_cls", axes[:-1]) == [[1, 2, 0, 1], [1, 2, 1, 1]]
    # Temporal branches start at zero, so in space, too, frame 1 alone has changed: all keys, as they share a softmax.
    space = changed("blocks_0/space", ("clip", "frame", "head", "query", "key"))
    assert {place[0] for place in space} == {1}
    cls = maps["blocks_0/cls"]
    assert cls.axes == ("clip", "frame", "head", "row", "column")
    np.testing.assert_array_equal(cls.values.reshape(2, 3, 2, 6), maps["blocks_0/space"].values[:, :, :, 0, 1:])


def looking_at_bright_patches():
    """TimeSformer whose cls token asks, in each frame, for bright patches."""
    model, variables = make("timesformer_base", HEIGHT, WIDTH, **{**TRANSFORMER, "depth": 1, "heads": 1})
    params = jax.tree.map(jnp.zeros_like, variables["params"])
    embed, block = params["patch_embed"], params["blocks_0"]
    embed["proj"]["kernel"] = embed["proj"]["kernel"].at[..., 0].set(1 / 64)  # channel 0 is brightness
    embed["cls_token"] = embed["cls_token"].at[..., 1].set(1.0)  # channel 1 is being the cls token
    block["norm1"]["scale"] = jnp.ones(8)
    qkv = block["attn"]["qkv"]["kernel"]
    block["attn"]["qkv"]["kernel"] = qkv.at[1, 0].set(3.0).at[0, 8].set(3.0)  # query 0 is cls, key 0 brightness
    return model, {"params": params}


def test_peaks_on_the_object_in_every_frame():
    clips = squares(8 * CELLS, HEIGHT, WIDTH, 8)
    maps = vidrec.inspect.attention(*looking_at_bright_patches(), clips)
    places = [[tuple(cell) for cell in clip] for clip in CELLS.tolist()]
    assert peaks(maps["blocks_0/cls"].mean("head").values) == places
    assert maps["rollout"].axes == ("clip", "frame", "row", "column")
    assert peaks(maps["rollout"].values) == places
    rows = panels(maps, np.zeros((3, HEIGHT, WIDTH, 3), np.uint8), clip=1)
    assert [len(row.frames) for row in rows] == [3, 3, 1, 1]  # frames, rollout, the last block's mean and its heads


def test_rollout_is_the_product_of_whole_matrices():
    """Token 0 is cls, patch n of frame t token 1 + n * T + t; each step is half shortcut, half attention."""
    random, (n, t) = np.random.default_rng(0), (4, 3)
    time = [random.uniform(-1, 1, (2, n, t, 1 + t)) for _ in range(2)]
    space = [random.uniform(0, 1, (2, t, 1 + n, 1 + n)) for _ in range(2)]
    for clip in range(2):
        whole = np.eye(1 + n * t)
        for a_time, a_space in zip(time, space, strict=True):
            for attention in (whole_time(a_time[clip]), whole_space(a_space[clip])):
                shortcut = np.eye(len(whole))
                whole = (shortcut + attention) / 2 @ whole
        np.testing.assert_allclose(whole.sum(1), 1)
        np.testing.assert_allclose(rollout(time, space)[clip], whole[0, 1:].reshape(n, t))


def whole_time(a):
    """`[N, T, 1 + T]` magnitudes as one matrix over all tokens; the cls token keeps itself."""
    patches, frames, _ = a.shape
    whole = np.zeros((1 + patches * frames,) * 2)
    whole[0, 0] = 1
    for p, q in np.ndindex(patches, frames):
        row = np.abs(a[p, q]) / np.abs(a[p, q]).sum()
        whole[1 + p * frames + q, 0] = row[0]
        whole[1 + p * frames + q, 1 + p * frames : 1 + (p + 1) * frames] = row[1:]
    return whole


def whole_space(a):
    """`[T, 1 + N, 1 + N]` as one matrix; the cls token is the mean of its copies in the frames."""
    frames, tokens, _ = a.shape
    whole = np.zeros((1 + (tokens - 1) * frames,) * 2)
    for f in range(frames):
        places = [0, *(1 + p * frames + f for p in range(tokens - 1))]
        rows = a[f] / a[f].sum(1, keepdims=True)
        whole[0, places] += rows[0] / frames
        for row, place in zip(rows[1:], places[1:], strict=True):
            whole[place, places] = row
    return whole


@pytest.mark.slow
def test_ett_peaks_on_the_object_in_every_frame():
    """With nearly one-hot attention of each frame to itself, A* of a frame is about that frame."""
    model, variables = make("ttsn_resnet50", 24, 32, **RESNET, backbone="tsn", tss="none", ett_inverse_std=1.0)
    variables = pointwise(variables)
    ett = jax.tree.map(jnp.zeros_like, variables["params"]["ett"])
    ett = {**ett, "lam": jnp.float32(1e4), "h_0": {**ett["h_0"], "kernel": variables["params"]["ett"]["h_0"]["kernel"]}}
    ett["hinv"] = {**ett["hinv"], "kernel": variables["params"]["ett"]["hinv"]["kernel"]}
    cells = np.array([[(1, 2), (4, 7), (10, 3), (7, 14)], [(0, 0), (9, 9), (2, 12), (5, 5)]])
    clips = squares(2 * cells, 24, 32, 2)
    maps = vidrec.inspect.attention(model, {**variables, "params": {**variables["params"], "ett": ett}}, clips)
    np.testing.assert_allclose(maps["attention"].values, np.broadcast_to(np.eye(4), (2, 4, 4)), atol=1e-3)
    assert peaks(maps["attended"].values) == [[tuple(cell) for cell in clip] for clip in cells.tolist()]


def test_a_network_without_attention_says_what_it_has():
    tsn = make("tsn_resnet18", 8, 8, **RESNET)
    with pytest.raises(UsageError, match="no attention to look at; it has cam, features"):
        vidrec.inspect.attention(*tsn, jnp.zeros((1, 4, 8, 8, 3)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:treescope")
def test_treescope_shows_names_and_shapes(direcformer):
    """As a notebook prints maps where treescope, which comes with flax, is switched on."""
    treescope = pytest.importorskip("treescope")
    maps = vidrec.inspect.attention(*direcformer, jnp.zeros((1, 3, HEIGHT, WIDTH, 3)))
    text = treescope.render_to_text(maps)
    assert "'blocks_1/time': Map(values=<np.ndarray float32(1, 2, 3, 2, 3, 3)" in " ".join(text.split())
    assert "axes=('clip', 'row', 'column', 'head', 'query', 'key')" in text
