"""Train the tiny network: FOLDER BATCH_SIZE ACCUMULATE TEACHER; started alone and among others."""

import sys
from pathlib import Path

from tiny_training import tiny_config, train_tiny

if __name__ == "__main__":
    folder, batch_size, accumulate = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    plain = {"type": "TinyNet", "norm": False}
    losses = [{"type": "ChannelWiseKLLoss"}, {"type": "PixelWiseKLLoss"}]
    config = tiny_config(
        folder,
        model=plain,
        batch_size=batch_size,
        accumulate=accumulate,
        distillation={"teacher": sys.argv[4], "losses": losses},
    )
    train_tiny(config, folder / "run")
