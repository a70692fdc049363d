"""MNN in the self-check: small tiles where large ones round too much."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from paddleseg_ext.common.errors import CheckFailed
from paddleseg_ext.export import self_check


@pytest.mark.parametrize("right", ["large", "small", "none"])
def test_mnn_takes_small_tiles_where_large_ones_are_wrong(
    monkeypatch: pytest.MonkeyPatch, right: str
) -> None:
    tried, recorded = [], {}

    def attempt(name, bundle, cases, options):  # type: ignore[no-untyped-def]
        tiles = recorded.get("tiles", "large")
        tried.append(tiles)
        if tiles != right:
            raise CheckFailed("other label maps")
        return tiles

    monkeypatch.setattr(self_check, "_try", attempt)
    monkeypatch.setattr(self_check, "read_bundle", lambda file: SimpleNamespace(deploy_file=file))
    monkeypatch.setattr(
        self_check, "record_graph", lambda bundle, name, **facts: recorded.update(facts)
    )
    bundle = SimpleNamespace(deploy_file=Path("deploy.yaml"))
    if right == "none":
        with pytest.raises(CheckFailed, match="other label maps"):
            self_check._try_mnn("mnn", bundle, [], None)  # type: ignore[arg-type]
    else:
        assert self_check._try_mnn("mnn", bundle, [], None) == right  # type: ignore[arg-type, comparison-overlap]
    assert tried == (["large"] if right == "large" else ["large", "small"])
