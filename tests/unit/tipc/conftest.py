"""The verbs whose parsers check the commands of a txt, as commands/tipc.py hands them in."""

from functools import partial

import pytest

from paddleseg_ext.commands.main import VERBS, parser_of
from paddleseg_ext.tipc.verbs import Verbs


@pytest.fixture(scope="session")
def verbs() -> Verbs:
    return Verbs({verb: partial(parser_of, verb) for verb in VERBS})
