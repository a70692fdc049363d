"""`python -m paddleseg_ext VERB ...` is `paddleseg-ext VERB ...`."""

from paddleseg_ext.commands.main import run

if __name__ == "__main__":
    run()
