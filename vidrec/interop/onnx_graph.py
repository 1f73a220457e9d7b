"""A function as ONNX: what JAX traced, operation by operation, for a batch of any size; needs the extra `onnx`.

Whatever depends on weights alone is computed here. `vidrec.interop.onnx_operations` knows the operations.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
from jax import export

from vidrec.errors import VidrecError

PLATFORMS = ("cpu", "cuda")
DTYPES = ("float32",)  # that a network can compute with there
OPSET = 18
_CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat", "remat2")


class Unsupported(VidrecError):
    """A network has an operation that has no counterpart here."""


class Graph:
    """An ONNX graph in the making: operations on named values, of which some are known already.

    Attributes:
      known: name -> value of constants.
      small: name of an enlarged value -> name of what it was, which most operations enlarge by themselves.
    """

    def __init__(self, clips: str, batch: Any):
        self.known: dict[str, np.ndarray] = {}
        self.small: dict[str, str] = {}
        self._clips, self._symbol, self._nodes = clips, batch, []
        self._batch = ""

    def add(self, operation: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Adds an operation; returns the name of its result, or a list of several."""
        from onnx import helper

        names = [f"v{len(self._nodes)}_{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(operation, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value: Any) -> str:
        """The name of a known value."""
        name = f"c{len(self.known)}"
        self.known[name] = np.asarray(value)
        return name

    def ints(self, values: Iterable[int]) -> str:
        """The name of a list of whole numbers, as ONNX wants sizes and axes."""
        return self.constant(np.array(list(values), np.int64))

    def shape(self, dims: Sequence[Any]) -> str:
        """The name of a shape, of which some sizes may be multiples of the batch."""
        if all(isinstance(dim, int) for dim in dims):
            return self.ints(dims)
        if not self._batch:
            self._batch = self.add("Slice", self.add("Shape", self._clips), self.ints([0]), self.ints([1]))
        parts = [
            self.ints([dim]) if isinstance(dim, int) else self.add("Mul", self._batch, self.ints([self.factor(dim)]))
            for dim in dims
        ]
        return self.add("Concat", *parts, axis=0)

    def factor(self, dim: Any) -> int:
        """How many times the batch a symbolic size is."""
        factor = dim // self._symbol
        if not isinstance(factor, int) or factor * self._symbol != dim:
            raise Unsupported(f"a size of {dim} is no multiple of the batch, which ONNX files here cannot have")
        return factor

    def reshape(self, x: str, dims: Sequence[Any]) -> str:
        """The same values in another shape."""
        symbolic = [dim for dim in dims if not isinstance(dim, int)]
        if len(symbolic) > 1:
            return self.add("Reshape", x, self.shape(dims))
        return self.add("Reshape", x, self.ints(dim if isinstance(dim, int) else -1 for dim in dims))

    def transpose(self, x: str, order: Sequence[int]) -> str:
        """Axes in another order."""
        if list(order) == sorted(order):
            return x
        if x in self.known:
            return self.constant(np.transpose(self.known[x], order))
        return self.add("Transpose", x, perm=list(order))

    def model(self, shape: Sequence[int], scores: str, classes: int) -> Any:
        """The finished model: what the scores need, and nothing else."""
        from onnx import TensorProto, helper, numpy_helper

        needed, nodes = {"scores"}, [helper.make_node("Identity", [scores], ["scores"])]
        needed.add(scores)
        for node in reversed(self._nodes):
            if needed & set(node.output):
                needed |= set(node.input)
                nodes.append(node)
        constants = [numpy_helper.from_array(value, name) for name, value in self.known.items() if name in needed]
        takes = helper.make_tensor_value_info(self._clips, TensorProto.UINT8, ["batch", *shape])
        gives = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", classes])
        graph = helper.make_graph(nodes[::-1], "vidrec", [takes], [gives], constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def write(function: Callable[[Any], Any], shape: tuple[int, ...]) -> bytes:
    """The function of uint8 clips of this shape, for a batch of any size.

    Raises:
      VidrecError: onnx is not installed; `Unsupported`: an operation has no counterpart.
    """
    _import("onnx")
    (batch,) = export.symbolic_shape("batch")
    traced = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((batch, *shape), jnp.uint8))
    graph = Graph("clips", batch)
    constants = [graph.constant(value) for value in traced.consts]
    (scores,) = translate(graph, traced.jaxpr, [*constants, "clips"])
    classes = cast(Any, traced.out_avals[0]).shape[1]
    return graph.model(shape, scores, classes).SerializeToString()


def read(data: bytes) -> Callable[[Any], Any]:
    """The function again, run by onnxruntime."""
    runtime = _import("onnxruntime")
    try:
        session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own, of many kinds
        raise VidrecError(f"the file is damaged, or beyond this onnxruntime: {str(error)[:200]}") from error
    return lambda clips: session.run(["scores"], {"clips": np.asarray(clips)})[0]


def translate(graph: Graph, jaxpr: Any, inputs: Sequence[str]) -> list[str]:
    """Adds the operations of a jaxpr. In: the names of its constants and arguments; out: those of its results."""
    names = dict(zip([*jaxpr.constvars, *jaxpr.invars], inputs, strict=True))

    def name(variable: Any) -> str:
        """The name of a variable, or of a number that stands in its place."""
        if isinstance(variable, jex.Literal):
            return graph.constant(np.asarray(variable.val, cast(Any, variable.aval).dtype))
        return names[variable]

    for equation in jaxpr.eqns:
        results = one(graph, equation, [name(variable) for variable in equation.invars])
        names.update(zip(equation.outvars, results, strict=True))
    return [name(variable) for variable in jaxpr.outvars]


def one(graph: Graph, equation: Any, inputs: list[str]) -> list[str]:
    """Adds one operation: another jaxpr is gone into, what is known is computed, the rest is looked up."""
    from vidrec.interop.onnx_operations import OPERATIONS

    primitive = equation.primitive
    if primitive.name in _CALLS:
        inner = next(equation.params[key] for key in ("jaxpr", "call_jaxpr") if key in equation.params)
        constants = [graph.constant(value) for value in getattr(inner, "consts", ())]
        return translate(graph, getattr(inner, "jaxpr", inner), [*constants, *inputs])
    static = all(isinstance(dim, int) for variable in equation.outvars for dim in variable.aval.shape)
    if static and primitive.name != "dim_as_value" and all(given in graph.known for given in inputs):
        values = primitive.bind(*(jnp.asarray(graph.known[given]) for given in inputs), **equation.params)
        return [graph.constant(value) for value in (values if primitive.multiple_results else [values])]
    if primitive.name not in OPERATIONS:
        raise Unsupported(
            f"the network's operation {primitive.name!r} cannot be written as ONNX: take --format stablehlo"
        )
    result = OPERATIONS[primitive.name](graph, equation, *inputs)
    return result if isinstance(result, list) else [result]


def _import(package: str) -> Any:
    try:
        return __import__(package)
    except ImportError:
        raise VidrecError(f"ONNX files need {package}: pip install 'vidrec[onnx]'") from None
