"""The steps of a run of a configuration without its records: traced, for whatever looks at them."""

from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import FrozenConfigDict

from vidrec.errors import UsageError
from vidrec.inspect.flops import matrix_flops
from vidrec.ranges import BALANCED
from vidrec.train.program import Program, abstract_batch, abstract_state, make_program
from vidrec.train.state import count_parameters

RECORDS = 100_000  # taken for the number of training records, which gives the schedule its length and nothing else


def program_for(config: FrozenConfigDict, mesh: Mesh) -> Program:
    """What `vidrec train` compiles for a mesh, for as many classes as the configuration says.

    Raises:
      UsageError: model.num_classes is 0.
    """
    classes = class_names(config)
    if config.train.class_weights == BALANCED:
        config = replaced(config, "train", class_weights=(1.0,) * len(classes))  # which numbers is of no account here
    records = max(RECORDS, config.train.batch_size)
    return make_program(config, mesh, classes, records)


def class_names(config: FrozenConfigDict) -> tuple[str, ...]:
    """Names for as many classes as the configuration says.

    Raises:
      UsageError: model.num_classes is 0.
    """
    count = config.model.num_classes
    if not count:
        raise UsageError("model.num_classes is 0 (as many as the records have); set --config.model.num_classes=N")
    return tuple(f"class {number}" for number in range(count))


def parameters(program: Program) -> int:
    """Number of trained values."""
    return count_parameters(abstract_state(program).params)


def replaced(config: FrozenConfigDict, section: str, **values: Any) -> FrozenConfigDict:
    """The configuration with other values in one section."""
    fields = config.to_dict()
    fields[section].update(values)
    return FrozenConfigDict(fields)


def trace_train(program: Program, batch_size: int) -> Any:
    """The training step of a global batch (jax.stages.Traced)."""
    arguments = abstract_state(program), abstract_batch(program, batch_size)
    with jax.set_mesh(program.mesh):
        return program.train_step.trace(*arguments)


def trace_eval(program: Program, batch_size: int) -> Any:
    """The step of the evaluations within training, for a global batch."""
    arguments = abstract_state(program).variables, abstract_batch(program, batch_size, train=False)
    with jax.set_mesh(program.mesh):
        return program.eval_step.trace(*arguments)


def useful_flops(config: FrozenConfigDict, mesh: Mesh, traced: Any) -> int:
    """Operations of the matrix products of a training step, less those that remat does a second time.

    Args:
      traced: the step of `config` on the mesh, of its train.batch_size.
    """
    if config.model.get("remat", "none") != "none":
        kept = replaced(config, "model", remat="none")
        traced = trace_train(program_for(kept, mesh), config.train.batch_size)
    return sum(matrix_flops(traced.jaxpr).values())
