"""From a checkpoint to a bundle that inference loads anywhere."""
