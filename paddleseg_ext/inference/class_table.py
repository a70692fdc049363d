"""The classes of a bundle, also where it does not say them itself."""

from paddleseg_ext.common.errors import UsageError
from paddleseg_ext.images.labels import ClassTable, generic_table
from paddleseg_ext.inference.bundle import Bundle
from paddleseg_ext.inference.engines.base import Backend, probe_batch


def find_class_table(bundle: Bundle, backend: Backend, num_classes: int | None) -> ClassTable:
    """The manifest's class table; for a bundle of PaddleSeg's a generic one of the right size.

    Raises:
        UsageError: the manifest says another number, or the graph gives class ids and nobody knows.
    """
    if bundle.manifest is not None:
        table = bundle.manifest.class_table
        if num_classes not in (None, table.num_classes):
            raise UsageError(
                f"--num_classes {num_classes}: {bundle.deploy_file} says {table.num_classes}; "
                "leave the flag out"
            )
        return table
    if num_classes is not None:
        return generic_table(num_classes)
    if bundle.output_op == "argmax":
        raise UsageError(
            f"{bundle.deploy_file} has no Manifest and its graph ends in argmax: "
            "give --num_classes, or export it with export_model.py"
        )
    return generic_table(backend.run(probe_batch(bundle.input_shape, bundle.input_dtype)).shape[1])
