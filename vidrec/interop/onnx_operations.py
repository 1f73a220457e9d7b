"""JAX's operations as ONNX's: functions of (graph, equation, names of the inputs) -> name of the result, or names."""

from collections.abc import Callable
from functools import partial
from math import prod
from string import ascii_letters
from typing import Any

import numpy as np
from jax import lax

from vidrec.interop.onnx_graph import Graph, Unsupported

Operation = Callable[..., Any]


def same(graph: Graph, equation: Any, x: str) -> str:
    """Nothing is done to the values."""
    return x


def simple(name: str) -> Operation:
    """The operation of that name, of any inputs of one shape."""
    return lambda graph, equation, *inputs: graph.add(name, *inputs)


def pair(name: str, *, negated: bool = False, **attributes: Any) -> Operation:
    """An operation of two inputs, of which ONNX enlarges the smaller by itself."""

    def add(graph: Graph, equation: Any, x: str, y: str) -> str:
        """Adds it."""
        if y in graph.small:
            y = graph.small[y]
        elif x in graph.small:
            x = graph.small[x]
        result = graph.add(name, x, y, **attributes)
        return graph.add("Not", result) if negated else result

    return add


def reduce(name: str) -> Operation:
    """A reduction over axes."""
    return lambda graph, equation, x: graph.add(name, x, graph.ints(equation.params["axes"]), keepdims=0)


def as_shaped(graph: Graph, equation: Any, x: str, *_: str) -> str:
    """reshape, squeeze, expand_dims."""
    return graph.reshape(x, equation.outvars[0].aval.shape)


def cast(graph: Graph, equation: Any, x: str) -> str:
    """convert_element_type."""
    return graph.add("Cast", x, to=onnx_type(equation.outvars[0].aval.dtype))


def onnx_type(dtype: Any) -> int:
    """ONNX's number of a type."""
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def broadcast(graph: Graph, equation: Any, x: str, *_: str) -> str:
    """broadcast_in_dim: axes of length one are put in, then enlarged."""
    given, wanted = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    middle = [1] * len(wanted)
    for axis, size in zip(equation.params["broadcast_dimensions"], given, strict=True):
        middle[axis] = size
    if x in graph.known:
        x = graph.constant(graph.known[x].reshape(middle))
    elif tuple(middle) != tuple(given):
        x = graph.reshape(x, middle)
    if tuple(middle) == tuple(wanted):
        return x
    large = graph.add("Expand", x, graph.shape(wanted))
    graph.small[large] = x
    return large


def where(graph: Graph, equation: Any, which: str, *cases: str) -> str:
    """select_n of two cases."""
    if len(cases) != 2 or equation.invars[0].aval.dtype != bool:
        raise Unsupported("a choice between more than two cases cannot be written as ONNX: take --format stablehlo")
    return graph.add("Where", which, cases[1], cases[0])


def power(graph: Graph, equation: Any, x: str) -> str:
    """integer_pow."""
    return graph.add("Pow", x, graph.constant(np.array(equation.params["y"], equation.invars[0].aval.dtype)))


def rounded(graph: Graph, equation: Any, x: str) -> str:
    """round, of which ONNX knows the kind that takes halves to even numbers."""
    if equation.params["rounding_method"] != lax.RoundingMethod.TO_NEAREST_EVEN:
        raise Unsupported("rounding halves away from zero cannot be written as ONNX: use jnp.round")
    return graph.add("Round", x)


def complement_of_erf(graph: Graph, equation: Any, x: str) -> str:
    """erfc."""
    return graph.add("Sub", graph.constant(np.array(1, equation.invars[0].aval.dtype)), graph.add("Erf", x))


def size_as_value(graph: Graph, equation: Any) -> str:
    """dim_as_value: a symbolic size as a number."""
    size = graph.reshape(graph.shape([equation.params["dim"]]), [])
    return graph.add("Cast", size, to=onnx_type(equation.outvars[0].aval.dtype))


def concatenate(graph: Graph, equation: Any, *parts: str) -> str:
    """Several, one behind the other."""
    return graph.add("Concat", *parts, axis=equation.params["dimension"])


def stack(graph: Graph, equation: Any, *parts: str) -> str:
    """Several along a new axis."""
    axis = equation.params["axis"]
    rows = [graph.add("Unsqueeze", part, graph.ints([axis])) for part in parts]
    return graph.add("Concat", *rows, axis=axis)


def split(graph: Graph, equation: Any, x: str) -> list[str]:
    """One in several along an axis."""
    sizes = [int(size) for size in equation.params["sizes"]]
    names = graph.add("Split", x, graph.ints(sizes), outputs=len(sizes), axis=equation.params["axis"])
    return names if isinstance(names, list) else [names]


def unstack(graph: Graph, equation: Any, x: str) -> list[str]:
    """The entries of an axis."""
    axis, count = equation.params["axis"], len(equation.outvars)
    names = graph.add("Split", x, graph.ints([1] * count), outputs=count, axis=axis)
    return [graph.add("Squeeze", name, graph.ints([axis])) for name in (names if count > 1 else [names])]


def pad(graph: Graph, equation: Any, x: str, value: str) -> str:
    """Zeros (or another value) around."""
    low, high, inside = zip(*equation.params["padding_config"], strict=True)
    if any(inside):
        raise Unsupported("padding between values cannot be written as ONNX: take --format stablehlo")
    return graph.add("Pad", x, graph.ints([*low, *high]), value)


def cut(graph: Graph, equation: Any, x: str) -> str:
    """slice."""
    p, shape = equation.params, equation.invars[0].aval.shape
    steps = p["strides"] or (1,) * len(shape)
    rows = zip(p["start_indices"], p["limit_indices"], range(len(shape)), steps, strict=True)
    rows = [row for row in rows if (row[0], row[1], row[3]) != (0, shape[row[2]], 1)]
    return graph.add("Slice", x, *map(graph.ints, zip(*rows, strict=True))) if rows else x


def reverse(graph: Graph, equation: Any, x: str) -> str:
    """rev."""
    axes = equation.params["dimensions"]
    ends = [[-1] * len(axes), [np.iinfo(np.int64).min] * len(axes), axes, [-1] * len(axes)]
    return graph.add("Slice", x, *map(graph.ints, ends))


def cut_anywhere(graph: Graph, x: str, start: str, axes: list[int], shape: Any, sizes: Any) -> str:
    """A part of x of some sizes that begins at `start` (a value, one number for each of the axes), moved inside."""
    if not all(isinstance(size, int) for axis in axes for size in (shape[axis], sizes[axis])):
        raise Unsupported("a part of the batch cannot be written as ONNX: take --format stablehlo")
    span = np.array([sizes[axis] for axis in axes], np.int64)
    last = np.array([shape[axis] for axis in axes], np.int64) - span
    if start in graph.known:
        begin = graph.constant(np.clip(graph.known[start].astype(np.int64), 0, last))
    else:
        begin = graph.add("Cast", start, to=onnx_type(np.int64))
        begin = graph.add("Max", graph.ints([0]), graph.add("Min", begin, graph.constant(last)))
    return graph.add("Slice", x, begin, graph.add("Add", begin, graph.constant(span)), graph.ints(axes))


def dynamic_slice(graph: Graph, equation: Any, x: str, *starts: str) -> str:
    """A part that begins where values say."""
    shape, sizes = equation.invars[0].aval.shape, equation.params["slice_sizes"]
    axes = [axis for axis, size in enumerate(sizes) if size != shape[axis]]
    if not axes:
        return x
    start = graph.add("Concat", *(graph.reshape(starts[axis], [1]) for axis in axes), axis=0)
    return cut_anywhere(graph, x, start, axes, shape, sizes)


def gather(graph: Graph, equation: Any, x: str, indices: str) -> str:
    """One part of x (x[:, 1:], x[..., 0]), or rows of one axis (take)."""
    p, numbers = equation.params, equation.params["dimension_numbers"]
    shape, wanted = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    rank = equation.invars[1].aval.ndim
    axes, dropped = list(numbers.start_index_map), list(numbers.collapsed_slice_dims)
    if rank == 1 and not numbers.operand_batching_dims:
        part = cut_anywhere(graph, x, indices, axes, shape, p["slice_sizes"])
        return graph.reshape(part, wanted) if dropped else part
    rows = equation.invars[1].aval.shape[:-1]
    placed = (*range(axes[0]), *range(axes[0] + rank - 1, len(wanted)))
    if len(axes) == 1 and axes == dropped and tuple(numbers.offset_dims) == placed:
        return graph.add("Gather", x, graph.reshape(indices, rows), axis=axes[0])
    raise Unsupported("an indexing of this network cannot be written as ONNX: take --format stablehlo")


def dot(graph: Graph, equation: Any, x: str, y: str) -> str:
    """dot_general: a matrix product where it is one, else Einsum."""
    (cx, cy), (bx, by) = equation.params["dimension_numbers"]
    rx, ry = (variable.aval.ndim for variable in equation.invars)
    if not bx and ry == 2 and tuple(cy) == (0,) and tuple(cx) == (rx - 1,):
        return graph.add("MatMul", x, y)
    letters = iter(ascii_letters)
    of_x = [next(letters) for _ in range(rx)]
    of_y = [next(letters) for _ in range(ry)]
    for i, j in zip((*bx, *cx), (*by, *cy), strict=True):
        of_y[j] = of_x[i]
    out = [of_x[i] for i in bx]
    out += [letter for i, letter in enumerate(of_x) if i not in (*bx, *cx)]
    out += [letter for j, letter in enumerate(of_y) if j not in (*by, *cy)]
    return graph.add("Einsum", x, y, equation=f"{''.join(of_x)},{''.join(of_y)}->{''.join(out)}")


def convolve(graph: Graph, equation: Any, x: str, kernel: str) -> str:
    """conv_general_dilated, with axes in ONNX's order in between."""
    p = equation.params
    numbers = p["dimension_numbers"]
    if any(n != 1 for n in p["lhs_dilation"]) or p["batch_group_count"] != 1:
        raise Unsupported("a convolution of this kind cannot be written as ONNX: take --format stablehlo")
    low, high = zip(*p["padding"], strict=True)
    y = graph.add(
        "Conv", graph.transpose(x, numbers.lhs_spec), graph.transpose(kernel, numbers.rhs_spec),
        strides=list(p["window_strides"]), pads=[*low, *high], dilations=list(p["rhs_dilation"]),
        group=p["feature_group_count"],
    )  # fmt: skip
    return graph.transpose(y, np.argsort(numbers.out_spec).tolist())


def pool(name: str, graph: Graph, equation: Any, x: str) -> str:
    """reduce_window_max and _sum over the axes between the first and the last."""
    p, rank = equation.params, equation.invars[0].aval.ndim
    window = p["window_dimensions"]
    if {window[0], window[-1], *p["base_dilation"], *p["window_dilation"]} != {1}:
        raise Unsupported("a pooling of this kind cannot be written as ONNX: take --format stablehlo")
    low, high = zip(*p["padding"][1:-1], strict=True)
    order = [0, rank - 1, *range(1, rank - 1)]
    counted = {} if name == "MaxPool" else {"count_include_pad": 1}
    y = graph.add(
        name, graph.transpose(x, order), kernel_shape=list(window[1:-1]), strides=list(p["window_strides"][1:-1]),
        pads=[*low, *high], **counted,
    )  # fmt: skip
    y = graph.transpose(y, np.argsort(order).tolist())
    return y if name == "MaxPool" else graph.add("Mul", y, graph.constant(np.float32(prod(window))))


def place_of(name: str, graph: Graph, equation: Any, x: str) -> str:
    """argmax and argmin."""
    found = graph.add(name, x, axis=equation.params["axes"][0], keepdims=0)
    return graph.add("Cast", found, to=onnx_type(equation.params["index_dtype"]))


OPERATIONS: dict[str, Operation] = {
    **dict.fromkeys(("stop_gradient", "copy", "copy_p", "optimization_barrier"), same),
    **{name: simple(onnx) for name, onnx in {
        "neg": "Neg", "exp": "Exp", "log": "Log", "abs": "Abs", "sign": "Sign", "sqrt": "Sqrt", "tanh": "Tanh",
        "erf": "Erf", "floor": "Floor", "logistic": "Sigmoid", "not": "Not",
    }.items()},
    **{name: pair(onnx) for name, onnx in {
        "add": "Add", "add_any": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow", "max": "Max",
        "min": "Min", "eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual",
        "and": "And", "or": "Or",
    }.items()},
    **{f"reduce_{name}": reduce(f"Reduce{onnx}") for name, onnx in {
        "sum": "Sum", "max": "Max", "min": "Min", "prod": "Prod",
    }.items()},
    **dict.fromkeys(("reshape", "squeeze", "expand_dims"), as_shaped),
    "ne": pair("Equal", negated=True),
    "rem": pair("Mod", fmod=1),
    "round": rounded,
    "square": lambda graph, equation, x: graph.add("Mul", x, x),
    "rsqrt": lambda graph, equation, x: graph.add("Reciprocal", graph.add("Sqrt", x)),
    "integer_pow": power,
    "erfc": complement_of_erf,
    "select_n": where,
    "convert_element_type": cast,
    "broadcast_in_dim": broadcast,
    "transpose": lambda graph, equation, x: graph.transpose(x, equation.params["permutation"]),
    "tile": lambda graph, equation, x: graph.add("Tile", x, graph.ints(equation.params["reps"])),
    "dim_as_value": size_as_value,
    "concatenate": concatenate,
    "stack": stack,
    "split": split,
    "unstack": unstack,
    "pad": pad,
    "slice": cut,
    "rev": reverse,
    "dynamic_slice": dynamic_slice,
    "gather": gather,
    "dot_general": dot,
    "conv_general_dilated": convolve,
    "reduce_window_max": partial(pool, "MaxPool"),
    "reduce_window_sum": partial(pool, "AveragePool"),
    "argmax": partial(place_of, "ArgMax"),
    "argmin": partial(place_of, "ArgMin"),
}  # fmt: skip
