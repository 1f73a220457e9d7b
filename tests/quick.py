"""jit for tests: tiny arrays, where compiling takes far longer than running."""

from functools import partial

import jax

jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
