"""Names for the shapes in signatures. Where jaxtyping is not installed they say nothing: the folder needs jax alone."""

try:
    from jaxtyping import Array, Bool, Float, Int
except ImportError:
    from jax import Array

    class Unchecked:
        """Stands for a shape that nothing checks."""

        def __class_getitem__(cls, shape: object) -> type:
            return cls

    Bool = Float = Int = Unchecked

__all__ = ["Array", "Bool", "Float", "Int"]
